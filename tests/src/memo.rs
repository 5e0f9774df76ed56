//! Things that are made once, by whoever asks first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use anyhow::{Result, anyhow};

use crate::bed::lock;

type Once<T> = Arc<OnceLock<Result<T, String>>>;

/// A value for each name, or why it could not be made.
#[derive(Debug)]
pub struct Memo<T>(Mutex<BTreeMap<String, Once<T>>>);

impl<T: Clone> Memo<T> {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    /// The value for a name; whoever asks second waits for the first.
    ///
    /// # Errors
    /// Why it could not be made, to each who asks.
    pub fn get(&self, name: &str, make: impl FnOnce() -> Result<T>) -> Result<T> {
        let once = Arc::clone(lock(&self.0).entry(name.to_owned()).or_default());
        once.get_or_init(|| make().map_err(|error| format!("{error:#}")))
            .clone()
            .map_err(|error| anyhow!(error))
    }
}

impl<T: Clone> Default for Memo<T> {
    fn default() -> Self {
        Self::new()
    }
}
