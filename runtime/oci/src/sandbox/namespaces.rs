//! The namespaces of a container: made with the process, joined before it, or entered by it.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns, unshare};
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Spec};

/// What a container's namespaces ask for.
#[derive(Debug)]
pub struct Namespaces {
    /// Made with the process.
    pub new: CloneFlags,
    /// A process namespace to make the process in.
    pub pid: Option<OwnedFd>,
    /// Entered by the process.
    join: Vec<(CloneFlags, OwnedFd, PathBuf)>,
    /// A cgroup namespace is made once the process is in its cgroup, whose root it then shows.
    pub new_cgroup: bool,
}

impl Namespaces {
    /// Opens what `spec` names.
    ///
    /// # Errors
    /// With the path that is not there.
    pub fn open(spec: &Spec) -> Result<Self> {
        let mut namespaces =
            Self { new: CloneFlags::CLONE_NEWNS, pid: None, join: Vec::new(), new_cgroup: false };
        let asked = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
        for namespace in asked.into_iter().flatten() {
            namespaces.add(namespace)?;
        }
        Ok(namespaces)
    }

    fn add(&mut self, namespace: &LinuxNamespace) -> Result<()> {
        let flag = flag(namespace.typ())?;
        let Some(path) = namespace.path() else {
            if flag == CloneFlags::CLONE_NEWCGROUP {
                self.new_cgroup = true;
            } else {
                self.new |= flag;
            }
            return Ok(());
        };
        let fd: OwnedFd =
            fs::File::open(path).with_context(|| format!("the namespace {}", path.display()))?.into();
        match flag {
            CloneFlags::CLONE_NEWPID => self.pid = Some(fd),
            CloneFlags::CLONE_NEWNS => {
                bail!("a mount namespace to join is named, and a container's own is expected")
            }
            _ => self.join.push((flag, fd, path.clone())),
        }
        Ok(())
    }

    /// Whether the process has a network namespace of its own.
    #[must_use]
    pub fn new_network(&self) -> bool {
        self.new.contains(CloneFlags::CLONE_NEWNET)
    }

    /// Whether the process has a host name of its own.
    #[must_use]
    pub fn own_uts(&self) -> bool {
        self.new.contains(CloneFlags::CLONE_NEWUTS)
            || self.join.iter().any(|(flag, ..)| *flag == CloneFlags::CLONE_NEWUTS)
    }

    /// Enters what is to be entered by the process itself, in its cgroup.
    ///
    /// # Errors
    /// With the namespace that cannot be entered.
    pub fn enter(&self) -> Result<()> {
        for (flag, fd, path) in &self.join {
            setns(fd, *flag).with_context(|| format!("the namespace {} cannot be joined", path.display()))?;
        }
        if self.new_cgroup {
            unshare(CloneFlags::CLONE_NEWCGROUP).context("a cgroup namespace cannot be made")?;
        }
        Ok(())
    }
}

fn flag(typ: LinuxNamespaceType) -> Result<CloneFlags> {
    Ok(match typ {
        LinuxNamespaceType::Mount => CloneFlags::CLONE_NEWNS,
        LinuxNamespaceType::Cgroup => CloneFlags::CLONE_NEWCGROUP,
        LinuxNamespaceType::Uts => CloneFlags::CLONE_NEWUTS,
        LinuxNamespaceType::Ipc => CloneFlags::CLONE_NEWIPC,
        LinuxNamespaceType::Pid => CloneFlags::CLONE_NEWPID,
        LinuxNamespaceType::Network => CloneFlags::CLONE_NEWNET,
        LinuxNamespaceType::User | LinuxNamespaceType::Time => {
            bail!("the namespace {typ:?} is not one that this runtime makes")
        }
    })
}
