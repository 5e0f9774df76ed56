//! Which digests programs had, so that a program that was read once is not read at each start: it is known by its file's identity.
//!
//! This is for files of overlays, as containers' roots are. The number and times that an overlay tells of a file are those of the file
//! in the image's layer, or of the container's own copy of it; that of its last change is the kernel's, and nobody can choose it, where
//! the layers are of a file system that keeps it so ([`overlay`]). The file system of a volume may tell what it likes. An overlay's
//! device number says nothing: each mount takes one that is free.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use wisp_contract::digest::Digest;

use crate::store::write_whole;
use crate::{key, overlay};

/// How long a file must have been as it is. Times of files go in steps of milliseconds: what is written within one is not seen by them.
const SETTLED: Duration = Duration::from_secs(2);
/// The most digests that are kept.
const MOST: usize = 1024;

/// The folder of digests: one file for each program, named by the identity of its file.
#[derive(Debug)]
pub(crate) struct Memo {
    dir: PathBuf,
}

impl Memo {
    pub(crate) fn new(run: &Path) -> Self {
        Self { dir: run.join("digests") }
    }

    /// The SHA-256 of a program's file.
    pub(crate) fn digest(&self, file: &mut File) -> io::Result<[u8; 32]> {
        let Some(identity) = identity(file) else { return key::digest(file) };
        if let Some(known) = self.read(&identity) {
            return Ok(known);
        }
        let digest = key::digest(file)?;
        // It may have been written while it was read.
        if self::identity(file).is_some_and(|now| now == identity) {
            // What is not noted is read again.
            self.note(&identity, digest).ok();
        }
        Ok(digest)
    }

    fn read(&self, identity: &str) -> Option<[u8; 32]> {
        let digest: Digest = fs::read_to_string(self.dir.join(identity)).ok()?.parse().ok()?;
        Some(digest.0)
    }

    fn note(&self, identity: &str, digest: [u8; 32]) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        if fs::read_dir(&self.dir)?.count() >= MOST {
            fs::remove_dir_all(&self.dir)?;
            fs::create_dir_all(&self.dir)?;
        }
        write_whole(&self.dir, identity, |file| write!(file, "{}", Digest(digest)))
    }
}

/// What changes when a file's content does, and when it is another file; `None` where that is not to be told, also by a kernel that
/// does not answer, because the file can still be read.
fn identity(file: &File) -> Option<String> {
    let meta = file.metadata().ok()?;
    if !is_settled(&meta) || !overlay::is_of_kernels_layers(file).ok()? {
        return None;
    }
    let (number, size) = (meta.ino(), meta.size());
    let modified = format!("{}.{}", meta.mtime(), meta.mtime_nsec());
    let changed = format!("{}.{}", meta.ctime(), meta.ctime_nsec());
    Some(format!("{number}-{size}-{modified}-{changed}"))
}

fn is_settled(meta: &fs::Metadata) -> bool {
    let changed =
        u64::try_from(meta.ctime()).ok().map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
    changed.and_then(|changed| changed.elapsed().ok()).is_some_and(|age| age > SETTLED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_known_again_by_the_identity_alone() {
        let run = tempfile::tempdir().unwrap();
        let memo = Memo::new(run.path());
        assert_eq!(memo.read("1-2-3.4-5.6"), None);
        memo.note("1-2-3.4-5.6", [7; 32]).unwrap();
        assert_eq!(memo.read("1-2-3.4-5.6"), Some([7; 32]));
        assert_eq!(memo.read("1-2-3.4-5.7"), None);
    }

    #[test]
    fn there_are_never_more_than_a_thousand() {
        let run = tempfile::tempdir().unwrap();
        let memo = Memo::new(run.path());
        fs::create_dir(&memo.dir).unwrap();
        for file in 0..MOST {
            fs::write(memo.dir.join(file.to_string()), "").unwrap();
        }
        memo.note("1-2-3.4-5.6", [7; 32]).unwrap();
        assert_eq!(fs::read_dir(&memo.dir).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_of_no_overlay_is_read_each_time() {
        let (run, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir_in("/dev/shm").unwrap());
        let path = folder.path().join("app.wasm");
        fs::write(&path, "a program").unwrap();
        let memo = Memo::new(run.path());
        memo.digest(&mut File::open(path).unwrap()).unwrap();
        assert!(!memo.dir.exists());
    }
}
