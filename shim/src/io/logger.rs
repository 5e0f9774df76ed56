//! `binary://` loggers: a program that gets a process's output on its descriptors 3 and 4, and closes descriptor 5 when it
//! is ready. See containerd's `docs/runtime-v2.md`, "Logging".

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::io::fcntl_dupfd_cloexec;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::time::timeout;
use tracing::warn;

use super::Owner;
use crate::error::{Context, Error, Result};
use crate::reaper::ExitOf;

/// How long a logger may take to be ready.
const READY: Duration = Duration::from_secs(10);
/// How long a logger may take after it has been asked to end.
const END: Duration = Duration::from_secs(2);
/// Above all descriptors that a logger is given.
const OUT_OF_THE_WAY: i32 = 10;

/// A logger that runs.
#[derive(Debug)]
pub(super) struct Logger {
    pid: i32,
    exit: ExitOf,
}

/// `binary:///path?name=value…` taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Uri {
    path: String,
    /// Names and values in turn.
    args: Vec<String>,
    /// Whether being ready must be said by a byte (`binary-v2`): closing the descriptor is what a crash does too.
    strict: bool,
}

impl Uri {
    fn parse(uri: &str) -> Self {
        let (scheme, rest) = uri.split_once("://").unwrap_or(("binary", uri));
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let args = pairs.flat_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            [decode(&name.replace('+', " ")), decode(&value.replace('+', " "))]
        });
        Self { path: decode(path), args: args.collect(), strict: scheme == "binary-v2" }
    }
}

impl Logger {
    /// Starts a logger, waits until it is ready, and returns what is to be a process's stdout and stderr.
    pub(super) async fn start(uri: &str, owner: &Owner) -> Result<(Self, OwnedFd, OwnedFd)> {
        let uri = Uri::parse(uri);
        let failed = |why: String| Error::unknown(format!("failed to start the logger {}: {why}", uri.path));
        let pipe = || pipe_with(PipeFlags::CLOEXEC).context(|| "making a pipe for a logger".to_owned());
        let (out_reader, out_writer) = pipe()?;
        let (err_reader, err_writer) = pipe()?;
        let (ready_reader, ready_writer) = pipe()?;

        let mut command = Command::new(&uri.path);
        command.args(&uri.args).env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.env("CONTAINER_ID", &owner.id).env("CONTAINER_NAMESPACE", &owner.namespace);
        let given = [out_reader, err_reader, ready_writer].map(|fd| fcntl_dupfd_cloexec(&fd, OUT_OF_THE_WAY));
        let [Ok(out), Ok(err), Ok(ready)] = given else {
            return Err(failed("no descriptor is left".to_owned()));
        };
        // SAFETY: between fork and exec the closure makes three system calls, and allocates nothing.
        unsafe {
            command.pre_exec(move || {
                for (from, to) in [(&out, 3), (&err, 4), (&ready, 5)] {
                    if libc::dup2(from.as_raw_fd(), to) < 0 {
                        return Err(std::io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        let spawned = owner.reaper.spawn(&mut command);
        // This process's copies of the logger's descriptors, which the closure owns, are closed here.
        drop(command);
        let (pid, exit) = spawned.map_err(|error| failed(error.to_string()))?;
        let logger = Self { pid, exit };
        match is_ready(ready_reader, uri.strict).await {
            Ok(()) => Ok((logger, out_writer, err_writer)),
            Err(why) => {
                logger.signal(Signal::KILL);
                Err(failed(why))
            }
        }
    }

    /// Waits until the logger has ended, which it does when it has read everything; after `limit` it is made to.
    pub(super) async fn finish(self, limit: Duration) {
        let (pid, mut exit) = (self.pid, Box::pin(self.exit.wait()));
        if timeout(limit, &mut exit).await.is_ok() {
            return;
        }
        warn!(pid, "a logger did not end with its input, and is ended");
        signal(pid, Signal::TERM);
        if timeout(END, &mut exit).await.is_err() {
            signal(pid, Signal::KILL);
        }
    }

    fn signal(&self, which: Signal) {
        signal(self.pid, which);
    }
}

fn signal(pid: i32, which: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It may have ended by itself.
        let _ = kill_process(pid, which);
    }
}

async fn is_ready(reader: OwnedFd, strict: bool) -> std::result::Result<(), String> {
    let mut reader = Receiver::from_owned_fd(reader).map_err(|error| error.to_string())?;
    let mut byte = [0];
    match timeout(READY, reader.read(&mut byte)).await {
        Err(_) => Err(format!("it was not ready after {} seconds", READY.as_secs())),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(0)) if strict => {
            Err("it ended, or closed descriptor 5, without saying that it is ready".to_owned())
        }
        Ok(Ok(_)) => Ok(()),
    }
}

/// Decodes `%20` and its like; what is not well formed stays as it is.
pub(super) fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_becomes_arguments() {
        let uri = Uri::parse("binary:///usr/bin/logger?--dir=%2Fvar%2Flog&tag=a+b&flag");
        assert_eq!(uri.path, "/usr/bin/logger");
        assert_eq!(uri.args, ["--dir", "/var/log", "tag", "a b", "flag", ""]);
        assert!(!uri.strict);
        assert!(Uri::parse("binary-v2:///x").strict);
    }

    #[test]
    fn what_is_not_an_escape_stays() {
        assert_eq!(decode("100%25 %zz %4"), "100% %zz %4");
    }
}
