//! `pause` and `resume`: the container's freezer.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::state::{Container, Status};

/// Stops every process of a container.
pub(super) fn pause(root: &Path, id: &str) -> Result<()> {
    let container = Container::load(root, id)?;
    ensure!(matches!(container.status(), Status::Running | Status::Created), "container not running");
    Ok(container.cgroup()?.freeze(true)?)
}

/// Lets them go on.
pub(super) fn resume(root: &Path, id: &str) -> Result<()> {
    let container = Container::load(root, id)?;
    ensure!(container.status() == Status::Paused, "container not paused");
    container.cgroup()?.freeze(false)?;
    // What changed meanwhile the guest could not hear.
    super::update::tell(&container, &container.spec()?);
    Ok(())
}
