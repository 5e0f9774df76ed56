//! Which OCI runtime gets a container, and where it keeps its state.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, accessat, open};
use wisp_contract::companion;

use super::{Program, Runtime};
use crate::bundle::LOG_FILE;
use crate::entrypoint::Kind;
use crate::error::{Error, Result};
use crate::options::Options;
use crate::reaper::Reaper;

/// Wisp's own runtime.
const WISP: &str = "wisp-runtime";
/// The runtime of native containers, unless the options name another.
const RUNC: &str = "runc";
/// Where runc keeps the state of containerd's containers, as with containerd's own shim.
const RUNC_ROOT: &str = "/run/containerd/runc";
/// Where `wisp-runtime` keeps its state.
const WISP_ROOT: &str = "/run/wisp";

/// Chooses the runtime of each container of a shim.
#[derive(Debug)]
pub(crate) struct Chooser {
    /// `wisp-runtime` as it was when the shim started, or why there is none.
    wisp: std::result::Result<Program, String>,
    namespace: String,
    reaper: Reaper,
}

impl Chooser {
    /// Finds and holds the `wisp-runtime` that belongs to this shim.
    pub(crate) fn new(namespace: &str, reaper: Reaper) -> Self {
        Self { wisp: hold_wisp(), namespace: namespace.to_owned(), reaper }
    }

    /// The runtime for a container of this kind.
    ///
    /// # Errors
    /// The runtime is not on this node.
    pub(crate) fn choose(
        &self,
        kind: Kind,
        options: &Options,
        systemd_cgroup: bool,
        bundle: &Path,
    ) -> Result<Runtime> {
        let guests = kind == Kind::Wasm;
        let (program, default_root) = match kind {
            Kind::Wasm => (self.wisp.clone().map_err(Error::unknown)?, WISP_ROOT),
            Kind::Native => (native(&options.binary_name)?, RUNC_ROOT),
        };
        let root = if options.root.as_os_str().is_empty() { Path::new(default_root) } else { &options.root };
        Ok(Runtime {
            program,
            root: root.join(&self.namespace),
            log: bundle.join(LOG_FILE),
            systemd_cgroup,
            guests,
            reaper: self.reaper.clone(),
        })
    }
}

fn hold_wisp() -> std::result::Result<Program, String> {
    let path = companion::find(WISP)
        .or_else(|error| find_in_path(WISP).ok_or(error))
        .map_err(|error| error.to_string())?;
    let held = open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| format!("{} cannot be opened: {error}", path.display()))?;
    Ok(Program { path, held: Some(Arc::new(held)) })
}

fn native(name: &str) -> Result<Program> {
    let name = if name.is_empty() { RUNC } else { name };
    find_in_path(name).map(Program::at).ok_or_else(|| {
        Error::unknown(format!(
            "this container's entrypoint is a native program, which {name} would run, but there is no {name} on the PATH \
             of containerd; install {name}, or use an image with a Wasm entrypoint"
        ))
    })
}

/// Finds a program by its name on the `PATH`, or by its path.
pub(crate) fn find_in_path(name: &str) -> Option<PathBuf> {
    let executable =
        |path: &PathBuf| path.is_file() && accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS).is_ok();
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(executable);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(executable)
}
