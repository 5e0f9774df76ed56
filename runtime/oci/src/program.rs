//! The guest's side of a process: its compiled code, and the plan that `wisp-guest` follows.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use oci_spec::runtime::Spec;
use rustix::fs::{CWD, Mode, OFlags, openat};
use wisp_cache::Cache;
use wisp_config::Config;
use wisp_contract::companion;
use wisp_contract::facts::Facts;
use wisp_contract::plan::{Entry, HttpSettings};

use crate::entrypoint::{Bytes, Wasm};
use crate::sandbox::mount_api::{Attributes, attach, clone_mount, open_path, set_attributes};

/// What the guest process needs of a program, all of it open before the sandbox is entered.
#[derive(Debug)]
pub struct Guest {
    /// The guest process's binary.
    pub binary: Binary,
    /// The compiled code.
    pub code: File,
    /// What the program is.
    pub facts: Facts,
    /// The program's path in the container.
    pub path: String,
    /// What of it is called.
    pub entry: Entry,
    /// How it serves, if it does.
    pub http: HttpSettings,
    /// The memory limit in bytes.
    pub memory_limit: Option<u64>,
    /// The CPU quota in processors.
    pub cpus: Option<f64>,
}

impl Guest {
    /// Gets the program's compiled code, compiling it if this node has not.
    ///
    /// # Errors
    /// One sentence: what was found, what was expected, what to do.
    pub fn prepare(wasm: Wasm, spec: &Spec) -> Result<Self> {
        let config = Config::load()?;
        let http = config.http_settings(spec.annotations().as_ref().unwrap_or(&Default::default()))?;
        let cache = Cache::of(&config)?;
        let compiled = match wasm.bytes {
            Bytes::File(mut file) => cache.program(&mut file),
            Bytes::Layer(layer) => cache.named(&layer.digest, || File::open(&layer.blob)),
        };
        let path = wasm.path;
        let compiled = compiled.with_context(|| format!("the entrypoint {path} cannot be run"))?;
        let entry = Entry::of(wasm.export, &compiled.facts, &path)?;
        Ok(Self {
            binary: Binary::open()?,
            code: compiled.code,
            entry,
            path,
            http,
            memory_limit: memory_limit(spec),
            cpus: cpus(spec),
            facts: compiled.facts,
        })
    }
}

/// The memory limit of the container, if it has one.
#[must_use]
pub fn memory_limit(spec: &Spec) -> Option<u64> {
    let resources = spec.linux().as_ref()?.resources().as_ref()?;
    u64::try_from(resources.memory().as_ref()?.limit()?).ok().filter(|limit| *limit > 0)
}

/// The CPU quota of the container in processors, if it has one.
#[must_use]
pub fn cpus(spec: &Spec) -> Option<f64> {
    let cpu = spec.linux().as_ref()?.resources().as_ref()?.cpu().as_ref()?;
    quota(cpu.quota(), cpu.period())
}

/// A quota and a period in processors.
#[must_use]
pub fn quota(quota: Option<i64>, period: Option<u64>) -> Option<f64> {
    let quota = quota.filter(|quota| *quota > 0)?;
    // The kernel's own default period (`Documentation/scheduler/sched-bwc.rst`).
    let period = period.filter(|period| *period > 0).unwrap_or(100_000);
    Some(quota as f64 / period as f64)
}

/// `wisp-guest`, opened through a detached read-only clone of its mount: what a neighbour reaches as `/proc/PID/exe` cannot be
/// written, whoever asks (CVE-2019-5736).
#[derive(Debug)]
pub struct Binary {
    /// For exec.
    pub file: OwnedFd,
    mount: OwnedFd,
    folder: PathBuf,
}

impl Binary {
    fn open() -> Result<Self> {
        let path = companion::find("wisp-guest")?;
        let (folder, name) = (path.parent().unwrap_or(Path::new("/")), path.file_name().unwrap_or_default());
        let open = || -> io::Result<(OwnedFd, OwnedFd)> {
            let mount = clone_mount(CWD, folder, false)?;
            set_attributes(mount.as_fd(), Attributes::READ_ONLY)?;
            let file = openat(&mount, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            Ok((file, mount))
        };
        let (file, mount) = open().with_context(|| format!("{} cannot be opened", path.display()))?;
        Ok(Self { file, mount, folder: folder.to_owned() })
    }

    /// Attaches the clone to the node's mounts as this process has them, which it is about to leave all at once. As long as it is
    /// detached, to close it takes a grace period of RCU, milliseconds on a busy machine.
    ///
    /// # Errors
    /// The kernel's.
    pub fn leave_mount(&self) -> io::Result<()> {
        // Over the root it would be in the way of leaving that.
        if self.folder == Path::new("/") {
            return Ok(());
        }
        attach(&self.mount, open_path(&self.folder)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_processors() {
        assert_eq!(quota(Some(150_000), Some(100_000)), Some(1.5));
        assert_eq!(quota(Some(50_000), None), Some(0.5));
        assert_eq!(quota(Some(-1), Some(100_000)), None);
        assert_eq!(quota(None, Some(100_000)), None);
    }
}
