//! Opening fifos without ever waiting in the kernel for the other side.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags, fcntl_getfl, fcntl_setfl, fstat, open};
use rustix::io::Errno;
use tokio::time::{Instant, sleep};
use tracing::warn;

use crate::error::{Context, Result};

/// How long a client may take to open the read end of a process's output. It nearly always has, before it asks for the
/// process to be made.
const READER: Duration = Duration::from_secs(10);
/// How often to look whether a client has come, or has read: the kernel tells nobody.
pub(super) const LOOK: Duration = Duration::from_millis(1);

/// Opens both ends of a process's stdin; the write end is for the shim to hold, and is absent where stdin is no fifo.
pub(super) fn open_stdin(path: &Path) -> Result<(OwnedFd, Option<OwnedFd>)> {
    let reader = open_end(path, OFlags::RDONLY).context(|| opening(path))?;
    let writer = if is_fifo(&reader)? {
        Some(open_end(path, OFlags::WRONLY).context(|| opening(path))?)
    } else {
        None
    };
    Ok((reader, writer))
}

/// Opens both ends of a process's output; the read end is for the shim to hold, and is absent where the path is no fifo.
///
/// The client's read end has to be there first: a client that opened it only after a short-lived process had written and
/// gone would wait for ever.
pub(super) async fn open_output(path: &Path) -> Result<(OwnedFd, Option<OwnedFd>)> {
    let end = Instant::now() + READER;
    let mut reader = None;
    let writer = loop {
        match open_end(path, OFlags::WRONLY | OFlags::APPEND) {
            Err(Errno::NXIO) if Instant::now() < end => sleep(LOOK).await,
            Err(Errno::NXIO) => {
                warn!(path = %path.display(), "nobody reads a process's output; it runs all the same");
                reader = Some(open_end(path, OFlags::RDONLY).context(|| opening(path))?);
            }
            other => break other.context(|| opening(path))?,
        }
    };
    if reader.is_none() && is_fifo(&writer)? {
        reader = Some(open_end(path, OFlags::RDONLY).context(|| opening(path))?);
    }
    Ok((writer, reader))
}

/// Makes reads or writes wait, as every program expects of its stdio.
pub(super) fn block(fd: &OwnedFd) -> Result<()> {
    let flags = fcntl_getfl(fd).context(|| "reading a pipe's flags".to_owned())?;
    fcntl_setfl(fd, flags - OFlags::NONBLOCK).context(|| "changing a pipe's flags".to_owned())
}

fn open_end(path: &Path, side: OFlags) -> rustix::io::Result<OwnedFd> {
    open(path, side | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())
}

fn is_fifo(fd: &OwnedFd) -> Result<bool> {
    let stat = fstat(fd).context(|| "looking at a pipe".to_owned())?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Fifo)
}

fn opening(path: &Path) -> String {
    format!("opening {}", path.display())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};

    use rustix::fs::{CWD, mknodat};

    use super::*;

    fn fifo(dir: &tempfile::TempDir) -> std::path::PathBuf {
        let path = dir.path().join("fifo");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        path
    }

    #[tokio::test]
    async fn a_reader_that_comes_late_is_waited_for_and_gets_everything() {
        let dir = tempfile::tempdir().unwrap();
        let path = fifo(&dir);
        let client = std::thread::spawn({
            let path = path.clone();
            move || {
                let mut text = String::new();
                File::open(path).unwrap().read_to_string(&mut text).unwrap();
                text
            }
        });
        let (writer, keeper) = open_output(&path).await.unwrap();
        block(&writer).unwrap();
        let mut writer = File::from(writer);
        writer.write_all(b"all of it").unwrap();
        drop(writer);
        assert_eq!(
            client.join().unwrap(),
            "all of it",
            "the end is seen although the shim holds its read end"
        );
        assert!(keeper.is_some());
    }

    #[test]
    fn stdin_ends_when_both_the_client_and_the_shim_have_closed_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = fifo(&dir);
        let (reader, held) = open_stdin(&path).unwrap();
        let mut client = File::options().write(true).open(&path).unwrap();
        client.write_all(b"x").unwrap();
        drop(client);
        let mut reader = File::from(reader);
        let mut byte = [0];
        assert_eq!(reader.read(&mut byte).unwrap(), 1);
        assert_eq!(reader.read(&mut byte).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        drop(held);
        assert_eq!(reader.read(&mut byte).unwrap(), 0);
    }
}
