//! Child processes with an end: none is waited for without a bound, and none outlives the tests.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// What a command printed and how it ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Its exit code; 128 + n where signal n ended it.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Finished {
    /// The output of a command that had to succeed.
    ///
    /// # Errors
    /// What it printed, where it did not.
    pub fn success(self) -> Result<String> {
        if self.code != 0 {
            bail!("exit code {}: {}{}", self.code, self.stderr, self.stdout);
        }
        Ok(self.stdout)
    }
}

/// The exit code as a shell shows it.
#[must_use]
pub fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}

/// Ends the child when the calling thread ends, and so when this process does, however it ends.
pub fn dies_with_us(command: &mut Command) -> &mut Command {
    // SAFETY: prctl is async-signal-safe and touches nothing of the parent.
    unsafe { command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?)) }
}

/// Starts a child that ends with this process and not with the calling thread.
///
/// # Errors
/// Those of starting it.
pub fn spawn_lasting(mut command: Command) -> Result<Child> {
    type Order = (Command, mpsc::Sender<io::Result<Child>>);
    static STARTER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (sender, orders) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in orders {
                // Whoever ordered it waits for the answer.
                let _ = answer.send(command.spawn());
            }
        });
        sender
    });
    dies_with_us(&mut command);
    let (sender, answer) = mpsc::channel();
    starter.send((command, sender)).context("the thread that starts servers has ended")?;
    Ok(answer.recv()??)
}

/// Runs a command to its end, or kills it after `limit`.
///
/// # Errors
/// Where it does not start or does not end.
pub fn run(command: &mut Command, limit: Duration) -> Result<Finished> {
    run_from(command, Stdio::null(), limit)
}

/// As [`run`], with this standard input; one that is piped stays open and says nothing.
///
/// # Errors
/// As [`run`].
pub fn run_from(command: &mut Command, stdin: Stdio, limit: Duration) -> Result<Finished> {
    let shown = shown(command);
    dies_with_us(command).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("starting {shown}"))?;
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let Some(status) = wait(&mut child, limit)? else {
        child.kill()?;
        child.wait()?;
        bail!("{shown} did not end in {limit:?}");
    };
    let text = |thread: thread::JoinHandle<String>| thread.join().unwrap_or_default();
    Ok(Finished { code: code(status), stdout: text(stdout), stderr: text(stderr) })
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read before an error is what there is.
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The command as a person would type it.
#[must_use]
pub fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Waits for a child; `None` where it runs on after `limit`.
///
/// # Errors
/// Those of `pidfd_open(2)` and `wait(2)`.
pub fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    if let Some(status) = child.try_wait()? {
        return Ok(Some(status));
    }
    let pid = i32::try_from(child.id())?;
    if !gone(pid, limit)? {
        return Ok(None);
    }
    Ok(Some(child.wait()?))
}

/// Waits for any process to end; false where it runs on after `limit`.
///
/// # Errors
/// Those of `pidfd_open(2)` and `poll(2)`.
pub fn gone(pid: i32, limit: Duration) -> Result<bool> {
    let Some(pidfd) = pidfd(pid)? else { return Ok(true) };
    let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
    Ok(poll(&mut [PollFd::new(std::os::fd::AsFd::as_fd(&pidfd), PollFlags::POLLIN)], timeout)? > 0)
}

fn pidfd(pid: i32) -> Result<Option<OwnedFd>> {
    let Some(pid) = rustix::process::Pid::from_raw(pid) else { bail!("{pid} is no process") };
    match rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(rustix::io::Errno::SRCH) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A server that runs as long as this value.
#[derive(Debug)]
pub struct Server(Child);

impl Server {
    /// Starts it; its output goes nowhere.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn start(mut command: Command) -> Result<Self> {
        dies_with_us(&mut command).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let shown = shown(&command);
        Ok(Self(command.spawn().with_context(|| format!("starting {shown}"))?))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
