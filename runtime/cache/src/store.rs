//! The folder of compiled code: `KEY.code` beside `KEY.json`, the facts and the code's digest.
//!
//! An entry is written under another name and renamed into place, code first; it is never written again, only unlinked,
//! because running guests map it. It is checked in full at its first use after a boot and by its file's identity after
//! that; what does not match is reported and compiled again.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{StatVfsMountFlags, fstatvfs};
use serde::{Deserialize, Serialize};
use tracing::warn;
use wisp_contract::facts::Facts;

use crate::key::{Key, digest, hex};
use crate::{Compiled, each_chunk, in_memory};

/// How old the note of an entry's last use may be before a use renews it: the order of eviction need not be finer.
const USE_GRANULARITY: Duration = Duration::from_secs(3600);

/// The folder.
#[derive(Debug)]
pub(crate) struct Store {
    dir: PathBuf,
    /// One file for each entry that was checked in full since the boot; it holds the identity of the code's file.
    checked: PathBuf,
    max_bytes: u64,
}

/// `KEY.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    code_sha256: String,
    facts: Facts,
}

/// Why an entry is not to be used.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error("its facts cannot be read: {0}")]
    Facts(#[from] serde_json::Error),
    #[error("its code is not what was compiled")]
    Altered,
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Store {
    pub(crate) fn new(dir: &Path, run: &Path, max_bytes: u64) -> Self {
        Self { dir: dir.into(), checked: run.join("checked"), max_bytes }
    }

    /// The entry, if it is there and whole. One that is there and not whole is reported and removed.
    pub(crate) fn get(&self, key: &Key) -> Option<Compiled> {
        match self.read(key) {
            Ok(compiled) => compiled,
            Err(why) => {
                warn!(key = key.as_str(), "compiled code in {} is compiled again: {why}", self.dir.display());
                self.remove(key);
                None
            }
        }
    }

    /// The facts of an entry that is there; whether its code is whole is not asked.
    pub(crate) fn peek(&self, key: &Key) -> Option<Facts> {
        let note: Note = serde_json::from_slice(&fs::read(self.note_path(key)).ok()?).ok()?;
        self.code_path(key).exists().then_some(note.facts)
    }

    fn read(&self, key: &Key) -> Result<Option<Compiled>, Unfit> {
        let note = match fs::read(self.note_path(key)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let note: Note = serde_json::from_slice(&note)?;
        let mut code = match File::open(self.code_path(key)) {
            Ok(code) => code,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Unfit::Altered),
            Err(error) => return Err(error.into()),
        };
        self.check(key, &note, &mut code)?;
        self.touch(key);
        Ok(Some(Compiled { code: mappable(code)?, facts: note.facts }))
    }

    /// Checks the code's bytes, unless this very file was checked since the boot.
    fn check(&self, key: &Key, note: &Note, code: &mut File) -> Result<(), Unfit> {
        let identity = identity(code)?;
        let mark = self.checked.join(key.as_str());
        if fs::read(&mark).is_ok_and(|seen| seen == identity.as_bytes()) {
            return Ok(());
        }
        if code.metadata()?.len() != note.facts.code_bytes || hex(&digest(code)?) != note.code_sha256 {
            return Err(Unfit::Altered);
        }
        self.mark(key, &identity);
        Ok(())
    }

    fn mark(&self, key: &Key, identity: &str) {
        let written = fs::create_dir_all(&self.checked).and_then(|()| {
            write_whole(&self.checked, key.as_str(), |file| file.write_all(identity.as_bytes()))
        });
        if let Err(error) = written {
            warn!("compiled code is checked in full at each start: {}: {error}", self.checked.display());
        }
    }

    /// Keeps what was compiled.
    ///
    /// # Errors
    /// A warning for an administrator: what cannot be kept is used all the same, from memory.
    pub(crate) fn put(&self, key: &Key, compiled: &mut Compiled) -> Result<(), String> {
        self.write(key, compiled).map_err(|error| {
            format!(
                "compiled code is not kept and each start compiles again: {}: {error}",
                self.dir.display()
            )
        })
    }

    fn write(&self, key: &Key, compiled: &mut Compiled) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        fs::set_permissions(&self.dir, Permissions::from_mode(0o700))?;
        self.evict(compiled.facts.code_bytes);
        let sha256 = hex(&digest(&mut compiled.code)?);
        let code = &mut compiled.code;
        write_whole(&self.dir, &code_name(key), |file| each_chunk(code, |chunk| file.write_all(chunk)))?;
        let note = serde_json::to_vec(&Note { code_sha256: sha256, facts: compiled.facts.clone() })
            .map_err(io::Error::other)?;
        write_whole(&self.dir, &note_name(key), |file| file.write_all(&note))?;
        let code = File::open(self.code_path(key))?;
        self.mark(key, &identity(&code)?);
        Ok(())
    }

    /// Makes room for `wanted` bytes; what was used longest ago goes first.
    fn evict(&self, wanted: u64) {
        let mut entries = self.entries();
        let mut total: u64 = entries.iter().map(|entry| entry.bytes).sum();
        entries.sort_by_key(|entry| entry.used);
        for entry in entries {
            if total.saturating_add(wanted) <= self.max_bytes {
                break;
            }
            total -= entry.bytes;
            for name in [format!("{}.json", entry.stem), format!("{}.code", entry.stem)] {
                fs::remove_file(self.dir.join(name)).ok();
            }
            fs::remove_file(self.checked.join(&entry.stem)).ok();
        }
    }

    fn entries(&self) -> Vec<Kept> {
        let Ok(files) = fs::read_dir(&self.dir) else { return Vec::new() };
        files
            .filter_map(|file| {
                let path = file.ok()?.path();
                let stem = path.file_name()?.to_str()?.strip_suffix(".code")?.to_owned();
                let bytes = path.metadata().ok()?.len();
                let used = path.with_extension("json").metadata().and_then(|note| note.modified());
                Some(Kept { stem, bytes, used: used.unwrap_or(SystemTime::UNIX_EPOCH) })
            })
            .collect()
    }

    fn touch(&self, key: &Key) {
        let path = self.note_path(key);
        let stale = |used: SystemTime| used.elapsed().is_ok_and(|age| age > USE_GRANULARITY);
        if path.metadata().and_then(|note| note.modified()).is_ok_and(stale) {
            let now = SystemTime::now();
            File::options().write(true).open(&path).and_then(|note| note.set_modified(now)).ok();
        }
    }

    fn remove(&self, key: &Key) {
        for path in [self.note_path(key), self.code_path(key), self.checked.join(key.as_str())] {
            fs::remove_file(path).ok();
        }
    }

    fn code_path(&self, key: &Key) -> PathBuf {
        self.dir.join(code_name(key))
    }

    fn note_path(&self, key: &Key) -> PathBuf {
        self.dir.join(note_name(key))
    }
}

/// One entry, as eviction sees it.
struct Kept {
    stem: String,
    bytes: u64,
    used: SystemTime,
}

fn code_name(key: &Key) -> String {
    format!("{}.code", key.as_str())
}

fn note_name(key: &Key) -> String {
    format!("{}.json", key.as_str())
}

/// What changes when a file's content does, when it is another file, and at every boot.
fn identity(file: &File) -> io::Result<String> {
    let meta = file.metadata()?;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(format!(
        "{} {}:{} {} {}.{} {}.{}",
        boot.trim(),
        meta.dev(),
        meta.ino(),
        meta.size(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ctime(),
        meta.ctime_nsec()
    ))
}

/// Writes a file that is there whole or not at all.
pub(crate) fn write_whole(
    dir: &Path,
    name: &str,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let temporary = dir.join(format!(".{name}.{}", std::process::id()));
    let written = File::create(&temporary)
        .and_then(|mut file| write(&mut file).map(|()| file))
        // Guests of any user map it: the folder, which only root enters, is what keeps others out.
        .and_then(|file| file.set_permissions(Permissions::from_mode(0o444)))
        .and_then(|()| fs::rename(&temporary, dir.join(name)));
    if written.is_err() {
        fs::remove_file(&temporary).ok();
    }
    written
}

/// The code in a file that may be mapped as code: a copy in memory where the folder is mounted `noexec`.
fn mappable(mut code: File) -> io::Result<File> {
    if !fstatvfs(code.as_fd())?.f_flag.contains(StatVfsMountFlags::NOEXEC) {
        return Ok(code);
    }
    warn!("compiled code is copied for each pod and not shared: the cache's folder is mounted noexec");
    let mut copy = in_memory("wisp-code")?;
    each_chunk(&mut code, |chunk| copy.write_all(chunk))?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};

    use super::*;

    struct Bed {
        dir: tempfile::TempDir,
        compiler: tempfile::NamedTempFile,
    }

    impl Bed {
        fn new() -> Self {
            Self { dir: tempfile::tempdir().unwrap(), compiler: tempfile::NamedTempFile::new().unwrap() }
        }

        fn store(&self, max_bytes: u64) -> Store {
            Store::new(&self.dir.path().join("cache"), &self.dir.path().join("run"), max_bytes)
        }

        fn key(&self, program: u8) -> Key {
            Key::of(&[program; 32], self.compiler.path()).unwrap()
        }
    }

    fn compiled(bytes: &[u8]) -> Compiled {
        let mut code = in_memory("test").unwrap();
        code.write_all(bytes).unwrap();
        let facts = serde_json::json!({
            "kind": "module", "profile": "fast", "wasmtime": "48", "imports": [], "exports": [], "memories": [],
            "wasm_bytes": 8, "code_bytes": bytes.len(),
        });
        let facts = serde_json::from_value(facts).unwrap();
        Compiled { code, facts }
    }

    fn bytes(mut compiled: Compiled) -> Vec<u8> {
        let mut bytes = Vec::new();
        compiled.code.rewind().unwrap();
        compiled.code.read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_is_put_is_got_by_its_key_alone() {
        let bed = Bed::new();
        let store = bed.store(1 << 20);
        assert!(store.get(&bed.key(1)).is_none());
        store.put(&bed.key(1), &mut compiled(b"code")).unwrap();
        assert_eq!(bytes(store.get(&bed.key(1)).unwrap()), b"code");
        assert!(store.get(&bed.key(2)).is_none());
    }

    #[test]
    fn an_altered_or_truncated_entry_is_not_used_and_is_removed() {
        for altered in [&b"codE"[..], b"cod"] {
            let bed = Bed::new();
            let store = bed.store(1 << 20);
            store.put(&bed.key(1), &mut compiled(b"code")).unwrap();
            let path = store.code_path(&bed.key(1));
            fs::remove_file(&path).unwrap();
            fs::write(&path, altered).unwrap();
            assert!(store.get(&bed.key(1)).is_none());
            assert!(!path.exists());
        }
    }

    #[test]
    fn after_a_boot_an_entry_is_checked_in_full_again() {
        let bed = Bed::new();
        let store = bed.store(1 << 20);
        store.put(&bed.key(1), &mut compiled(b"code")).unwrap();
        fs::remove_dir_all(&store.checked).unwrap();
        assert!(store.get(&bed.key(1)).is_some());
        assert!(store.checked.join(bed.key(1).as_str()).exists(), "the check was not noted");
    }

    #[test]
    fn the_entry_used_longest_ago_makes_room() {
        let bed = Bed::new();
        let store = bed.store(10);
        for (program, age) in [(1, 300), (2, 200)] {
            store.put(&bed.key(program), &mut compiled(b"code")).unwrap();
            let note = File::options().write(true).open(store.note_path(&bed.key(program))).unwrap();
            note.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        }
        store.put(&bed.key(3), &mut compiled(b"code")).unwrap();
        assert!(store.get(&bed.key(1)).is_none());
        assert!(store.get(&bed.key(2)).is_some() && store.get(&bed.key(3)).is_some());
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named_in_a_warning() {
        let bed = Bed::new();
        fs::write(bed.dir.path().join("cache"), "a file where a folder should be").unwrap();
        let store = bed.store(1 << 20);
        let warning = store.put(&bed.key(1), &mut compiled(b"code")).unwrap_err();
        assert!(warning.contains("is not kept") && warning.contains("cache"), "{warning}");
    }
}
