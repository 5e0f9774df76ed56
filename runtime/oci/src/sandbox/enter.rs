//! A further process in a running container: into its namespaces, then the same end as the first.

use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use wisp_cgroup::{Cgroup, Entry};
use wisp_contract::plan::Preopen;

use super::channel::Child;
use super::console;
use super::launch::{Become, Launch};
use super::lsm::Labels;
use super::view;
use crate::program::Guest;

/// What a further process enters itself; its pid namespace is the one that its parent chose for its children.
const NAMESPACES: [CloneFlags; 5] = [
    CloneFlags::CLONE_NEWIPC,
    CloneFlags::CLONE_NEWUTS,
    CloneFlags::CLONE_NEWNET,
    CloneFlags::CLONE_NEWCGROUP,
    CloneFlags::CLONE_NEWNS,
];

/// Everything that the process needs, prepared by the parent.
#[derive(Debug)]
pub struct Enter<'a> {
    /// The container's first process.
    pub target: OwnedFd,
    /// The container's cgroup, and how the process comes into it.
    pub cgroup: (&'a Cgroup, &'a Entry),
    /// What all processes need.
    pub launch: Launch<'a>,
    /// What is run.
    pub program: Runs,
    /// Where the terminal goes, if there is one.
    pub console: Option<UnixStream>,
}

/// What a further process runs.
#[derive(Debug)]
pub enum Runs {
    /// A guest, with the tree of the first process by its number there, and its preopens.
    Guest(Box<Guest>, RawFd, Vec<Preopen>),
    /// A native program, by its path in the container.
    Native(PathBuf),
}

/// Opens a process so that it cannot be mistaken for another.
///
/// # Errors
/// If it has ended.
pub fn open_process(pid: i32) -> Result<OwnedFd> {
    let pid = Pid::from_raw(pid).context("the container has no process")?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// Enters the namespaces of a process, and its root.
///
/// # Errors
/// The kernel's.
pub fn enter_namespaces(target: &OwnedFd) -> Result<()> {
    let flags = NAMESPACES.into_iter().fold(CloneFlags::empty(), |all, flag| all | flag);
    setns(target, flags).context("the container's namespaces cannot be entered")
}

impl Enter<'_> {
    /// Runs in the child, which is in the container's pid namespace; returns only if a step failed.
    ///
    /// # Errors
    /// With the step.
    pub fn run(self, child: &Child) -> Result<()> {
        if let (cgroup, Entry::Itself) = self.cgroup {
            cgroup.enter()?;
        }
        rustix::process::setsid().context("a session cannot be made")?;
        let labels = Labels::open(self.launch.process)?;
        enter_namespaces(&self.target)?;
        if let Some(socket) = &self.console {
            let size = self.launch.process.console_size();
            console::open_terminal(socket, size.as_ref(), false).context("the terminal")?;
        }
        match &self.program {
            Runs::Guest(guest, tree, preopens) => {
                // The tree lies where no path leads, but the first process holds it open.
                let tree = pidfd_getfd(&self.target, *tree, PidfdGetfdFlags::empty())
                    .context("the guest's tree cannot be had of the container's process")?;
                let view = view::again(tree, preopens)?;
                self.launch.exec(labels, child, Become::Guest { guest, view, first: None })
            }
            Runs::Native(path) => self.launch.exec(labels, child, Become::Native { path }),
        }
    }
}
