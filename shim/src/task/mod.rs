//! Tasks: the containers of a pod, the processes in them, and the service through which containerd asks for them.

mod container;
mod create;
mod exec;
mod process;
mod service;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tracing::warn;

pub(crate) use self::service::TaskService;

use self::container::Container;
use crate::error::{Error, Result};
use crate::publisher::Publisher;
use crate::reaper::Reaper;
use crate::runtime::Chooser;

/// What all tasks of a shim share.
#[derive(Debug)]
pub(crate) struct Tasks {
    namespace: String,
    reaper: Reaper,
    publisher: Publisher,
    runtimes: Chooser,
    containers: Mutex<HashMap<String, Slot>>,
    /// How many containers there are.
    count: watch::Sender<usize>,
    shutdown: Shutdown,
}

/// How long a shim without tasks waits for one, or for the request to end.
const ORPHANED: Duration = Duration::from_secs(60);

/// A container, or the promise of one.
#[derive(Debug, Clone)]
enum Slot {
    Creating,
    Made(Arc<Container>),
}

/// The end of the shim, once it has been asked for and no task is left.
#[derive(Debug, Default)]
struct Shutdown {
    asked: Mutex<bool>,
    now: Notify,
}

impl Tasks {
    /// No tasks yet.
    pub(crate) fn new(namespace: &str, reaper: Reaper, publisher: Publisher) -> Arc<Self> {
        Arc::new(Self {
            namespace: namespace.to_owned(),
            runtimes: Chooser::new(namespace, reaper.clone()),
            reaper,
            publisher,
            containers: Mutex::default(),
            count: watch::Sender::new(0),
            shutdown: Shutdown::default(),
        })
    }

    /// Waits until the shim is to end.
    pub(crate) async fn ended(&self) {
        tokio::select! {
            () = self.shutdown.now.notified() => {}
            () = self.orphaned() => warn!("containerd has left this shim without a task, and has not ended it"),
        }
    }

    /// Waits until there has been no task for a while. containerd does not ask for the end if it was killed between
    /// starting the shim and making a task, or if its client went away while it deleted the last one.
    async fn orphaned(&self) {
        let mut count = self.count.subscribe();
        // The sender is part of `self`, so waiting does not fail.
        while count.wait_for(|count| *count == 0).await.is_ok() {
            if timeout(ORPHANED, count.wait_for(|count| *count > 0)).await.is_err() {
                return;
            }
        }
    }

    /// The shim is to end, if no task is left: containerd asks after each task, and only the last time is meant.
    fn shut_down(&self) {
        if self.containers().is_empty() {
            self.shutdown.now.notify_one();
        } else {
            *self.shutdown.asked.lock().unwrap_or_else(PoisonError::into_inner) = true;
        }
    }

    fn containers(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn container(&self, id: &str) -> Result<Arc<Container>> {
        match self.containers().get(id) {
            Some(Slot::Made(container)) => Ok(container.clone()),
            _ => Err(Error::not_found(format!("container {id} not created"))),
        }
    }

    /// Takes an id for a container that is about to be made.
    fn reserve(&self, id: &str) -> Result<()> {
        let mut containers = self.containers();
        if containers.contains_key(id) {
            return Err(Error::already_exists(format!("container {id} already exists")));
        }
        containers.insert(id.to_owned(), Slot::Creating);
        self.count.send_replace(containers.len());
        // Whoever asked before did not know of this one.
        *self.shutdown.asked.lock().unwrap_or_else(PoisonError::into_inner) = false;
        Ok(())
    }

    fn insert(&self, container: Arc<Container>) {
        self.containers().insert(container.id.clone(), Slot::Made(container));
    }

    /// Forgets a container that is gone, or was never made.
    fn forget(&self, id: &str) {
        let mut containers = self.containers();
        containers.remove(id);
        self.count.send_replace(containers.len());
    }

    /// Forgets a container that was never made, and ends the shim if that was asked for while it was being made.
    fn give_up(&self, id: &str) {
        self.forget(id);
        if *self.shutdown.asked.lock().unwrap_or_else(PoisonError::into_inner) {
            self.shut_down();
        }
    }
}
