//! The bundle: `config.json` and the root file system that it names.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use oci_spec::runtime::{LinuxNamespaceType, Mount, Process, Spec};
use wisp_entrypoint::Files;

use crate::entrypoint::{self, Program};

/// A bundle that has been read.
#[derive(Debug)]
pub struct Bundle {
    /// The folder.
    pub dir: PathBuf,
    /// The configuration.
    pub spec: Spec,
    /// The root file system, an absolute path.
    pub rootfs: PathBuf,
}

impl Bundle {
    /// Reads the bundle in `dir` and refuses what this runtime would not carry out.
    ///
    /// # Errors
    /// One sentence with what was found, what was expected and what to do.
    pub fn open(dir: &Path) -> Result<Self> {
        let dir = dir.canonicalize().with_context(|| format!("the bundle {}", dir.display()))?;
        let path = dir.join("config.json");
        let bytes = fs::read(&path).with_context(|| format!("the configuration {}", path.display()))?;
        let spec: Spec = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is not an OCI runtime configuration", path.display()))?;
        check(&spec).with_context(|| path.display().to_string())?;
        let root = spec.root().as_ref().map(|root| dir.join(root.path()));
        let rootfs = root.context("the configuration has no root")?;
        ensure!(rootfs.is_dir(), "the root file system {} is not a folder", rootfs.display());
        Ok(Self { dir, spec, rootfs })
    }

    /// The process that the container is for.
    ///
    /// # Errors
    /// If the configuration has none.
    pub fn process(&self) -> Result<&Process> {
        process(&self.spec)
    }

    /// The program that the container is for.
    ///
    /// # Errors
    /// One sentence: what was asked for, what is there, what to do.
    pub fn program(&self) -> Result<Program> {
        let binds = self.spec.mounts().iter().flatten().filter_map(|mount| self.bind(mount)).collect();
        let files = Files::with_binds(&self.rootfs, binds)
            .with_context(|| format!("the root file system {}", self.rootfs.display()))?;
        let process = self.process()?;
        entrypoint::find(&files, process, &self.dir, process)
    }

    /// Where a mount binds what of the node's.
    fn bind(&self, mount: &Mount) -> Option<(PathBuf, PathBuf)> {
        let is_bind = mount.typ().as_deref() == Some("bind")
            || mount.options().iter().flatten().any(|option| option == "bind" || option == "rbind");
        let source = mount.source().as_deref().filter(|_| is_bind)?;
        Some((mount.destination().clone(), self.dir.join(source)))
    }
}

/// The process in a configuration.
///
/// # Errors
/// If there is none, or it has no arguments.
pub fn process(spec: &Spec) -> Result<&Process> {
    let process = spec.process().as_ref().context("the configuration has no process")?;
    check_process(process)?;
    Ok(process)
}

/// Refuses a process that names no program.
///
/// # Errors
/// One sentence.
pub fn check_process(process: &Process) -> Result<()> {
    let named =
        process.args().as_ref().is_some_and(|args| args.first().is_some_and(|first| !first.is_empty()));
    ensure!(
        named,
        "no program to run: process.args is empty; give the image an ENTRYPOINT or the container a command"
    );
    ensure!(process.cwd().is_absolute(), "process.cwd is {:?}, expected an absolute path", process.cwd());
    Ok(())
}

/// Refuses a configuration that asks for what this runtime does not carry out.
///
/// # Errors
/// With the part of it.
pub fn check(spec: &Spec) -> Result<()> {
    ensure!(
        spec.version().starts_with("1."),
        "ociVersion is {:?}; this runtime follows version 1",
        spec.version()
    );
    let linux = spec.linux().as_ref().context("the configuration has no linux section")?;
    for namespace in linux.namespaces().iter().flatten() {
        match namespace.typ() {
            LinuxNamespaceType::User => {
                bail!(
                    "a user namespace is asked for, and this runtime does not make them; set hostUsers: true"
                )
            }
            LinuxNamespaceType::Time => {
                bail!("a time namespace is asked for, and this runtime does not make them")
            }
            _ => {}
        }
    }
    for (name, asked) in [
        ("linux.intelRdt", linux.intel_rdt().is_some()),
        ("linux.netDevices", linux.net_devices().as_ref().is_some_and(|devices| !devices.is_empty())),
        ("linux.memoryPolicy", linux.memory_policy().is_some()),
        ("linux.uidMappings", linux.uid_mappings().as_ref().is_some_and(|maps| !maps.is_empty())),
    ] {
        ensure!(!asked, "{name} is set, and this runtime does not carry it out");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(config: &str) -> (tempfile::TempDir, Result<Bundle>) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("rootfs")).unwrap();
        fs::write(dir.path().join("config.json"), config).unwrap();
        let bundle = Bundle::open(dir.path());
        (dir, bundle)
    }

    #[test]
    fn a_bundle_is_read_with_its_root() {
        let (_dir, bundle) = bundle(r#"{"ociVersion":"1.0.2","root":{"path":"rootfs"},"linux":{}}"#);
        assert!(bundle.unwrap().rootfs.is_absolute());
    }

    #[test]
    fn what_would_not_be_carried_out_is_refused() {
        for (config, why) in [
            ("not json", "is not an OCI runtime configuration"),
            (r#"{"ociVersion":"2.0.0","root":{"path":"rootfs"},"linux":{}}"#, "ociVersion is \"2.0.0\""),
            (r#"{"ociVersion":"1.0.2","linux":{}}"#, "has no root"),
            (
                r#"{"ociVersion":"1.0.2","root":{"path":"rootfs"},"linux":{"namespaces":[{"type":"user"}]}}"#,
                "a user namespace",
            ),
        ] {
            let (_dir, bundle) = bundle(config);
            let error = format!("{:#}", bundle.unwrap_err());
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_process_without_a_program_is_refused() {
        let process: Process =
            serde_json::from_str(r#"{"cwd":"/","args":[],"user":{"uid":0,"gid":0}}"#).unwrap();
        assert!(check_process(&process).unwrap_err().to_string().starts_with("no program to run"));
    }
}
