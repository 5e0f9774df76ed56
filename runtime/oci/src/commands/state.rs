//! `state`: what the OCI spec calls a container's state, as JSON.

use std::path::Path;

use anyhow::Result;

use crate::state::Container;

/// Prints the state of a container.
pub(super) fn run(root: &Path, id: &str) -> Result<()> {
    let container = Container::load(root, id)?;
    super::print(&format!("{}\n", serde_json::to_string_pretty(&container.state(container.status()))?))
}
