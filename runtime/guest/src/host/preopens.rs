//! The directories that a guest can open, from descriptors.

use anyhow::{Context, Result};
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};
use wisp_contract::plan::Preopen;

use crate::plan_in::own;

/// Adds the plan's directories, each with its own right to write.
///
/// Wasmtime takes a path: each directory becomes the working directory for a moment, and the path is `.`. A directory that
/// the container's user may not search is left out, as it would be of no use to a native program either.
///
/// Files have no descriptor of their own in WASI: `wisp-runtime` mounts them into the directory that they belong to.
pub(crate) fn add(builder: &mut WasiCtxBuilder, preopens: &[Preopen]) -> Result<()> {
    for preopen in preopens {
        let fd = own(preopen.fd).with_context(|| format!("the plan's directory {}", preopen.guest_path))?;
        if rustix::process::fchdir(&fd).is_err() {
            continue;
        }
        let rights = if preopen.writable { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
        builder
            .preopened_dir(".", &preopen.guest_path, rights)
            .map_err(anyhow::Error::from)
            .with_context(|| format!("{} cannot be opened for the guest", preopen.guest_path))?;
    }
    rustix::process::chdir("/").context("the container has no root directory")
}
