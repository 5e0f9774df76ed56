//! One compile at a time for a key, over all processes of the node.
//!
//! The lock is one byte of one file, at an offset that the key gives: an open-file-description lock, which ends with its
//! holder however that ends, and leaves nothing behind.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use crate::key::Key;

/// Held while one compiles.
#[derive(Debug)]
pub(crate) struct Turn {
    _file: File,
}

/// Waits until nobody compiles what `key` names.
pub(crate) fn turn(run: &Path, key: &Key) -> io::Result<Turn> {
    fs::create_dir_all(run)?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(run.join("compile.lock"))?;
    let lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: i64::try_from(key.number()).unwrap_or(0),
        l_len: 1,
        l_pid: 0,
    };
    loop {
        // SAFETY: the descriptor is open and `lock` is a valid flock for the whole call.
        match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLKW, &lock) } {
            0 => return Ok(Turn { _file: file }),
            _ => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_second_waits_for_the_first_and_another_key_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let compiler = tempfile::NamedTempFile::new().unwrap();
        let key = |program| Key::of(&[program; 32], compiler.path()).unwrap();
        let first = turn(dir.path(), &key(1)).unwrap();
        drop(turn(dir.path(), &key(2)).unwrap());
        let (tell, told) = mpsc::channel();
        let (run, same) = (dir.path().to_owned(), key(1));
        let second = std::thread::spawn(move || {
            let turn = turn(&run, &same);
            tell.send("second").unwrap();
            turn.unwrap();
        });
        assert!(told.try_recv().is_err(), "the second went on while the first had its turn");
        drop(first);
        assert_eq!(told.recv().unwrap(), "second");
        second.join().unwrap();
    }
}
