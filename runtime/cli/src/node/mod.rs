//! What this node has: the containerd that runs on it, and how that is configured.

pub(crate) mod config;
pub(crate) mod containerd;
pub(crate) mod run;

use std::path::Path;

use anyhow::{Context, Result};

/// Makes `root` the root directory of this process, so that every path from here on is the node's, links included.
///
/// # Errors
/// Those of `chroot(2)`.
pub(crate) fn enter(root: &Path) -> Result<()> {
    if root == Path::new("/") {
        return Ok(());
    }
    nix::unistd::chroot(root).with_context(|| format!("making {} the root directory", root.display()))?;
    std::env::set_current_dir("/").context("entering the node's root directory")
}
