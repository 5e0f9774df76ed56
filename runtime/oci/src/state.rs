//! What is kept of a container between commands: `ROOT/ID/state.json` beside a copy of its configuration.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail, ensure};
use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};
use wisp_cgroup::Cgroup;
use wisp_contract::control::{self, Reply, Request};
use wisp_contract::counters::{self, Snapshot};
use wisp_contract::facts::Kind;
use wisp_contract::plan::Preopen;

use crate::process;

/// The version of the OCI runtime spec that this runtime follows.
pub const OCI_VERSION: &str = "1.2.0";

/// What `state.json` holds. Fields are only ever added, so that the next version reads what this one wrote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The container's id.
    pub id: String,
    /// The container's first process.
    pub pid: i32,
    /// When that process started ([`process::Stat::start`]).
    pub pid_start: u64,
    /// The bundle's folder.
    pub bundle: PathBuf,
    /// The root file system on the node.
    pub rootfs: PathBuf,
    /// When the container was created, RFC 3339.
    pub created: String,
    /// Whether `start` was called; where the guest was started without it, its counters say so.
    pub started: bool,
    /// What the program is.
    #[serde(default)]
    pub kind: Option<Kind>,
    /// The spec's annotations.
    #[serde(default)]
    pub annotations: HashMap<String, String>,
    /// The preopens of the first process, for the Wasm that `exec` runs.
    #[serde(default)]
    pub preopens: Vec<Preopen>,
    /// The root of the guest's tree, by its number in the first process.
    #[serde(default)]
    pub tree: RawFd,
}

/// The state of a container, in the OCI spec's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Its process waits for `start`.
    Created,
    /// Its process runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Its process has ended.
    Stopped,
}

impl Status {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// A container's folder and record.
#[derive(Debug)]
pub struct Container {
    /// The folder.
    pub dir: PathBuf,
    /// The record.
    pub record: Record,
}

/// What `state` prints and hooks read (runtime-spec, "State").
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State<'a> {
    /// The version of the spec.
    pub oci_version: &'static str,
    /// The container's id.
    pub id: &'a str,
    /// The pid, 0 when stopped.
    pub pid: i32,
    /// The status.
    pub status: Status,
    /// The bundle's folder.
    pub bundle: &'a Path,
    /// The root file system.
    pub rootfs: &'a Path,
    /// When it was created.
    pub created: &'a str,
    /// The annotations.
    pub annotations: &'a HashMap<String, String>,
    /// The owner, as runc has it.
    pub owner: &'static str,
}

impl Container {
    /// Reads the record of container `id`.
    ///
    /// # Errors
    /// With runc's words, "does not exist", if there is none.
    pub fn load(root: &Path, id: &str) -> Result<Self> {
        check_id(id)?;
        let dir = root.join(id);
        let bytes = match fs::read(dir.join("state.json")) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => bail!("container does not exist: {id}"),
            Err(error) => return Err(error).with_context(|| format!("the state of container {id}")),
        };
        let record =
            serde_json::from_slice(&bytes).with_context(|| format!("the state of container {id}"))?;
        Ok(Self { dir, record })
    }

    /// Whether there is a record of container `id`.
    ///
    /// # Errors
    /// If `id` is none.
    pub fn exists(root: &Path, id: &str) -> Result<bool> {
        check_id(id)?;
        Ok(root.join(id).join("state.json").exists())
    }

    /// Writes the record: whole, or not at all.
    ///
    /// # Errors
    /// The kernel's.
    pub fn save(&self) -> Result<()> {
        write_whole(&self.dir.join("state.json"), &serde_json::to_vec(&self.record)?)
    }

    /// What the container does now.
    #[must_use]
    pub fn status(&self) -> Status {
        let alive = process::stat(self.record.pid)
            .is_some_and(|stat| !stat.dead && stat.start == self.record.pid_start);
        match (alive, alive && self.started()) {
            (false, _) => Status::Stopped,
            (true, false) => Status::Created,
            (true, true) if wisp_cgroup::is_frozen(self.record.pid).unwrap_or(false) => Status::Paused,
            (true, true) => Status::Running,
        }
    }

    fn started(&self) -> bool {
        let counted = || {
            let page = File::open(self.dir.join(counters::FILE)).ok()?;
            Some(Snapshot::read(&page).ok()?.started > 0)
        };
        self.record.started || counted().unwrap_or(false)
    }

    /// The state in the OCI spec's form.
    #[must_use]
    pub fn state(&self, status: Status) -> State<'_> {
        let record = &self.record;
        State {
            oci_version: OCI_VERSION,
            id: &record.id,
            pid: if status == Status::Stopped { 0 } else { record.pid },
            status,
            bundle: &record.bundle,
            rootfs: &record.rootfs,
            created: &record.created,
            annotations: &record.annotations,
            owner: "",
        }
    }

    /// The configuration that the container was created with.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn spec(&self) -> Result<Spec> {
        let path = self.dir.join("config.json");
        let bytes = fs::read(&path).with_context(|| format!("the configuration {}", path.display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("the configuration {}", path.display()))
    }

    /// The container's cgroup.
    ///
    /// # Errors
    /// If the configuration cannot be read or the hierarchy is gone.
    pub fn cgroup(&self) -> Result<Cgroup> {
        cgroup(&self.record.id, &self.spec()?)
    }

    /// Writes the configuration anew.
    ///
    /// # Errors
    /// The kernel's.
    pub fn save_spec(&self, spec: &Spec) -> Result<()> {
        write_whole(&self.dir.join("config.json"), &serde_json::to_vec(spec)?)
    }

    /// Asks the guest process something and waits for its answer.
    ///
    /// # Errors
    /// If it has ended, or says no.
    pub fn ask(&self, request: &Request) -> Result<Reply> {
        let dir = File::open(&self.dir).with_context(|| self.dir.display().to_string())?;
        Ok(control::ask(&short(&dir).join(control::SOCKET), request)?)
    }
}

/// A short name for an open folder: the path of a Unix socket has no room for more than 107 bytes.
#[must_use]
pub fn short(dir: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()))
}

/// The cgroup that `spec` names for container `id`.
///
/// # Errors
/// If no hierarchy is mounted, or systemd does not answer.
pub fn cgroup(id: &str, spec: &Spec) -> Result<Cgroup> {
    let path = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_deref());
    Ok(Cgroup::of(id, path)?)
}

/// The folder of a container that is being created; removed again unless it is kept.
#[derive(Debug)]
pub struct Claim {
    /// The folder.
    pub dir: PathBuf,
    kept: bool,
}

impl Claim {
    /// Takes the id.
    ///
    /// # Errors
    /// With runc's words if it is taken.
    pub fn new(root: &Path, id: &str) -> Result<Self> {
        check_id(id)?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(root)
            .with_context(|| format!("the state folder {}", root.display()))?;
        let dir = root.join(id);
        match DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => Ok(Self { dir, kept: false }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                bail!("container with id exists: {id}")
            }
            Err(error) => Err(error).with_context(|| format!("the state folder {}", dir.display())),
        }
    }

    /// Notes the container before anything of it is made, so that `delete` finds that should this command be cut off.
    ///
    /// # Errors
    /// The kernel's.
    pub fn note(&self, record: &Record, spec: &Spec) -> Result<()> {
        Container { dir: self.dir.clone(), record: record.clone() }.save_spec(spec)?;
        self.update(record).map(drop)
    }

    /// Notes what is known by now.
    ///
    /// # Errors
    /// The kernel's.
    pub fn update(&self, record: &Record) -> Result<Container> {
        let container = Container { dir: self.dir.clone(), record: record.clone() };
        container.save()?;
        Ok(container)
    }

    /// Keeps the folder: the container is created.
    ///
    /// # Errors
    /// The kernel's; the folder is removed.
    pub fn keep(mut self, record: Record) -> Result<Container> {
        let container = Container { dir: self.dir.clone(), record };
        container.save()?;
        self.kept = true;
        Ok(container)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.kept {
            fs::remove_dir_all(&self.dir).ok();
        }
    }
}

/// The time now, as records hold it.
#[must_use]
pub fn now() -> String {
    humantime::format_rfc3339_nanos(SystemTime::now()).to_string()
}

fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, path))
        .with_context(|| format!("{} cannot be written", path.display()))
}

/// runc's rule for ids, which are names of folders.
fn check_id(id: &str) -> Result<()> {
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '.');
    ensure!(
        !id.is_empty() && id != "." && id != ".." && id.len() <= 1024 && id.chars().all(valid),
        "invalid id format: {id:?}; expected letters, digits and _ + - ."
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            id: "c1".into(),
            pid: i32::MAX,
            pid_start: 1,
            bundle: "/b".into(),
            rootfs: "/b/rootfs".into(),
            created: now(),
            started: true,
            kind: None,
            annotations: HashMap::new(),
            preopens: vec![],
            tree: 0,
        }
    }

    #[test]
    fn a_container_is_found_again_and_is_stopped_without_its_process() {
        let root = tempfile::tempdir().unwrap();
        let claim = Claim::new(root.path(), "c1").unwrap();
        claim.note(&record(), &Spec::default()).unwrap();
        claim.keep(record()).unwrap();
        let found = Container::load(root.path(), "c1").unwrap();
        assert_eq!((found.record.id.as_str(), found.status()), ("c1", Status::Stopped));
        assert_eq!(found.state(Status::Stopped).pid, 0);
    }

    #[test]
    fn an_id_is_taken_once_and_a_failed_create_frees_it() {
        let root = tempfile::tempdir().unwrap();
        let claim = Claim::new(root.path(), "c1").unwrap();
        assert_eq!(Claim::new(root.path(), "c1").unwrap_err().to_string(), "container with id exists: c1");
        drop(claim);
        Claim::new(root.path(), "c1").unwrap();
        assert!(
            Container::load(root.path(), "c2").unwrap_err().to_string().contains("container does not exist")
        );
    }

    #[test]
    fn an_id_that_is_no_name_of_a_folder_is_refused() {
        for id in ["", ".", "..", "../x", "a/b", "a b"] {
            assert!(check_id(id).is_err(), "{id:?}");
        }
    }
}
