//! The namespaces of a pod, and who holds them: the shim's leading thread, or, where the pod's containers share their
//! processes, a process that is the first of them.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::process::Pid;
use rustix::system::sethostname;
use rustix::thread::{UnshareFlags, gettid, move_into_link_name_space, unshare_unsafe};
use tracing::warn;

use super::config::{Mode, PodConfig};
use super::holder::Holder;
use super::leader::Leader;
use super::sysctls::Sysctls;
use crate::error::{Context, Error, Result};
use crate::reaper::Reaper;

/// What a pod has of its own.
#[derive(Debug, Clone)]
pub(crate) struct Namespaces {
    /// Its network namespace, which containerd has made.
    network: Option<PathBuf>,
    ipc: bool,
    uts: bool,
    hostname: String,
    pid: bool,
    sysctls: Sysctls,
}

/// The namespaces of a pod that runs, held.
#[derive(Debug)]
pub(crate) struct Held {
    leader: Leader,
    holder: Option<Holder>,
}

impl Namespaces {
    /// Those that the configuration asks for.
    ///
    /// # Errors
    /// One sentence about what cannot be had.
    pub(crate) fn of(config: &PodConfig, network: &str) -> Result<Self> {
        if config.has_user_namespace() {
            return Err(Error::invalid_argument(
                "the pod asks for a user namespace (hostUsers: false), which Wisp does not make; leave hostUsers out",
            ));
        }
        let own_network = config.network() != Mode::Node;
        if own_network && network.is_empty() {
            return Err(Error::invalid_argument(
                "the pod is to have a network of its own, but no network namespace is named; name one, or ask for the node's \
                 network",
            ));
        }
        Ok(Self {
            network: own_network.then(|| PathBuf::from(network)),
            ipc: config.ipc() != Mode::Node,
            uts: own_network,
            hostname: config.hostname.clone(),
            pid: config.pid() == Mode::Pod,
            sysctls: Sysctls::of(config)?,
        })
    }

    /// Makes them, and has somebody hold them.
    ///
    /// # Errors
    /// What the kernel refuses; nothing is held then.
    pub(crate) async fn hold(self, leader: &Leader, reaper: &Reaper) -> Result<Held> {
        let node = gettid();
        let with_holder = self.pid;
        let expected = reaper.expect();
        let spawned = leader.order(move || {
            let spawned =
                self.enter().and_then(|()| if with_holder { Holder::spawn().map(Some) } else { Ok(None) });
            if with_holder || spawned.is_err() {
                leave(node);
            }
            spawned
        });
        let spawned = spawned.await?;
        let holder = spawned.map(|holder| holder.claim(&expected));
        Ok(Held { leader: leader.clone(), holder })
    }

    /// Moves the calling thread into them.
    fn enter(&self) -> Result<()> {
        let mut flags = UnshareFlags::empty();
        flags.set(UnshareFlags::NEWIPC, self.ipc);
        flags.set(UnshareFlags::NEWUTS, self.uts);
        flags.set(UnshareFlags::NEWPID, self.pid);
        // SAFETY: the flags concern namespaces and not the table of descriptors.
        unsafe { unshare_unsafe(flags) }.context(|| "making the pod's namespaces".to_owned())?;
        if self.uts && !self.hostname.is_empty() {
            let hostname = || format!("setting the pod's host name {:?}", self.hostname);
            sethostname(self.hostname.as_bytes()).context(hostname)?;
        }
        if let Some(path) = &self.network {
            let entering = || format!("entering the pod's network namespace {}", path.display());
            let namespace = File::open(path).context(entering)?;
            move_into_link_name_space(namespace.as_fd(), None).context(entering)?;
        }
        self.sysctls.set()
    }
}

/// Moves the calling thread into the namespaces of another one of this process.
fn leave(node: Pid) {
    let of_node = |name| -> io::Result<()> {
        let namespace = File::open(format!("/proc/self/task/{}/ns/{name}", node.as_raw_pid()))?;
        Ok(move_into_link_name_space(namespace.as_fd(), None)?)
    };
    for name in ["net", "ipc", "uts", "pid"] {
        if let Err(error) = of_node(name) {
            warn!(name, %error, "a namespace of the pod stays held");
        }
    }
}

impl Held {
    /// The process by which others find the namespaces.
    pub(crate) fn pid(&self) -> u32 {
        self.holder.as_ref().map_or(std::process::id(), Holder::pid)
    }

    /// Waits until the holding process has ended, in whatever way; its status. A thread ends with the shim only.
    pub(crate) async fn ended(&self) -> u32 {
        match &self.holder {
            Some(holder) => holder.ended().await,
            None => std::future::pending().await,
        }
    }

    /// Lets go of them.
    ///
    /// # Errors
    /// The shim is about to end, and they with it.
    pub(crate) async fn release(&self) -> Result<()> {
        match &self.holder {
            Some(holder) => holder.end().await,
            None => {
                let node = gettid();
                let leaving = self.leader.order(move || {
                    leave(node);
                    Ok(())
                });
                leaving.await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::tests::config;
    use super::*;

    #[test]
    fn a_pod_has_of_its_own_what_is_not_the_nodes() {
        let own = Namespaces::of(&config(Mode::Pod, Mode::Pod, Mode::Pod, &[]), "/ns").unwrap();
        assert_eq!(own.network, Some("/ns".into()));
        assert!(own.ipc && own.uts && own.pid);
        let node = Namespaces::of(&config(Mode::Node, Mode::Node, Mode::Node, &[]), "").unwrap();
        assert_eq!(node.network, None);
        assert!(!node.ipc && !node.uts && !node.pid);
        assert!(!Namespaces::of(&config(Mode::Node, Mode::Container, Mode::Pod, &[]), "").unwrap().pid);
    }

    #[test]
    fn a_network_of_its_own_is_never_taken_to_be_the_nodes() {
        let refused = Namespaces::of(&config(Mode::Pod, Mode::Container, Mode::Pod, &[]), "").unwrap_err();
        assert!(refused.to_string().contains("no network namespace is named"), "{refused}");
    }
}
