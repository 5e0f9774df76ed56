//! How a command and the process that it makes talk until that process is a guest.
//!
//! Turns go over a socket that ends with the exec: the child says what it has done and waits. How it ended goes over a
//! pipe that the guest process inherits and closes once its program is loaded: one [`Report`], or nothing if it died.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;

use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use serde::{Deserialize, Serialize};
use wisp_contract::plan::{Preopen, Report};

/// What the child says.
#[derive(Debug, Serialize, Deserialize)]
pub enum Said {
    /// The container's mounts are made and its root not yet entered; it waits.
    Mounted,
    /// The guest's preopens, and the root of its tree by the number that it has in the guest process.
    View {
        /// The tree's root.
        tree: RawFd,
        /// The preopens.
        preopens: Vec<Preopen>,
    },
}

/// The parent's ends.
#[derive(Debug)]
pub struct Parent {
    turns: UnixDatagram,
    report: File,
}

/// The child's ends.
#[derive(Debug)]
pub struct Child {
    turns: UnixDatagram,
    /// For the plan, or for a failure before it.
    pub report: OwnedFd,
}

/// Makes both channels.
///
/// # Errors
/// The kernel's.
pub fn pair() -> io::Result<(Parent, Child)> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    let parent = Parent { turns: ours.into(), report: read.into() };
    Ok((parent, Child { turns: theirs.into(), report: write }))
}

impl Parent {
    /// Lets the child go on. That it has ended is told with its reason by [`Parent::ended_well`].
    ///
    /// # Errors
    /// The kernel's.
    pub fn go(&self) -> io::Result<()> {
        match self.turns.send(b"go") {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            done => done.map(drop),
        }
    }

    /// What the child says next; `None` once it has become its program or has ended.
    ///
    /// # Errors
    /// If it makes no sense.
    pub fn hear(&self) -> Result<Option<Said>> {
        let mut message = vec![0; self.next_length()?];
        if message.is_empty() {
            return Ok(None);
        }
        self.turns.recv(&mut message)?;
        Ok(Some(serde_json::from_slice(&message)?))
    }

    /// Waits for the next message, and tells its length without taking it; none has the length 0.
    fn next_length(&self) -> io::Result<usize> {
        match recv(&self.turns, &mut [0; 0], RecvFlags::PEEK | RecvFlags::TRUNC) {
            Ok((_, length)) => Ok(length),
            Err(Errno::CONNRESET) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for the report of a guest process, or for a native program's exec.
    ///
    /// # Errors
    /// With the sentence that the child gave, or that it died without one.
    pub fn ended_well(mut self, wants_report: bool) -> Result<()> {
        let mut bytes = Vec::new();
        self.report.read_to_end(&mut bytes)?;
        if bytes.is_empty() && !wants_report {
            return Ok(());
        }
        if bytes.is_empty() {
            bail!(
                "the guest process ended before its program was loaded; the container's memory limit may be too low for it"
            );
        }
        match serde_json::from_slice(&bytes).context("the guest process's report")? {
            Report::Ready => Ok(()),
            Report::Failed(why) => bail!("{why}"),
        }
    }
}

impl Child {
    /// Waits for the parent; an error if it has ended.
    ///
    /// # Errors
    /// If the parent has ended.
    pub fn wait(&self) -> Result<()> {
        match self.turns.recv(&mut [0; 2]) {
            Ok(2) => Ok(()),
            Ok(_) => bail!("the command that made this process has ended"),
            Err(error) => Err(error).context("the command that made this process has ended"),
        }
    }

    /// Says something to the parent.
    ///
    /// # Errors
    /// If the parent has ended.
    pub fn say(&self, said: &Said) -> Result<()> {
        let message = serde_json::to_vec(said)?;
        self.turns.send(&message).map(drop).context("the command that made this process has ended")
    }

    /// Reports why there will be no program.
    pub fn fail(self, error: &anyhow::Error) {
        let report = serde_json::to_vec(&Report::Failed(format!("{error:#}"))).unwrap_or_default();
        File::from(self.report).write_all(&report).ok();
    }
}
