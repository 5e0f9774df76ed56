//! Terminals: the runtime makes the pair and hands its master to the shim, which copies between it and the fifos.

use std::io::{self, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fcntl_getfl, fcntl_setfl, fstat, open, unlinkat};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::timeout;

use crate::error::{Context, Error, Result};

/// What is copied at once.
const CHUNK: usize = 4096;

/// A socket on which an OCI runtime hands over the master of a terminal (`--console-socket`).
#[derive(Debug)]
pub(crate) struct ConsoleSocket {
    listener: UnixListener,
    folder: OwnedFd,
    name: String,
}

impl ConsoleSocket {
    /// Makes a socket in the bundle.
    ///
    /// # Errors
    /// Those of making it.
    pub(crate) fn bind(bundle: &Path) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let what = || format!("making a console socket in {}", bundle.display());
        let folder =
            open(bundle, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).context(what)?;
        let name = format!("pty{}.sock", NEXT.fetch_add(1, Ordering::Relaxed));
        let listener = UnixListener::bind(address(&folder, &name)).context(what)?;
        listener.set_nonblocking(true).context(what)?;
        Ok(Self { listener, folder, name })
    }

    /// Its path, for another process. It goes through this process's descriptor of the bundle, because a bundle's own path
    /// is longer than a socket's address may be.
    pub(crate) fn path(&self) -> PathBuf {
        address(&self.folder, &self.name)
    }

    /// The master that a runtime, which has ended, has sent.
    ///
    /// # Errors
    /// None was sent.
    pub(crate) fn receive(&self) -> Result<OwnedFd> {
        let nothing = || "the runtime has sent no terminal".to_owned();
        let (stream, _) = self.listener.accept().context(nothing)?;
        stream.set_nonblocking(true).context(nothing)?;
        let mut name = [0; 256];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        recvmsg(&stream, &mut [IoSliceMut::new(&mut name)], &mut control, RecvFlags::CMSG_CLOEXEC)
            .context(nothing)?;
        let descriptor = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        descriptor.ok_or_else(|| Error::unknown(nothing()))
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        // It goes with the bundle anyway.
        let _ = unlinkat(&self.folder, self.name.as_str(), AtFlags::empty());
    }
}

fn address(folder: &OwnedFd, name: &str) -> PathBuf {
    format!("/proc/{}/fd/{}/{name}", std::process::id(), folder.as_raw_fd()).into()
}

/// The master of a process's terminal, and the tasks that copy.
#[derive(Debug)]
pub(crate) struct Console {
    master: Arc<AsyncFd<OwnedFd>>,
    input: Mutex<Option<JoinHandle<()>>>,
    output: Mutex<Option<JoinHandle<()>>>,
}

impl Console {
    /// Takes the master.
    pub(super) fn new(master: OwnedFd) -> Result<Self> {
        let what = || "taking a terminal".to_owned();
        let flags = fcntl_getfl(&master).context(what)?;
        fcntl_setfl(&master, flags | OFlags::NONBLOCK).context(what)?;
        let master = Arc::new(super::watched(master).context(what)?);
        Ok(Self { master, input: Mutex::default(), output: Mutex::default() })
    }

    /// Sets the size of the terminal's window.
    ///
    /// # Errors
    /// Those of the ioctl.
    pub(crate) fn resize(&self, columns: u32, rows: u32) -> Result<()> {
        let fit = |size: u32| u16::try_from(size).unwrap_or(u16::MAX);
        let size = Winsize { ws_col: fit(columns), ws_row: fit(rows), ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&*self.master, size).context(|| "resizing a terminal".to_owned())
    }

    /// Copies what is typed.
    pub(super) fn copy_input(&self, from: OwnedFd) -> Result<()> {
        let from = Receiver::from_owned_fd(from).context(|| "reading a terminal's input".to_owned())?;
        set(&self.input, copy_input(from, self.master.clone()));
        Ok(())
    }

    /// Copies what the process prints, until nobody has the terminal open any more.
    pub(super) fn copy_output(&self, to: OwnedFd) -> Result<AbortHandle> {
        let what = || "writing a terminal's output".to_owned();
        let stat = fstat(&to).context(what)?;
        let sink = if FileType::from_raw_mode(stat.st_mode) == FileType::Fifo {
            Sink::Pipe(Sender::from_owned_fd(to).context(what)?)
        } else {
            Sink::File(to.into())
        };
        Ok(set(&self.output, copy_output(self.master.clone(), sink)))
    }

    /// Reads what the process prints for nobody, so that it can go on.
    pub(super) fn discard_output(&self) {
        set(&self.output, copy_output(self.master.clone(), Sink::Nowhere));
    }

    /// Waits until all output is copied, for no longer than `limit`; whether it was.
    pub(super) async fn drained(self, limit: Duration) -> bool {
        let output = self.output.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut output) = output else { return true };
        let done = timeout(limit, &mut output).await.is_ok();
        output.abort();
        done
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        for task in [&self.input, &self.output] {
            if let Some(task) = task.lock().unwrap_or_else(PoisonError::into_inner).take() {
                task.abort();
            }
        }
    }
}

fn set(
    place: &Mutex<Option<JoinHandle<()>>>,
    task: impl Future<Output = ()> + Send + 'static,
) -> AbortHandle {
    let task = tokio::spawn(task);
    let handle = task.abort_handle();
    *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    handle
}

/// Where a terminal's output goes.
enum Sink {
    Pipe(Sender),
    File(std::fs::File),
    Nowhere,
}

impl Sink {
    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Pipe(pipe) => pipe.write_all(bytes).await,
            Self::File(file) => file.write_all(bytes),
            Self::Nowhere => Ok(()),
        }
    }
}

async fn copy_output(master: Arc<AsyncFd<OwnedFd>>, mut sink: Sink) {
    let mut buffer = [0; CHUNK];
    loop {
        let Ok(mut ready) = master.readable().await else { return };
        let read = ready.try_io(|master| Ok(rustix::io::read(master, &mut buffer)?));
        match read {
            Err(_would_block) => {}
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            // EIO is what a master reads when nobody has the terminal open any more.
            Ok(Ok(0) | Err(_)) => return,
            Ok(Ok(len)) => {
                if sink.write_all(&buffer[..len]).await.is_err() {
                    sink = Sink::Nowhere;
                }
            }
        }
    }
}

async fn copy_input(mut from: Receiver, master: Arc<AsyncFd<OwnedFd>>) {
    let mut buffer = [0; CHUNK];
    while let Ok(len) = from.read(&mut buffer).await {
        if len == 0 || write_all(&master, &buffer[..len]).await.is_err() {
            return;
        }
    }
}

async fn write_all(master: &AsyncFd<OwnedFd>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut ready = master.writable().await?;
        match ready.try_io(|master| Ok(rustix::io::write(master, bytes)?)) {
            Ok(Ok(len)) => bytes = &bytes[len..],
            Ok(Err(error)) if error.raw_os_error() == Some(Errno::INTR.raw_os_error()) => {}
            Ok(Err(error)) => return Err(error),
            Err(_would_block) => {}
        }
    }
    Ok(())
}
