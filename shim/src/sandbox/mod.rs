//! The pod itself, where containerd leaves it to the shim (`sandboxer = "shim"`): its namespaces and files, without a pause
//! container. The shim of a pod that has one serves that as any other container, and none of this is used.

mod config;
mod files;
mod hold;
mod holder;
mod leader;
mod metrics;
mod mounts;
mod namespaces;
mod sysctls;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use tokio::sync::{RwLock, RwLockReadGuard, watch};
use tracing::{debug, warn};

pub(crate) use self::config::PodConfig;
pub(crate) use self::files::PodFiles;
pub(crate) use self::hold::hold;
pub(crate) use self::leader::{Leader, lead};

use self::config::Mode;
use self::namespaces::{Held, Namespaces};
use crate::bundle::RuntimeRecord;
use crate::error::{Context, Error, Result};
use crate::reaper::{Exit, Reaper};

/// A pod.
#[derive(Debug)]
pub(crate) struct Pod {
    /// Its id.
    pub id: String,
    config: PodConfig,
    namespaces: Namespaces,
    files: PodFiles,
    /// When containerd asked for it.
    pub created_at: SystemTime,
    /// Held during each step of its life.
    step: tokio::sync::Mutex<()>,
    /// Held, shared, while a container is made, which joins the namespaces: those that it finds when the pod has ended are
    /// the node's.
    making: RwLock<()>,
    /// Whether it is being stopped.
    ending: watch::Sender<bool>,
    held: Mutex<Option<Arc<Held>>>,
    exit: watch::Sender<Option<Exit>>,
}

impl Pod {
    /// A pod of which nothing has been made yet.
    ///
    /// # Errors
    /// What was asked for cannot be had.
    pub(crate) fn new(namespace: &str, id: &str, config: PodConfig, network: &str) -> Result<Self> {
        Ok(Self {
            id: id.to_owned(),
            namespaces: Namespaces::of(&config, network)?,
            config,
            files: PodFiles::of(namespace, id),
            created_at: SystemTime::now(),
            step: Default::default(),
            making: Default::default(),
            ending: Default::default(),
            held: Default::default(),
            exit: Default::default(),
        })
    }

    fn held(&self) -> MutexGuard<'_, Option<Arc<Held>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process by whose namespaces containers find the pod's; none before it is started and after its end.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.held().as_ref().map(|held| held.pid())
    }

    /// Makes its files and namespaces; the process by which they are found.
    ///
    /// # Errors
    /// It was started before, or something cannot be made.
    pub(crate) async fn start(self: &Arc<Self>, leader: &Leader, reaper: &Reaper) -> Result<u32> {
        let _step = self.step.lock().await;
        if self.pid().is_some() || self.exit.borrow().is_some() {
            return Err(Error::failed_precondition(format!("sandbox {} was started before", self.id)));
        }
        self.files.make(&self.config)?;
        let held = match self.namespaces.clone().hold(leader, reaper).await {
            Ok(held) => Arc::new(held),
            Err(error) => {
                self.remove_files();
                return Err(error);
            }
        };
        let pid = held.pid();
        *self.held() = Some(held.clone());
        tokio::spawn(self.clone().follow(held));
        Ok(pid)
    }

    /// Ends the pod when the process that holds it has ended.
    async fn follow(self: Arc<Self>, held: Arc<Held>) {
        let status = held.ended().await;
        let _step = self.step.lock().await;
        if self.pid().is_some() {
            warn!(id = self.id, status, "the process that holds the pod was ended, and the pod with it");
            self.ended(status);
        }
    }

    /// Has its containers end by `kill_all`, and lets go of everything that it has on the node. It may have been stopped before, or
    /// never started.
    pub(crate) async fn stop(&self, kill_all: impl Future<Output = ()>) {
        let _step = self.step.lock().await;
        self.ending.send_replace(true);
        let _none_is_made = self.making.write().await;
        kill_all.await;
        let held = self.held().clone();
        if let Some(held) = held
            && let Err(error) = held.release().await
        {
            warn!(id = self.id, %error, "the pod's namespaces stay held");
        }
        if self.exit.borrow().is_none() {
            self.ended(0);
        }
    }

    fn ended(&self, status: u32) {
        *self.held() = None;
        self.remove_files();
        debug!(id = self.id, "the pod has ended");
        self.exit.send_replace(Some(Exit { status, at: SystemTime::now() }));
    }

    fn remove_files(&self) {
        if let Err(error) = self.files.remove() {
            warn!(id = self.id, %error, "files of the pod stay");
        }
    }

    /// How it has ended, where it has.
    pub(crate) fn exit(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// The figures of its control group, as [`metrics::of`] has them.
    pub(crate) fn metrics(&self) -> Any {
        metrics::of(self.config.cgroup_parent())
    }

    /// Waits until it has been stopped, or has ended by itself.
    pub(crate) async fn wait(&self) -> Exit {
        let mut exits = self.exit.subscribe();
        match exits.wait_for(Option::is_some).await.map(|exit| *exit) {
            Ok(Some(exit)) => exit,
            // The sender is part of `self`, so this cannot be.
            _ => std::future::pending().await,
        }
    }

    /// Gives the pod's files to a container that is about to be made. Until it is, the answer is to be kept.
    ///
    /// # Errors
    /// The pod does not run, or the container asks for what the pod is not to have.
    pub(crate) async fn adopt(&self, bundle: &Path) -> Result<RwLockReadGuard<'_, ()>> {
        let making = self.making.read().await;
        if self.pid().is_none() || *self.ending.borrow() {
            return Err(Error::failed_precondition(format!("the sandbox {} does not run", self.id)));
        }
        let not_shared = (self.config.pid() != Mode::Node).then(std::process::id);
        mounts::add(bundle, &self.files.mounts(), not_shared)?;
        Ok(making)
    }

    /// Waits until it is being stopped.
    pub(crate) async fn ending(&self) {
        // The sender is part of `self`, so waiting does not fail.
        let _ = self.ending.subscribe().wait_for(|ending| *ending).await;
    }

    /// Remembers which runtime has one of the pod's containers, for the end of a killed shim.
    ///
    /// # Errors
    /// Those of writing it.
    pub(crate) fn record(&self, id: &str, runtime: &RuntimeRecord) -> Result<()> {
        self.files.add_container(id, runtime).context(|| "recording the container's runtime".to_owned())
    }

    /// Forgets a container that is gone, or was never made.
    pub(crate) fn disown(&self, id: &str) {
        self.files.remove_container(id);
    }
}
