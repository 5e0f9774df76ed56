//! One process of a container: its first one, or one that was added by exec.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::io::{Io, Stdio};
use crate::reaper::Exit;

/// A process that lives no longer than this may have ended before its client was ready to read what it said.
const BRIEF: Duration = Duration::from_secs(1);
/// How long such a client may hold up the process's exit.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where a process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Made and not started; an exec has no process yet.
    Created,
    /// Started.
    Running,
    /// Being frozen.
    Pausing,
    /// Frozen, with its container.
    Paused,
    /// Ended.
    Stopped,
    /// Ended and deleted.
    Deleted,
}

impl Phase {
    fn adjective(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running | Self::Pausing => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Deleted => "deleted",
        }
    }

    /// The refusal to do something to a process in this phase.
    pub(super) fn refuses(self, what: &str) -> Error {
        Error::unknown(format!("cannot {what} a {} process", self.adjective()))
    }
}

/// A process.
#[derive(Debug)]
pub(crate) struct Process {
    /// The exec's id; for the first process, the container's.
    pub id: String,
    /// Where its stdio leads.
    pub stdio: Stdio,
    /// Held during each step of its life, so that steps and their events keep their order.
    pub step: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    exit: watch::Sender<Option<Exit>>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    pid: u32,
    pidfd: Option<OwnedFd>,
    io: Option<Io>,
    /// When it was born, until it is asked to end.
    undisturbed_since: Option<Instant>,
}

impl Process {
    /// A process that is not there yet.
    pub(super) fn new(id: &str, stdio: Stdio) -> Self {
        let state = State { phase: Phase::Created, pid: 0, pidfd: None, io: None, undisturbed_since: None };
        Self {
            id: id.to_owned(),
            stdio,
            step: Default::default(),
            state: Mutex::new(state),
            exit: watch::Sender::new(None),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process is there.
    pub(super) fn born(&self, pid: i32, io: Io) {
        let mut state = self.state();
        state.pid = pid.cast_unsigned();
        // Without one (the process has ended already), signals find nobody, which is then true.
        state.pidfd = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        state.io = Some(io);
        state.undisturbed_since = Some(Instant::now());
    }

    /// It is about to be sent a signal, of which a client wants to see the effect at once.
    pub(super) fn expect_end(&self) {
        self.state().undisturbed_since = None;
    }

    /// Waits, if it lived briefly and ended by itself, until its output has been read. A client that hears of the exit
    /// before it has come to read gives up reading (containerd's `fifo`, whose opening is cancelled by the exit), and what
    /// the process said would be lost. A client that reads later, or not at all, holds up no exit for long.
    pub(super) async fn brief_output_is_read(&self) {
        let output = {
            let state = self.state();
            let was_brief = state.undisturbed_since.is_some_and(|born| born.elapsed() < BRIEF);
            state.io.as_ref().filter(|_| was_brief).map(Io::output)
        };
        if let Some(output) = output {
            output.read(PATIENCE).await;
        }
    }

    /// Where it is in its life.
    pub(super) fn phase(&self) -> Phase {
        self.state().phase
    }

    /// Puts it elsewhere in its life.
    pub(super) fn set_phase(&self, phase: Phase) {
        self.state().phase = phase;
    }

    /// Its process id, 0 while there is none.
    pub(crate) fn pid(&self) -> u32 {
        self.state().pid
    }

    /// How it ended, if it has.
    pub(crate) fn exit(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// It has ended.
    pub(super) fn stopped(&self, exit: Exit) {
        if self.phase() != Phase::Deleted {
            self.set_phase(Phase::Stopped);
        }
        self.exit.send_replace(Some(exit));
    }

    /// Waits until it has ended.
    pub(crate) async fn wait(&self) -> Exit {
        let mut exits = self.exit.subscribe();
        loop {
            if let Some(exit) = *exits.borrow_and_update() {
                return exit;
            }
            if exits.changed().await.is_err() {
                // The sender is part of `self`, so this cannot be.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Sends a signal to the process itself, whichever runtime it has: it is the shim's child, so its pidfd cannot mean
    /// another.
    pub(crate) fn signal(&self, signal: u32) -> Result<()> {
        self.expect_end();
        let state = self.state();
        if state.pid == 0 {
            return Err(Error::failed_precondition("process not created"));
        }
        let Some(pidfd) = &state.pidfd else { return Err(already_finished()) };
        // Real-time signals, which rustix does not name, are used too: systemd is stopped by one.
        // SAFETY: the call takes a descriptor and two integers, and no information about the sender.
        let sent = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                pidfd.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        if sent == 0 {
            return Ok(());
        }
        match std::io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ESRCH) => Err(already_finished()),
            error => Err(Error::unknown(format!("sending signal {signal}: {error}"))),
        }
    }

    /// The client will write nothing more.
    pub(crate) fn close_stdin(&self) {
        if let Some(io) = &mut self.state().io {
            io.close_stdin();
        }
    }

    /// Sets the size of its terminal, if it has one.
    pub(crate) fn resize(&self, columns: u32, rows: u32) -> Result<()> {
        match self.state().io.as_ref().and_then(Io::console) {
            Some(console) => console.resize(columns, rows),
            None => Ok(()),
        }
    }

    /// Takes what the shim holds of its stdio.
    pub(super) fn take_io(&self) -> Option<Io> {
        self.state().io.take()
    }
}

/// The answer to a signal for a process that has ended.
pub(super) fn already_finished() -> Error {
    Error::not_found("process already finished")
}
