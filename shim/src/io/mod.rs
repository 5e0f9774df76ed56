//! A process's stdio: where containerd wants it to lead, and what the shim holds of it.
//!
//! Without a terminal the process gets the fifos (or files, or a logger's pipes) themselves: nothing is copied, and no
//! output can be lost in the shim. The shim keeps the other end of each fifo open, so that a containerd that goes away
//! and comes back interrupts neither the writer nor the reader.

mod console;
mod fifo;
mod logger;

use std::fs::{self, File, OpenOptions};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Gid, Uid, fchown};
use rustix::io::ioctl_fionread;
use tokio::io::unix::AsyncFd;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};
use tracing::warn;

pub(crate) use self::console::{Console, ConsoleSocket};
use self::logger::Logger;
use crate::error::{Context, Error, Result};
use crate::reaper::Reaper;
use crate::runtime::ProcessStdio;

/// How long the rest of a process's output may take to reach its reader before the process is deleted.
const DRAIN: Duration = Duration::from_secs(10);

/// Where a process's stdio leads, in containerd's words: fifos' paths, `file://` or `binary://` URIs, or nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stdio {
    /// A fifo from which the process reads.
    pub stdin: String,
    /// Where its output goes.
    pub stdout: String,
    /// Where its errors go; unused with a terminal.
    pub stderr: String,
    /// Whether it has a terminal.
    pub terminal: bool,
}

/// Whose stdio it is.
#[derive(Debug, Clone)]
pub(crate) struct Owner {
    /// The container's or exec's id, for a logger.
    pub id: String,
    /// The containerd namespace, for a logger.
    pub namespace: String,
    /// The user and group that are to own the pipes.
    pub ids: (u32, u32),
    /// Who waits for a logger.
    pub reaper: Reaper,
}

/// What the shim holds of a process's stdio.
#[derive(Debug, Default)]
pub(crate) struct Io {
    /// The write end of the process's stdin, until the client closes it.
    stdin: Option<OwnedFd>,
    output: Output,
    logger: Option<Logger>,
    console: Option<Console>,
}

/// A process's output on its way to a client.
#[derive(Debug, Default, Clone)]
pub(crate) struct Output {
    /// Read ends of it: a write without any reader would kill the writer.
    readers: Vec<Arc<OwnedFd>>,
    /// What brings it there from a terminal, until nobody has that open any more.
    copying: Option<AbortHandle>,
}

impl Output {
    /// Waits until a client has read all of it, for a bounded time.
    pub(crate) async fn read(&self, limit: Duration) {
        let end = Instant::now() + limit;
        while self.is_on_its_way() && Instant::now() < end {
            sleep(fifo::LOOK).await;
        }
    }

    fn is_on_its_way(&self) -> bool {
        let is_unread = |pipe: &Arc<OwnedFd>| ioctl_fionread(&**pipe).is_ok_and(|bytes| bytes > 0);
        self.copying.as_ref().is_some_and(|copying| !copying.is_finished())
            || self.readers.iter().any(is_unread)
    }
}

/// Where output goes.
#[derive(Debug, PartialEq, Eq)]
enum Target<'a> {
    Nowhere,
    /// A fifo, or a file that is there.
    Path(&'a str),
    /// A file, made if need be.
    File(PathBuf),
    Logger(&'a str),
}

impl<'a> Target<'a> {
    fn parse(uri: &'a str) -> Result<Self> {
        match uri.split_once("://") {
            _ if uri.is_empty() => Ok(Self::Nowhere),
            None | Some(("fifo", _)) => Ok(Self::Path(uri.strip_prefix("fifo://").unwrap_or(uri))),
            Some(("file", path)) => Ok(Self::File(logger::decode(path).into())),
            Some(("binary" | "binary-v2", _)) => Ok(Self::Logger(uri)),
            Some((scheme, _)) => Err(Error::unknown(format!("unknown STDIO scheme {scheme}"))),
        }
    }
}

impl Io {
    /// Opens the stdio of a process without a terminal.
    ///
    /// # Errors
    /// Something of it cannot be opened, or a logger does not start.
    pub(crate) async fn open(stdio: &Stdio, owner: &Owner) -> Result<(Self, ProcessStdio)> {
        let mut io = Self::default();
        let stdin = io.open_stdin(&stdio.stdin, owner)?;
        let (stdout, stderr) = match Target::parse(&stdio.stdout)? {
            Target::Logger(uri) => {
                let (logger, out, err) = Logger::start(uri, owner).await?;
                io.logger = Some(logger);
                (out.into(), err.into())
            }
            Target::File(path) => {
                let file = append(&path)?;
                (file.try_clone().context(|| "sharing a log file".to_owned())?.into(), file.into())
            }
            Target::Path(path) => {
                (io.open_output(path, owner).await?, io.open_stderr(&stdio.stderr, owner).await?)
            }
            Target::Nowhere => (process::Stdio::null(), io.open_stderr(&stdio.stderr, owner).await?),
        };
        Ok((io, ProcessStdio { stdin, stdout, stderr }))
    }

    /// Connects a process's terminal, whose master the runtime has handed over.
    ///
    /// # Errors
    /// Something of its stdio cannot be opened.
    pub(crate) async fn connect(stdio: &Stdio, owner: &Owner, master: OwnedFd) -> Result<Self> {
        let mut io = Self::default();
        let console = Console::new(master)?;
        if !stdio.stdin.is_empty() {
            let (reader, writer) = fifo::open_stdin(Path::new(&stdio.stdin))?;
            io.stdin = writer;
            console.copy_input(reader)?;
        }
        match Target::parse(&stdio.stdout)? {
            Target::Nowhere => console.discard_output(),
            Target::Path(path) => {
                let (writer, reader) = fifo::open_output(Path::new(path)).await?;
                let copying = Some(console.copy_output(writer)?);
                io.output = Output { readers: reader.map(Arc::new).into_iter().collect(), copying };
            }
            Target::File(path) => drop(console.copy_output(append(&path)?.into())?),
            Target::Logger(uri) => {
                let (logger, out, _unused) = Logger::start(uri, owner).await?;
                io.logger = Some(logger);
                console.copy_output(out)?;
            }
        }
        io.console = Some(console);
        Ok(io)
    }

    fn open_stdin(&mut self, path: &str, owner: &Owner) -> Result<process::Stdio> {
        if path.is_empty() {
            return Ok(process::Stdio::null());
        }
        let (reader, writer) = fifo::open_stdin(Path::new(path))?;
        fifo::block(&reader)?;
        give(&reader, owner)?;
        self.stdin = writer;
        Ok(reader.into())
    }

    async fn open_output(&mut self, path: &str, owner: &Owner) -> Result<process::Stdio> {
        let (writer, reader) = fifo::open_output(Path::new(path)).await?;
        fifo::block(&writer)?;
        if reader.is_some() {
            give(&writer, owner)?;
        }
        self.output.readers.extend(reader.map(Arc::new));
        Ok(writer.into())
    }

    async fn open_stderr(&mut self, path: &str, owner: &Owner) -> Result<process::Stdio> {
        match Target::parse(path)? {
            Target::Nowhere => Ok(process::Stdio::null()),
            Target::Path(path) => self.open_output(path, owner).await,
            Target::File(path) => Ok(append(&path)?.into()),
            Target::Logger(_) => {
                Err(Error::invalid_argument("a logger is named by stdout and not by stderr"))
            }
        }
    }

    /// The client will write nothing more: the process sees the end of its stdin when the client has closed its own end.
    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// What the client is to read.
    pub(crate) fn output(&self) -> Output {
        self.output.clone()
    }

    /// The process's terminal.
    pub(crate) fn console(&self) -> Option<&Console> {
        self.console.as_ref()
    }

    /// Waits until all output of a process that has ended is where it goes, for a bounded time.
    pub(crate) async fn drain(mut self) {
        self.stdin = None;
        let (console, logger) = (self.console.take(), self.logger.take());
        if let Some(console) = console
            && !console.drained(DRAIN).await
        {
            warn!("a terminal's output was not read in time, and its rest is lost");
        }
        if let Some(logger) = logger {
            logger.finish(DRAIN).await;
        }
    }
}

/// Watches a descriptor, which does not block, on the current runtime.
pub(crate) fn watched(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open until it is dropped, and nothing replaces it while the `AsyncFd` owns it.
    unsafe { Ok(AsyncFd::register(fd)?) }
}

fn append(path: &Path) -> Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).context(|| format!("making {}", folder.display()))?;
    }
    OpenOptions::new().append(true).create(true).open(path).context(|| format!("opening {}", path.display()))
}

fn give(pipe: &OwnedFd, owner: &Owner) -> Result<()> {
    let (uid, gid) = owner.ids;
    if (uid, gid) == (0, 0) {
        return Ok(());
    }
    fchown(pipe, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
        .context(|| format!("giving a pipe to user {uid} and group {gid}"))
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, Read, Write, pipe};

    use super::*;

    /// Checks that output of six bytes, which nobody has read, is waited for until the client reads it, and no longer than the limit.
    async fn is_waited_for(output: Output, mut client: PipeReader) {
        let begun = Instant::now();
        output.read(Duration::from_millis(20)).await;
        assert!(begun.elapsed() >= Duration::from_millis(20), "nobody has read it");
        let waiting = tokio::spawn(async move { output.read(Duration::from_secs(3600)).await });
        client.read_exact(&mut [0; 6]).unwrap();
        waiting.await.unwrap();
    }

    fn readers(client: &PipeReader) -> Vec<Arc<OwnedFd>> {
        vec![Arc::new(client.try_clone().unwrap().into())]
    }

    #[tokio::test]
    async fn output_is_waited_for_until_it_is_read_and_no_longer_than_the_limit() {
        let (client, mut process) = pipe().unwrap();
        let output = Output { readers: readers(&client), copying: None };
        output.read(Duration::from_secs(3600)).await;
        process.write_all(b"unread").unwrap();
        is_waited_for(output, client).await;
    }

    #[tokio::test]
    async fn a_terminals_output_is_waited_for_before_it_has_been_copied() {
        let (terminal, mut process) = pipe().unwrap();
        let (client, fifo) = pipe().unwrap();
        let console = Console::new(terminal.into()).unwrap();
        let copying = Some(console.copy_output(fifo.into()).unwrap());
        let output = Output { readers: readers(&client), copying };
        process.write_all(b"unread").unwrap();
        drop(process);
        is_waited_for(output, client).await;
    }

    #[test]
    fn each_form_of_target_is_told_apart() {
        assert_eq!(Target::parse("").unwrap(), Target::Nowhere);
        assert_eq!(Target::parse("/run/x/stdout").unwrap(), Target::Path("/run/x/stdout"));
        assert_eq!(Target::parse("file:///var/log/a%20b").unwrap(), Target::File("/var/log/a b".into()));
        assert_eq!(Target::parse("binary:///bin/l?a=b").unwrap(), Target::Logger("binary:///bin/l?a=b"));
        assert_eq!(Target::parse("http://x").unwrap_err().to_string(), "unknown STDIO scheme http");
    }
}
