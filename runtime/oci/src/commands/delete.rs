//! `delete`: what is left of a container goes.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing::warn;

use crate::args;
use crate::hooks::{self, Moment};
use crate::process;
use crate::sandbox::enter;
use crate::state::{self, Container, Status};

/// How long a killed process may take to be gone: it is the kernel's to end it.
const KILL_TIMEOUT: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// Deletes a container; with force, kills it first, and one that is not there is no error.
pub(super) fn run(root: &Path, args: &args::Delete) -> Result<()> {
    if args.force && !Container::exists(root, &args.id)? {
        return leftovers(root, &args.id);
    }
    let container = Container::load(root, &args.id)?;
    match container.status() {
        Status::Stopped => {}
        // A container whose program never ran is deleted without force, as runc does.
        Status::Created => end(&container)?,
        _ if args.force => end(&container)?,
        status => {
            bail!("cannot delete container {} that is not stopped: {}", args.id, status.as_str())
        }
    }
    let spec = container.spec()?;
    let cgroup = state::cgroup(&args.id, &spec)?;
    super::kill::all(&container, &cgroup, libc::SIGKILL).ok();
    cgroup.remove()?;
    fs::remove_dir_all(&container.dir)
        .with_context(|| format!("the state folder {}", container.dir.display()))?;
    hooks::run_leniently(&spec, Moment::Poststop, &container.state(Status::Stopped));
    Ok(())
}

/// Kills the container's process and waits until it is dead; its parent reaps it.
fn end(container: &Container) -> Result<()> {
    let Ok(process) = enter::open_process(container.record.pid) else { return Ok(()) };
    if container.status() == Status::Paused {
        container.cgroup()?.freeze(false)?;
    }
    process::kill(container.record.pid, libc::SIGKILL).ok();
    let ended = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&KILL_TIMEOUT))?;
    if ended == 0 {
        bail!("container {} does not end after SIGKILL", container.record.id);
    }
    Ok(())
}

/// The folder of a create that was cut off before it wrote a record.
fn leftovers(root: &Path, id: &str) -> Result<()> {
    let dir = root.join(id);
    if dir.is_dir() {
        warn!("container {id} was not created in full; its folder is removed");
        fs::remove_dir_all(&dir).with_context(|| format!("the state folder {}", dir.display()))?;
    }
    Ok(())
}
