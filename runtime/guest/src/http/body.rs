//! Bodies on their way in and out, with what the service wants to know about them.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};
use wasmtime_wasi_http::{Error, WasiBody};

use super::activity::Unread;

/// A request's body that ends with an error where it exceeds the limit, and that notes where it was not read to its end.
pub(crate) struct Limited {
    body: Incoming,
    left: u64,
    limit: u64,
    exceeded: Arc<AtomicBool>,
    unread: Option<Unread>,
}

impl Limited {
    /// Lets `limit` bytes through. `exceeded` tells whoever answers for the guest why it failed.
    pub(super) fn new(body: Incoming, limit: u64, exceeded: Arc<AtomicBool>, unread: Unread) -> Self {
        Self { body, left: limit, limit, exceeded, unread: Some(unread) }
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        if let Some(unread) = self.unread.take().filter(|_| !self.body.is_end_stream()) {
            unread.note();
        }
    }
}

impl Body for Limited {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)) else {
            self.unread = None;
            return Poll::Ready(None);
        };
        let frame = frame.map_err(Error::from)?;
        let size = frame.data_ref().map_or(0, Buf::remaining) as u64;
        if size > self.left {
            self.exceeded.store(true, Ordering::Relaxed);
            return Poll::Ready(Some(Err(Error::HttpRequestBodySize(Some(self.limit)))));
        }
        self.left -= size;
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response's body that keeps `held` until its end, and ends with an error where it takes too long.
pub(crate) struct Held<T> {
    body: WasiBody,
    held: Option<T>,
    deadline: Instant,
    /// Made when the body first has to be waited for.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<T> Held<T> {
    /// A body to be sent by `deadline`.
    pub(crate) fn new(body: WasiBody, held: T, deadline: Instant) -> Self {
        Self { body, held: Some(held), deadline, timer: None }
    }
}

impl<T: Unpin> Body for Held<T> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        let frame = match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                let deadline = this.deadline;
                let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
                ready!(timer.as_mut().poll(cx));
                Some(Err(Error::HttpResponseTimeout))
            }
        };
        if !matches!(frame, Some(Ok(_))) || this.body.is_end_stream() {
            this.held = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
