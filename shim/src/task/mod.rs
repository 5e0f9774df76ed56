//! Tasks: the containers of a pod, and the processes in them.

mod container;
mod create;
mod exec;
mod process;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::debug;

pub(crate) use self::container::Container;
pub(crate) use self::process::Phase;

use crate::args::Args;
use crate::artifact::Artifacts;
use crate::error::{Error, Result};
use crate::life::Life;
use crate::oom::PodKills;
use crate::publisher::Publisher;
use crate::reaper::Reaper;
use crate::runtime::Chooser;
use crate::sandbox::Pod;

/// What all tasks of a shim share.
#[derive(Debug)]
pub(crate) struct Tasks {
    namespace: String,
    reaper: Reaper,
    publisher: Publisher,
    runtimes: Chooser,
    artifacts: Artifacts,
    pod_kills: PodKills,
    containers: Mutex<HashMap<String, Slot>>,
    /// The pod, where containerd leaves it to the shim.
    pod: Mutex<Option<Arc<Pod>>>,
    life: Life,
}

/// A container, or the promise of one.
#[derive(Debug, Clone)]
enum Slot {
    Creating,
    Made(Arc<Container>),
}

impl Tasks {
    /// No tasks yet.
    pub(crate) fn new(args: &Args, reaper: Reaper, publisher: Publisher) -> Arc<Self> {
        let namespace = &args.namespace;
        Arc::new(Self {
            namespace: namespace.clone(),
            runtimes: Chooser::new(namespace, reaper.clone()),
            artifacts: Artifacts::new(&args.address, namespace, reaper.clone()),
            reaper,
            publisher,
            pod_kills: PodKills::default(),
            containers: Mutex::default(),
            pod: Mutex::default(),
            life: Life::default(),
        })
    }

    /// The containerd namespace.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The reaper of the shim's children.
    pub(crate) fn reaper(&self) -> &Reaper {
        &self.reaper
    }

    /// What decides when the shim ends.
    pub(crate) fn life(&self) -> &Life {
        &self.life
    }

    /// The pod, where containerd leaves it to the shim.
    pub(crate) fn pod(&self) -> Option<Arc<Pod>> {
        self.pod_slot().clone()
    }

    fn pod_slot(&self) -> MutexGuard<'_, Option<Arc<Pod>>> {
        self.pod.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pod that all tasks will be part of.
    ///
    /// # Errors
    /// There is one already.
    pub(crate) fn set_pod(&self, pod: Pod) -> Result<()> {
        let mut slot = self.pod_slot();
        if let Some(there) = &*slot {
            return Err(Error::already_exists(format!("this shim has the sandbox {} already", there.id)));
        }
        *slot = Some(Arc::new(pod));
        self.life.add();
        Ok(())
    }

    /// Forgets the pod, which has ended.
    pub(crate) fn forget_pod(&self) {
        if self.pod_slot().take().is_some() {
            self.life.remove();
        }
    }

    /// Kills every container, and waits until each has ended.
    pub(crate) async fn kill_all(&self) {
        let made = |slot: &Slot| match slot {
            Slot::Made(container) => Some(container.clone()),
            Slot::Creating => None,
        };
        let containers: Vec<_> = self.containers().values().filter_map(made).collect();
        for container in &containers {
            if let Err(error) = container.end().await {
                debug!(id = container.id, %error, "a container of a stopped pod was not killed");
            }
        }
    }

    fn containers(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A container by its id.
    ///
    /// # Errors
    /// There is none, or not yet.
    pub(crate) fn container(&self, id: &str) -> Result<Arc<Container>> {
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
        self.life.add();
        Ok(())
    }

    fn insert(&self, container: Arc<Container>) {
        self.containers().insert(container.id.clone(), Slot::Made(container));
    }

    /// Forgets a container that is gone, or was never made.
    fn forget(&self, id: &str) {
        if let Some(pod) = self.pod() {
            pod.disown(id);
        }
        if self.containers().remove(id).is_some() {
            self.life.remove();
        }
    }

    /// Forgets a container that was never made, and ends the shim if that was asked for while it was being made.
    fn give_up(&self, id: &str) {
        self.forget(id);
        self.life.end_if_asked();
    }
}
