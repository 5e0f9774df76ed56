//! One connection: its input and output, the time that it may take, and its graceful end.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{HeaderValue, Version, header};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use wisp_contract::plan::HttpSettings;

use super::activity::{Activity, State, now};
use super::request::Service;

/// How far a service is on its way to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// It serves.
    Serving,
    /// It was asked to stop: it serves on, and each answer closes its connection.
    Draining,
    /// It takes nothing new.
    Closing,
}

/// What clients get that were in the kernel's queue when it was emptied, to send the request that they connected for.
const GRACE: Duration = Duration::from_secs(1);
/// What a client is told that did not finish its request's headers in time.
const TIMED_OUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// How long what a client goes on sending is taken, once it has its answer.
const LINGER: Duration = Duration::from_secs(2);

/// Serves one connection to its end.
pub(crate) async fn serve(
    stream: TcpStream,
    service: Service,
    settings: Arc<HttpSettings>,
    mut phase: watch::Receiver<Phase>,
) {
    // Small writes (server-sent events) are not to wait for more.
    let _ = stream.set_nodelay(true);
    let stream = Arc::new(stream);
    let state = Arc::new(State::new());
    let answers = {
        let (state, phase) = (Arc::clone(&state), phase.clone());
        service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let version = request.version();
            let (service, phase) = (service.clone(), phase.clone());
            let activity = Activity::begin(&state, version);
            // hyper moves it about, and it is large; what is moved into it has a second place in it.
            Box::pin(async move {
                let mut answer = service.answer(request, activity).await?;
                // HTTP/2 says it with GOAWAY.
                if *phase.borrow() != Phase::Serving && version != Version::HTTP_2 {
                    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, std::convert::Infallible>(answer)
            })
        })
    };
    let builder = builder(&settings);
    let io = Watched { stream: Arc::clone(&stream), state: Arc::clone(&state) };
    let mut connection = pin!(builder.serve_connection(io, answers));
    let mut ending = false;
    loop {
        let over = time_is_over(&state, &settings);
        tokio::select! {
            biased;
            // What the client did wrong is between it and hyper; what the guest did wrong has been said.
            _ = async { poll_fn(|cx| connection.as_mut().poll(cx)).await } => break,
            () = over => {
                if state.is_in_headers() {
                    let _ = stream.try_write(TIMED_OUT);
                }
                return;
            }
            () = its_end(&state, &mut phase), if !ending => {
                ending = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
    if state.is_unread() {
        let _ = timeout(LINGER, linger(&stream)).await;
    }
}

/// Takes what a client still sends until it has heard that nothing more is wanted. To close before would reset the connection, and
/// the client would lose the answer that it has not read.
async fn linger(stream: &TcpStream) {
    let _ = rustix::net::shutdown(stream, rustix::net::Shutdown::Write);
    let mut ended = false;
    while !ended && stream.readable().await.is_ok() {
        // Within, so that no connection's future holds it.
        let read = stream.try_io(Interest::READABLE, || Ok(rustix::io::read(stream, &mut [0; 16 << 10])?));
        ended = match read {
            Ok(bytes) => bytes == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        };
    }
}

fn builder(settings: &HttpSettings) -> Builder<TokioExecutor> {
    let header_bytes = settings.max_header_bytes.max(1);
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // `time_is_over` tells headers that do not come from connections that are idle.
        .header_read_timeout(None)
        // hyper bounds headers by what it reads ahead, which is 8 KiB at least.
        .max_buf_size((header_bytes as usize).max(8 << 10))
        .half_close(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(settings.max_streams.max(1))
        .max_header_list_size(header_bytes);
    builder
}

/// Waits until the connection has had its time.
async fn time_is_over(state: &State, settings: &HttpSettings) {
    let in_time = |deadline: u64| Instant::now() + Duration::from_millis(deadline.saturating_sub(now()));
    let mut armed = state.deadline(settings);
    let mut timer = pin!(sleep_until(in_time(armed)));
    poll_fn(|cx| {
        loop {
            let deadline = state.deadline(settings);
            // A later deadline is looked at when the timer goes off: most requests never touch it.
            if deadline < armed {
                timer.as_mut().reset(in_time(deadline));
                armed = deadline;
            }
            ready!(timer.as_mut().poll(cx));
            let deadline = state.deadline(settings);
            if deadline <= now() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(in_time(deadline));
            armed = deadline;
        }
    })
    .await;
}

/// Waits until the connection is to end as soon as its requests are answered.
async fn its_end(state: &State, phase: &mut watch::Receiver<Phase>) {
    let is_over = |at: &Phase| *at == Phase::Closing || (*at == Phase::Draining && state.is_http2());
    while !is_over(&phase.borrow_and_update()) {
        if phase.changed().await.is_err() {
            return;
        }
    }
    if !state.has_served() {
        tokio::time::sleep(GRACE).await;
    }
}

/// The connection's bytes, with a note of when they came.
struct Watched {
    stream: Arc<TcpStream>,
    state: Arc<State>,
}

impl Read for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            let room = buffer.remaining();
            let mut read = None;
            let tried = self.stream.try_io(Interest::READABLE, || {
                // SAFETY: the buffer may be uninitialized, so it is only lent as such, and only what was read is counted.
                let bytes = rustix::io::read(&*self.stream, unsafe { buffer.as_mut() })?.0.len();
                read = Some(bytes);
                // The socket is empty: what comes next is an event, so do not try before it.
                if bytes > 0 && bytes < room { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match (read, tried) {
                (Some(read), _) => {
                    // SAFETY: read(2) has filled this many bytes.
                    unsafe { buffer.advance(read) };
                    if read > 0 {
                        self.state.hear();
                    }
                    return Poll::Ready(Ok(()));
                }
                (None, Err(error)) if error.kind() != io::ErrorKind::WouldBlock => {
                    return Poll::Ready(Err(error));
                }
                (None, _) => {}
            }
        }
    }
}

impl Write for Watched {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            match self.stream.try_write_vectored(slices) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match rustix::net::shutdown(&*self.stream, rustix::net::Shutdown::Write) {
            Err(rustix::io::Errno::NOTCONN) | Ok(()) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}
