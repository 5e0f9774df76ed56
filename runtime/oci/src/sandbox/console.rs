//! A container's terminal: made in its own devpts, its master sent to whoever asked for it.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result};
use oci_spec::runtime::Box as Size;
use rustix::fs::{Mode, OFlags, open};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::pty::{OpenptFlags, ptsname, unlockpt};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::termios::{Winsize, tcsetwinsize};

use super::mount_api::{Place, attach, clone_mount, make_below};

/// Connects to the socket that will receive the terminal.
///
/// # Errors
/// If nobody listens.
pub fn connect(socket: &Path) -> Result<UnixStream> {
    UnixStream::connect(socket).with_context(|| format!("the console socket {}", socket.display()))
}

/// Opens a terminal in the container's /dev/pts, makes it this session's and its stdio, and sends the master away.
///
/// # Errors
/// With what failed.
pub fn open_terminal(socket: &UnixStream, size: Option<&Size>, device: bool) -> Result<()> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = open("/dev/pts/ptmx", flags, Mode::empty())
        .or_else(|_| rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC))
        .context("a terminal needs a devpts at /dev/pts")?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?;
    let slave = open(name.as_c_str(), OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .with_context(|| format!("the terminal {name:?}"))?;
    if let Some(size) = size {
        let cells = |count: u64| u16::try_from(count).unwrap_or(u16::MAX);
        let (ws_row, ws_col) = (cells(size.height()), cells(size.width()));
        tcsetwinsize(&slave, Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 })?;
    }
    if device {
        let root = super::mount_api::open_path(Path::new("/"))?;
        let place = make_below(root, Path::new("/dev/console"), Place::File)?;
        let path = Path::new(name.to_str().unwrap_or_default());
        attach(clone_mount(rustix::fs::CWD, path, false)?, place).context("/dev/console")?;
    }
    send(socket, &master, name.as_bytes()).context("the console socket does not take the terminal")?;
    rustix::process::ioctl_tiocsctty(&slave).context("the terminal cannot be the session's")?;
    dup2_stdin(&slave)?;
    dup2_stdout(&slave)?;
    dup2_stderr(&slave)?;
    Ok(())
}

/// Gives the terminal to the process's user, as login(1) does.
///
/// # Errors
/// The kernel's.
pub fn own_terminal(uid: u32) -> Result<()> {
    let owner = rustix::fs::Uid::from_raw(uid);
    Ok(rustix::fs::fchown(std::io::stdin().as_fd(), Some(owner), None)?)
}

fn send(socket: &UnixStream, master: &OwnedFd, name: &[u8]) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let rights = [master.as_fd()];
    ancillary.push(SendAncillaryMessage::ScmRights(&rights));
    sendmsg(socket, &[IoSlice::new(name)], &mut ancillary, SendFlags::empty())?;
    Ok(())
}
