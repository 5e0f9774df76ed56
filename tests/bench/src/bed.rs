//! Where things are measured: containerd 2.4 with the null shim beside Wisp and runc, logging as on a node.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use wisp_tests::bed::Options;
use wisp_tests::cri::node::{Node, Variant};
use wisp_tests::space::Cache;

use crate::figure::FLOOR;

/// The runtime of the null shim, as `ctr` knows it.
pub(crate) const NULL: &str = "io.containerd.null.v1";
/// containerd, with Wisp's shim as the sandbox of its pods.
const VARIANT: Variant = Variant { version: "2.4", sandboxer: "shim" };

/// A containerd with CRI for `ctr` and for pods.
///
/// # Errors
/// One sentence with what is missing or did not start.
pub(crate) fn start() -> Result<Node> {
    start_with(None)
}

/// The same, with a cache of compiled code of its own.
///
/// # Errors
/// As [`start`].
pub(crate) fn start_with(cache: Option<Cache>) -> Result<Node> {
    let shims = vec![(FLOOR, beside("containerd-shim-null-v1")?)];
    Node::start_with(VARIANT, Options { shims, cache, quiet: true, ..Options::default() })
}

/// A program that is built into the folder of this one.
///
/// # Errors
/// Where it is not there.
pub(crate) fn beside(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let path = own.parent().context("this program is in no folder")?.join(name);
    ensure!(path.is_file(), "{} is not there; run `make bench`, which builds it", path.display());
    Ok(path)
}
