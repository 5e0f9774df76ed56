//! `start`: the guest's first instruction.

use std::path::Path;

use anyhow::{Context, Result, bail};
use wisp_contract::control::Request;

use super::create::ExitChild;
use crate::hooks::{self, Moment};
use crate::sandbox::channel;
use crate::sandbox::{clone, enter};
use crate::state::{Container, Status};

/// Starts a created container.
pub(super) fn run(root: &Path, id: &str) -> Result<()> {
    let mut container = Container::load(root, id)?;
    match container.status() {
        Status::Created => {}
        Status::Stopped => bail!("cannot start a container that has stopped"),
        Status::Running | Status::Paused => bail!("cannot start an already running container"),
    }
    let spec = container.spec()?;
    if hooks::any(&spec, &[Moment::StartContainer]) {
        hooks_inside(&container, &spec)?;
    }
    container.ask(&Request::Start)?;
    container.record.started = true;
    container.save()?;
    hooks::run_leniently(&spec, Moment::Poststart, &container.state(Status::Running));
    Ok(())
}

/// Runs the startContainer hooks where the guest is, in a process of their own.
fn hooks_inside(container: &Container, spec: &oci_spec::runtime::Spec) -> Result<()> {
    let target = enter::open_process(container.record.pid)?;
    let (parent, child) = channel::pair()?;
    let state = container.state(Status::Created);
    let Some(pid) = clone(nix::sched::CloneFlags::empty(), None)? else {
        let _exit = ExitChild;
        drop(parent);
        let done =
            enter::enter_namespaces(&target).and_then(|()| hooks::run(spec, Moment::StartContainer, &state));
        if let Err(error) = done {
            child.fail(&error);
        }
        bail!("the child ends here");
    };
    drop(child);
    let done = parent.ended_well(false);
    super::wait(pid).context("a hook's process")?;
    done
}
