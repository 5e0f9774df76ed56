//! The guest's stdout and stderr, written without a buffer of ours in between.
//!
//! A command writes and blocks as any program does; a signal still ends it. A service must not: the thread that would block
//! on a full pipe is the one that serves the other requests, so it writes only what fits and waits for the rest with
//! everything else. The descriptors stay in blocking mode all the same, because they may be shared with other processes.

use std::io;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncWrite, Interest};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

/// A pipe that poll(2) says is writable takes this much without blocking (PIPE_BUF).
const FITS: usize = 4096;
/// What a command may write in one go.
const AT_ONCE: usize = 64 << 10;

/// Where a guest's output goes; streams of it are clones.
#[derive(Clone)]
pub(crate) struct Output {
    fd: BorrowedFd<'static>,
    /// For services: the descriptor in the reactor, once it is needed; `None` in it where it cannot block (a file).
    watched: Option<Arc<OnceLock<Option<AsyncFd<BorrowedFd<'static>>>>>>,
}

impl Output {
    /// The process's stdout or stderr, for a guest that has its thread to itself.
    pub(crate) fn blocking(fd: BorrowedFd<'static>) -> Self {
        Self { fd, watched: None }
    }

    /// The process's stdout or stderr, for guests that share their thread.
    pub(crate) fn shared(fd: BorrowedFd<'static>) -> Self {
        Self { fd, watched: Some(Arc::default()) }
    }

    fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(self.fd, bytes)?)
    }

    /// How much can be written without blocking; 0 if nothing.
    fn room(&self) -> usize {
        if self.watched.is_none() {
            return AT_ONCE;
        }
        let mut fds = [PollFd::new(&self.fd, PollFlags::OUT)];
        match poll(&mut fds, Some(&Timespec::default())) {
            Ok(0) => 0,
            // Errors and hang-ups come out of the write.
            _ => FITS,
        }
    }

    /// Waits until something can be written without blocking, and says how much.
    async fn wait_for_room(self) -> usize {
        loop {
            let room = self.room();
            if room > 0 {
                return room;
            }
            let Some(watched) = self.watch() else { return FITS };
            match watched.writable().await {
                Ok(mut guard) => guard.clear_ready(),
                Err(_) => return FITS,
            }
        }
    }

    fn watch(&self) -> Option<&AsyncFd<BorrowedFd<'static>>> {
        // SAFETY: nothing in this process closes descriptors 1 and 2 or puts others in their place.
        let watch = || unsafe { AsyncFd::register_with_interest(self.fd, Interest::WRITABLE) }.ok();
        self.watched.as_ref()?.get_or_init(watch).as_ref()
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        rustix::termios::isatty(self.fd)
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(Stream { output: self.clone(), waiting: None })
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

/// One stream of an [`Output`], with the wait that it may be in.
struct Stream {
    output: Output,
    waiting: Option<Pin<Box<dyn Future<Output = usize> + Send + Sync>>>,
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut room = self.output.room();
        if room == 0 {
            let output = self.output.clone();
            let waiting = self.waiting.get_or_insert_with(|| Box::pin(output.wait_for_room()));
            room = ready!(waiting.as_mut().poll(cx));
            self.waiting = None;
        }
        Poll::Ready(self.output.write_now(&bytes[..room.min(bytes.len())]))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            match self.write_now(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Err(StreamError::Closed),
                Err(error) => return Err(StreamError::LastOperationFailed(error.into())),
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(self.room())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {
        self.clone().wait_for_room().await;
    }
}
