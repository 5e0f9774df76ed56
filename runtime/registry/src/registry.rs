//! A registry: its addresses, tried one after the other, each a bounded number of times.

use std::cell::Cell;
use std::sync::Arc;
use std::thread;

use oci_spec::distribution::Reference;
use ureq::http::Method;
use ureq::http::header::HeaderMap;

use crate::auth::Scope;
use crate::endpoint::{self, Call, Endpoint, Target, Use};
use crate::retry::Pauses;
use crate::{Error, Options, Patience, Watch};

/// So much of a body is progress that lets a request count its attempts anew.
const PROGRESS: u64 = 1 << 20;

/// One registry with its mirrors and logins. It is used from several threads at once.
pub struct Registry {
    name: String,
    endpoints: Vec<Endpoint>,
    patience: Patience,
    pub(crate) watch: Arc<dyn Watch>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry")
            .field("name", &self.name)
            .field("endpoints", &self.endpoints)
            .finish_non_exhaustive()
    }
}

impl Registry {
    /// The registry of a reference. Nothing is asked of it yet.
    ///
    /// # Errors
    /// Where its name is none, or a file that says how to reach it is not what it should be.
    pub fn of(reference: &Reference, options: &Options) -> Result<Self, Error> {
        Self::at(reference.registry(), options)
    }

    /// The registry with a name, `HOST` or `HOST:PORT`.
    ///
    /// # Errors
    /// As those of [`Registry::of`].
    pub fn at(name: &str, options: &Options) -> Result<Self, Error> {
        Ok(Self {
            name: name.to_owned(),
            endpoints: endpoint::all(name, options)?,
            patience: options.patience,
            watch: options.watch.clone(),
        })
    }

    /// Its name, as in references.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks the registry whether it is one, and takes the login.
    ///
    /// # Errors
    /// Above all where the login is wrong.
    pub fn check(&self) -> Result<(), Error> {
        let what = "its version";
        let call = Call {
            method: Method::GET,
            target: Target::Path(""),
            headers: HeaderMap::new(),
            body: None,
            scope: &Scope::default(),
            what,
        };
        self.with(Use::Push, &Cell::new(0), |endpoint| endpoint.send(&call).map(drop))
    }

    /// Does something at the first address that it succeeds at. What a mirror cannot do, the next address may; only the last one
    /// is waited for. `received` grows with each byte of progress.
    pub(crate) fn with<T>(
        &self,
        purpose: Use,
        received: &Cell<u64>,
        mut act: impl FnMut(&Endpoint) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut able: Vec<_> = self.endpoints.iter().filter(|one| one.serves(purpose)).collect();
        let Some(last) = able.pop() else {
            let reason =
                format!("its hosts.toml has no host that can {}", format!("{purpose:?}").to_lowercase());
            return Err(Error::Name { name: self.name.clone(), reason });
        };
        for mirror in able.into_iter().filter(|mirror| !mirror.is_down()) {
            match act(mirror) {
                Err(error @ (Error::Store { .. } | Error::Source { .. })) => return Err(error),
                // No other address can mend what was handed on by then.
                Err(error @ (Error::Digest { .. } | Error::TooLarge { .. })) if received.get() > 0 => {
                    return Err(error);
                }
                Err(error) => {
                    tracing::debug!("{} instead of {}: {error}", self.name, mirror.host());
                    if error.is_unreachable() {
                        mirror.set_down();
                    }
                }
                done => return done,
            }
        }
        self.persist(received, || act(last))
    }

    fn persist<T>(
        &self,
        received: &Cell<u64>,
        mut act: impl FnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut pauses = Pauses::new(self.patience);
        let mut before = received.get();
        loop {
            let error = match act() {
                Err(error) => error,
                done => return done,
            };
            if received.get() - before >= PROGRESS {
                before = received.get();
                pauses.restart();
            }
            let pause = error.transient().and_then(|asked| pauses.next(asked));
            let Some(pause) = pause else { return Err(error) };
            self.watch.waits(&error.reason(), pause);
            thread::sleep(pause);
        }
    }
}
