//! What the shim writes into a container's bundle, so that `delete` can clean up after a shim that is gone.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::reaper::Exit;

/// The file that says which runtime has a container; it is there as long as the runtime may have it.
const RUNTIME_FILE: &str = "wisp.json";
/// The file that says how a container's process ended.
const EXIT_FILE: &str = "exit.json";
/// The file in which the runtime leaves the process id of a container.
pub(crate) const PID_FILE: &str = "init.pid";
/// The file with the shim's address; containerd 1.6 finds its shims by it after a restart.
pub(crate) const ADDRESS_FILE: &str = "address";
/// The runtime's own log.
pub(crate) const LOG_FILE: &str = "log.json";

/// Which runtime has a container. Fields are only ever added, with defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RuntimeRecord {
    /// The runtime's binary.
    pub program: PathBuf,
    /// Its state directory (`--root`).
    pub root: PathBuf,
    /// Whether it makes cgroups through systemd.
    #[serde(default)]
    pub systemd_cgroup: bool,
}

impl RuntimeRecord {
    /// Writes the record.
    pub(crate) fn write(&self, bundle: &Path) -> io::Result<()> {
        write(&bundle.join(RUNTIME_FILE), &serde_json::to_vec(self)?)
    }

    /// Reads the record; `None` where the runtime has nothing of this container.
    pub(crate) fn read(bundle: &Path) -> io::Result<Option<Self>> {
        match fs::read(bundle.join(RUNTIME_FILE)) {
            Ok(json) => Ok(Some(serde_json::from_slice(&json)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes the record away: the runtime has deleted the container.
    pub(crate) fn remove(bundle: &Path) {
        // It goes with the bundle anyway.
        let _ = fs::remove_file(bundle.join(RUNTIME_FILE));
    }
}

/// How a container's process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExitRecord {
    /// Its process id.
    pub pid: u32,
    /// Its exit status.
    pub status: u32,
    /// When, as seconds since 1970.
    pub seconds: u64,
    /// And nanoseconds.
    pub nanos: u32,
}

impl ExitRecord {
    /// A record of `exit`.
    pub(crate) fn new(pid: u32, exit: Exit) -> Self {
        let since = exit.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { pid, status: exit.status, seconds: since.as_secs(), nanos: since.subsec_nanos() }
    }

    /// When the process ended.
    pub(crate) fn at(&self) -> SystemTime {
        UNIX_EPOCH + Duration::new(self.seconds, self.nanos.min(999_999_999))
    }

    /// Writes the record.
    pub(crate) fn write(&self, bundle: &Path) -> io::Result<()> {
        write(&bundle.join(EXIT_FILE), &serde_json::to_vec(self)?)
    }

    /// Reads the record, if there is one that can be read.
    pub(crate) fn read(bundle: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(bundle.join(EXIT_FILE)).ok()?).ok()
    }
}

/// Reads a file that holds a process id and nothing else.
pub(crate) fn read_pid(path: &Path) -> io::Result<i32> {
    let text = fs::read_to_string(path)?;
    text.trim().parse().ok().filter(|pid| *pid > 0).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} holds {text:?} and not a process id", path.display()),
        )
    })
}

/// Writes a file for root only, whole or not at all.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    io::Write::write_all(&mut file, bytes)?;
    fs::rename(part, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(RuntimeRecord::read(dir.path()).unwrap(), None);
        let record =
            RuntimeRecord { program: "/bin/runc".into(), root: "/run/r".into(), systemd_cgroup: true };
        record.write(dir.path()).unwrap();
        assert_eq!(RuntimeRecord::read(dir.path()).unwrap(), Some(record));
        RuntimeRecord::remove(dir.path());
        assert_eq!(RuntimeRecord::read(dir.path()).unwrap(), None);

        assert_eq!(ExitRecord::read(dir.path()), None);
        let exit = Exit { status: 3, at: UNIX_EPOCH + Duration::new(5, 7) };
        ExitRecord::new(9, exit).write(dir.path()).unwrap();
        let read = ExitRecord::read(dir.path()).unwrap();
        assert_eq!((read.pid, read.status, read.at()), (9, 3, exit.at));
    }

    #[test]
    fn a_file_without_a_pid_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        for text in ["", "x", "-1", "0"] {
            fs::write(&path, text).unwrap();
            assert!(read_pid(&path).is_err(), "{text:?}");
        }
        fs::write(&path, "42\n").unwrap();
        assert_eq!(read_pid(&path).unwrap(), 42);
    }
}
