//! Who compiles and who waits, over all processes of the node.
//!
//! Each lock is one byte of one file, at an offset that the key gives: an open-file-description lock (`fcntl(2)`), which its
//! holder's children share, which ends with the last of them however that ends, and which leaves nothing behind.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use crate::key::Key;

/// Where the bytes of waiters are, above those of compiles: a key's number has 60 bits.
const WAITERS: u64 = 1 << 60;
/// Where the bytes of places are.
const PLACES: u64 = 1 << 61;

/// Held while one compiles what a key names.
#[derive(Debug)]
pub(crate) struct Turn(File);

impl Turn {
    /// Takes the turn, if nobody has it.
    pub(crate) fn take(run: &Path, key: &Key) -> io::Result<Option<Self>> {
        let file = open(run)?;
        Ok(try_lock(&file, libc::F_WRLCK, key.number())?.then_some(Self(file)))
    }

    /// Waits until nobody has the turn.
    pub(crate) fn ended(run: &Path, key: &Key) -> io::Result<()> {
        // Shared, so that all who wait go on at once.
        wait_lock(&open(run)?, libc::F_RDLCK, key.number())
    }
}

impl AsRawFd for Turn {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}

/// Held while somebody waits for what a key names.
#[derive(Debug)]
pub(crate) struct Waiting {
    _file: File,
}

impl Waiting {
    pub(crate) fn announce(run: &Path, key: &Key) -> io::Result<Self> {
        let file = open(run)?;
        wait_lock(&file, libc::F_RDLCK, WAITERS + key.number())?;
        Ok(Self { _file: file })
    }

    /// Whether anybody does.
    pub(crate) fn anyone(run: &Path, key: &Key) -> io::Result<bool> {
        let mut lock = byte(libc::F_WRLCK, WAITERS + key.number());
        fcntl(&open(run)?, libc::F_OFD_GETLK, &mut lock)?;
        Ok(lock.l_type != libc::F_UNLCK as libc::c_short)
    }
}

/// Held while one compiles at all.
#[derive(Debug)]
pub(crate) struct Place {
    _file: File,
}

impl Place {
    /// Takes one of `count` places, if one is free.
    pub(crate) fn take(run: &Path, count: u32) -> io::Result<Option<Self>> {
        for place in 0..u64::from(count.max(1)) {
            let file = open(run)?;
            if try_lock(&file, libc::F_WRLCK, PLACES + place)? {
                return Ok(Some(Self { _file: file }));
            }
        }
        Ok(None)
    }
}

fn open(run: &Path) -> io::Result<File> {
    fs::create_dir_all(run)?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).open(run.join("compile.lock"))
}

fn byte(kind: libc::c_int, at: u64) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: at.cast_signed(),
        l_len: 1,
        l_pid: 0,
    }
}

fn try_lock(file: &File, kind: libc::c_int, at: u64) -> io::Result<bool> {
    match fcntl(file, libc::F_OFD_SETLK, &mut byte(kind, at)) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        Err(error) => Err(error),
    }
}

fn wait_lock(file: &File, kind: libc::c_int, at: u64) -> io::Result<()> {
    fcntl(file, libc::F_OFD_SETLKW, &mut byte(kind, at))
}

fn fcntl(file: &File, command: libc::c_int, lock: &mut libc::flock) -> io::Result<()> {
    loop {
        // SAFETY: the descriptor is open and `lock` is a valid flock for the whole call.
        if unsafe { libc::fcntl(file.as_raw_fd(), command, std::ptr::from_mut(lock)) } == 0 {
            return Ok(());
        }
        match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => {}
            error => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    struct Bed {
        run: tempfile::TempDir,
        compiler: tempfile::NamedTempFile,
    }

    impl Bed {
        fn new() -> Self {
            Self { run: tempfile::tempdir().unwrap(), compiler: tempfile::NamedTempFile::new().unwrap() }
        }

        fn key(&self, program: u8) -> Key {
            Key::of(&[program; 32], self.compiler.path()).unwrap()
        }
    }

    #[test]
    fn one_key_has_one_turn_and_its_end_is_waited_for() {
        let bed = Bed::new();
        let run = bed.run.path();
        let first = Turn::take(run, &bed.key(1)).unwrap().unwrap();
        assert!(Turn::take(run, &bed.key(1)).unwrap().is_none());
        assert!(Turn::take(run, &bed.key(2)).unwrap().is_some());
        let (tell, told) = mpsc::channel();
        let (folder, key) = (run.to_owned(), bed.key(1));
        let second = std::thread::spawn(move || {
            Turn::ended(&folder, &key).unwrap();
            tell.send("ended").unwrap();
        });
        assert!(told.try_recv().is_err(), "the turn ended while it was held");
        drop(first);
        assert_eq!(told.recv().unwrap(), "ended");
        second.join().unwrap();
    }

    #[test]
    fn it_is_known_whether_anybody_waits() {
        let bed = Bed::new();
        let run = bed.run.path();
        assert!(!Waiting::anyone(run, &bed.key(1)).unwrap());
        let waiting = [1, 1].map(|program| Waiting::announce(run, &bed.key(program)).unwrap());
        assert!(Waiting::anyone(run, &bed.key(1)).unwrap());
        assert!(!Waiting::anyone(run, &bed.key(2)).unwrap());
        drop(waiting);
        assert!(!Waiting::anyone(run, &bed.key(1)).unwrap());
    }

    #[test]
    fn there_are_only_so_many_places() {
        let bed = Bed::new();
        let places = [2, 2].map(|count| Place::take(bed.run.path(), count).unwrap().unwrap());
        assert!(Place::take(bed.run.path(), 2).unwrap().is_none());
        drop(places);
        assert!(Place::take(bed.run.path(), 2).unwrap().is_some());
    }
}
