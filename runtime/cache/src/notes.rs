//! Why a compile failed, for those who waited for it and did not start it, and for the next who asks if nobody waited.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::key::Key;
use crate::store::write_whole;

/// How long a failure that nobody has heard is told.
const TOLD_FOR: Duration = Duration::from_secs(600);

/// The folder of notes: one file for each program whose last compile failed, which does not outlive a boot.
#[derive(Debug)]
pub(crate) struct Notes {
    dir: PathBuf,
}

impl Notes {
    pub(crate) fn new(run: &Path) -> Self {
        Self { dir: run.join("compile.failed") }
    }

    /// Notes a failure, `heard` if somebody waited for it. One that cannot be noted costs only a compile.
    pub(crate) fn write(&self, key: &Key, failure: &str, heard: bool) {
        let mark = if heard { "heard" } else { "unheard" };
        let write = |file: &mut File| write!(file, "{mark} {failure}");
        fs::create_dir_all(&self.dir).and_then(|()| write_whole(&self.dir, key.as_str(), write)).ok();
    }

    /// The failure, for one who waited.
    pub(crate) fn read(&self, key: &Key) -> Option<String> {
        let text = fs::read_to_string(self.dir.join(key.as_str())).ok()?;
        text.split_once(' ').map(|(_, failure)| failure.to_owned())
    }

    /// The failure, for one who comes later: only if nobody has heard it, and only once.
    pub(crate) fn take_unheard(&self, key: &Key) -> Option<String> {
        let path = self.dir.join(key.as_str());
        let text = fs::read_to_string(&path).ok()?;
        let fresh = path
            .metadata()
            .and_then(|meta| meta.modified())
            .is_ok_and(|at| at.elapsed().is_ok_and(|age| age < TOLD_FOR));
        fs::remove_file(&path).ok();
        text.strip_prefix("unheard ").filter(|_| fresh).map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_to_those_who_waited_and_once_to_the_next_if_nobody_did() {
        let (run, compiler) = (tempfile::tempdir().unwrap(), tempfile::NamedTempFile::new().unwrap());
        let key = Key::of(&[1; 32], compiler.path()).unwrap();
        let notes = Notes::new(run.path());
        assert_eq!(notes.take_unheard(&key), None);
        notes.write(&key, "too big", true);
        assert_eq!(notes.read(&key).as_deref(), Some("too big"));
        assert_eq!(notes.take_unheard(&key), None);
        notes.write(&key, "too big", false);
        assert_eq!(notes.take_unheard(&key).as_deref(), Some("too big"));
        assert_eq!(notes.take_unheard(&key), None);
    }
}
