//! `kill`: a signal to the container's process, or to all of its processes.

use std::path::Path;

use anyhow::{Context, Result, bail};
use wisp_cgroup::Cgroup;

use crate::args;
use crate::process;
use crate::state::{Container, Status};

/// Sends a signal.
pub(super) fn run(root: &Path, args: &args::Kill) -> Result<()> {
    let signal = process::parse_signal(&args.signal)?;
    let container = Container::load(root, &args.id)?;
    if args.all {
        return all(&container, &container.cgroup()?, signal);
    }
    let status = container.status();
    if status == Status::Stopped {
        // runc's words, by which containerd's shim knows the case.
        bail!("container not running");
    }
    process::kill(container.record.pid, signal).context("the signal cannot be sent")?;
    if signal == libc::SIGKILL && status == Status::Paused {
        // A frozen process of a version 1 cgroup dies when it is thawed.
        container.cgroup()?.freeze(false)?;
    }
    Ok(())
}

/// Signals every process of the container's cgroup; with SIGKILL again until none is new.
pub(super) fn all(container: &Container, cgroup: &Cgroup, signal: i32) -> Result<()> {
    if signal == libc::SIGKILL && container.status() == Status::Paused {
        cgroup.freeze(false)?;
    }
    let mut signalled = std::collections::HashSet::new();
    loop {
        let new: Vec<i32> = cgroup.pids().into_iter().filter(|pid| signalled.insert(*pid)).collect();
        if new.is_empty() {
            return Ok(());
        }
        for pid in new {
            process::kill(pid, signal).ok();
        }
        if signal != libc::SIGKILL {
            return Ok(());
        }
    }
}
