//! The one owner of SIGCHLD: it waits for every child and tells each exit to whoever asked for it.
//!
//! Children are the commands that the shim spawns, and the containers' processes, which become its children when the OCI
//! runtime that made them exits (the shim is a subreaper). The pid of the latter is known only after the runtime has
//! exited, when the process may have exited too; so exits that nobody has claimed yet are kept while an
//! [`Expectation`] is held.

use std::collections::HashMap;
use std::io;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions, WaitStatus, wait, waitid};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit {
    /// The exit code, or 128 and the number of the signal that ended it.
    pub status: u32,
    /// When it was seen.
    pub at: SystemTime,
}

/// A handle to the reaper; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reaper(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    waiters: HashMap<i32, oneshot::Sender<Exit>>,
    unclaimed: HashMap<i32, Exit>,
    expectations: usize,
}

/// An exit that has been asked for.
#[derive(Debug)]
pub(crate) struct ExitOf(oneshot::Receiver<Exit>);

impl ExitOf {
    /// Waits until the process has ended.
    pub(crate) async fn wait(self) -> Exit {
        match self.0.await {
            Ok(exit) => exit,
            // The reaper never drops a waiter, but an end that nobody can know is a kill.
            Err(_) => Exit { status: 137, at: SystemTime::now() },
        }
    }
}

impl Reaper {
    /// Starts reaping on the current runtime.
    ///
    /// # Errors
    /// The signal handler could not be installed.
    pub(crate) fn start() -> io::Result<Self> {
        let reaper = Self::default();
        let mut signals = signal(SignalKind::child())?;
        let handle = reaper.clone();
        tokio::spawn(async move {
            loop {
                handle.reap();
                if signals.recv().await.is_none() {
                    break;
                }
            }
        });
        Ok(reaper)
    }

    /// Starts a command and asks for its exit.
    ///
    /// # Errors
    /// The command could not be started.
    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<(i32, ExitOf)> {
        // There is one thread and no await between these two, so the exit cannot be reaped before it is asked for.
        let pid = command.spawn()?.id().cast_signed();
        Ok((pid, self.table().claim(pid)))
    }

    /// Says that a process will have to be claimed that is not known yet.
    pub(crate) fn expect(&self) -> Expectation {
        self.table().expectations += 1;
        Expectation(self.clone())
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reap(&self) {
        // Errors mean that there is no child.
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let exit = Exit { status: code(status), at: SystemTime::now() };
            self.table().exited(pid.as_raw_nonzero().get(), exit);
        }
    }
}

impl Table {
    fn claim(&mut self, pid: i32) -> ExitOf {
        let (tell, told) = oneshot::channel();
        self.waiters.insert(pid, tell);
        ExitOf(told)
    }

    fn exited(&mut self, pid: i32, exit: Exit) {
        match self.waiters.remove(&pid) {
            // Nobody may listen any more.
            Some(waiter) => drop(waiter.send(exit)),
            None if self.expectations > 0 => drop(self.unclaimed.insert(pid, exit)),
            None => {}
        }
    }
}

/// While it is held, exits of processes that nobody has asked for are kept.
#[derive(Debug)]
pub(crate) struct Expectation(Reaper);

impl Expectation {
    /// Asks for the exit of a process that may have ended since the expectation began.
    pub(crate) fn claim(&self, pid: i32) -> ExitOf {
        let mut table = self.0.table();
        let mut exit = table.claim(pid);
        let kept = table.unclaimed.remove(&pid);
        // A live child of this pid is the one that is meant: what was kept is of an earlier process.
        if let Some(kept) = kept
            && !is_child(pid)
        {
            table.waiters.remove(&pid);
            let (tell, told) = oneshot::channel();
            let _ = tell.send(kept);
            exit = ExitOf(told);
        }
        exit
    }
}

impl Drop for Expectation {
    fn drop(&mut self) {
        let mut table = self.0.table();
        table.expectations -= 1;
        if table.expectations == 0 {
            table.unclaimed.clear();
        }
    }
}

/// Whether the process is a child that has not been waited for.
fn is_child(pid: i32) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    Pid::from_raw(pid).is_some_and(|pid| waitid(WaitId::Pid(pid), options).is_ok())
}

fn code(status: WaitStatus) -> u32 {
    let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal));
    code.unwrap_or(255).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_before_its_claim_is_kept_while_it_is_expected() {
        let reaper = Reaper::default();
        let exit = Exit { status: 3, at: SystemTime::now() };
        reaper.table().exited(i32::MAX, exit);
        let expectation = reaper.expect();
        assert!(reaper.table().unclaimed.is_empty(), "nobody expected the first");
        reaper.table().exited(i32::MAX, exit);
        let mut claimed = expectation.claim(i32::MAX);
        assert_eq!(claimed.0.try_recv(), Ok(exit));
        reaper.table().exited(i32::MAX - 1, exit);
        drop(expectation);
        assert!(reaper.table().unclaimed.is_empty(), "what nobody claimed is forgotten");
    }

    #[tokio::test]
    async fn statuses_are_codes_or_128_and_the_signal() {
        let reaper = Reaper::start().unwrap();
        for (script, status) in [("exit 7", 7), ("kill -KILL $$", 137), ("kill -TERM $$", 143)] {
            let (_, exit) = reaper.spawn(Command::new("/bin/sh").args(["-c", script])).unwrap();
            assert_eq!(exit.wait().await.status, status, "{script}");
        }
    }
}
