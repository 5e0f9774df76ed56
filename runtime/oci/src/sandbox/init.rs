//! A container's first process, step by step.

use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use anyhow::{Context, Result};
use oci_spec::runtime::Spec;
use wisp_cgroup::{Cgroup, Entry};

use super::channel::{Child, Said};
use super::launch::{Become, First, Launch};
use super::lsm::Labels;
use super::namespaces::Namespaces;
use super::{console, kernel, rootfs, termination, view};
use crate::bundle::Bundle;
use crate::hooks::{self, Moment};
use crate::program::Guest;
use crate::state::State;

/// Everything that the process needs, prepared by the parent.
#[derive(Debug)]
pub struct Init<'a> {
    /// The bundle.
    pub bundle: &'a Bundle,
    /// The program.
    pub guest: &'a Guest,
    /// What all processes need.
    pub launch: Launch<'a>,
    /// The namespaces to be in.
    pub namespaces: &'a Namespaces,
    /// The cgroup, and how the process comes into it.
    pub cgroup: (&'a Cgroup, &'a Entry),
    /// Whether the cgroup is made, and its limits are set, while this process makes its mounts.
    pub cgroup_is_late: bool,
    /// Where the terminal goes, if there is one.
    pub console: Option<UnixStream>,
    /// The guest's control socket, listening.
    pub control: UnixListener,
    /// The guest's page of counters.
    pub counters: OwnedFd,
    /// What hooks are told.
    pub state: State<'a>,
}

impl Init<'_> {
    /// Runs in the child; returns only if a step failed.
    ///
    /// # Errors
    /// With the step.
    pub fn run(self, child: &Child) -> Result<()> {
        let spec = &self.bundle.spec;
        self.enter_cgroup(child)?;
        rustix::process::setsid().context("a session cannot be made")?;
        let labels = Labels::open(self.launch.process)?;
        self.namespaces.enter()?;
        kernel::prepare(spec, self.namespaces)?;
        let root = rootfs::build(&self.bundle.rootfs, &self.bundle.dir, spec)?;
        // Meanwhile the parent has noted this process.
        child.wait()?;
        if self.cgroup_is_late {
            self.cgroup.0.enter()?;
        }
        self.hooks(spec, child)?;
        self.working_directory(&root)?;
        self.guest.binary.leave_mount().context("the mount of the guest process's binary")?;
        super::mount_api::pivot_and_leave(&root).context("the container's root cannot be entered")?;
        rootfs::protect(spec)?;
        if let Some(socket) = &self.console {
            let size = self.launch.process.console_size();
            console::open_terminal(socket, size.as_ref(), true).context("the terminal")?;
        }
        let view = view::lay(spec)?;
        let first = First {
            control: self.control.into(),
            counters: self.counters,
            termination_log: termination::open_log(spec),
        };
        let becoming = Become::Guest { guest: self.guest, view, first: Some(first) };
        self.launch.exec(labels, child, becoming)
    }

    fn enter_cgroup(&self, child: &Child) -> Result<()> {
        match self.cgroup {
            (_, Entry::Born(_)) => Ok(()),
            (_, Entry::Itself) if self.cgroup_is_late => Ok(()),
            (cgroup, Entry::Itself) => Ok(cgroup.enter()?),
            (_, Entry::Moved) => child.wait(),
        }
    }

    fn hooks(&self, spec: &Spec, child: &Child) -> Result<()> {
        if hooks::any(spec, &[Moment::Prestart, Moment::CreateRuntime]) {
            child.say(&Said::Mounted)?;
            child.wait()?;
        }
        hooks::run(spec, Moment::CreateContainer, &self.state)
    }

    /// Makes the working directory if the image has none, as runc does.
    fn working_directory(&self, root: &OwnedFd) -> Result<()> {
        let cwd = self.launch.process.cwd();
        if cwd == Path::new("/") {
            return Ok(());
        }
        super::mount_api::make_below(root, cwd, super::mount_api::Place::Directory)
            .map(drop)
            .with_context(|| format!("the working directory {}", cwd.display()))
    }
}
