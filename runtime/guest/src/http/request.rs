//! One request: its limits, and the answers that the service gives in its guest's place.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use wasmtime_wasi_http::WasiBody;
use wisp_contract::counters::Counter;

use super::activity::{Activity, Unread};
use super::body::{Held, Limited};
use super::handler::Handler;
use super::instances::{Ticket, Unhandled};

/// How long a request waits for memory that other requests hold.
const WAIT_FOR_MEMORY: Duration = Duration::from_secs(5);

/// What answers requests.
#[derive(Clone)]
pub(crate) struct Service {
    handler: Handler,
    /// Requests that may run at one time.
    permits: Arc<Semaphore>,
}

/// The responses of a service: the guest's, or its own.
pub(crate) type Answer = Response<Held<(Activity, Option<Arc<Ticket>>)>>;

impl Service {
    pub(crate) fn new(handler: Handler) -> Self {
        let permits = handler.instances().settings.max_requests.max(1) as usize;
        Self { handler, permits: Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS))) }
    }

    /// Answers one request; `activity` keeps its connection awake until the response has been sent.
    pub(crate) async fn answer(
        self,
        request: Request<Incoming>,
        activity: Activity,
    ) -> Result<Answer, Infallible> {
        let instances = self.handler.instances();
        instances.budget.counters().add(Counter::Requests, 1);
        let deadline = Instant::now() + instances.patience();
        let (response, ticket) = match self.of_guest(request, activity.unread(), deadline).await {
            Ok((response, ticket)) => (response, Some(ticket)),
            Err(own) => (own.response(), None),
        };
        Ok(response.map(|body| Held::new(body, (activity, ticket), deadline)))
    }

    async fn of_guest(
        &self,
        request: Request<Incoming>,
        unread: Unread,
        deadline: Instant,
    ) -> Result<(Response<WasiBody>, Arc<Ticket>), Own> {
        let instances = self.handler.instances();
        let limit = instances.settings.max_body_bytes;
        let exceeded = Arc::new(AtomicBool::new(false));
        let request = request.map(|body| Limited::new(body, limit, Arc::clone(&exceeded), unread));
        if request.uri().authority().is_none() && !request.headers().contains_key(header::HOST) {
            return Err(Own::NoHost);
        }
        if request.body().size_hint().lower() > limit {
            return Err(Own::BodyTooLarge);
        }
        let permit = match timeout_at(deadline, Arc::clone(&self.permits).acquire_owned()).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) | Err(_) => return Err(Own::Busy),
        };
        let ticket = Ticket::new(instances, request.uri().path(), permit);
        let request = request.map(BodyExt::boxed_unsync);
        let handled = {
            // What is given to a time-out by value has a second place in this future, and is copied there.
            let handled = pin!(self.handle(&ticket, request, deadline));
            timeout_at(deadline, handled).await
        };
        match handled {
            Ok(Ok(response)) => Ok((response, ticket)),
            Ok(Err(_)) if exceeded.load(Ordering::Relaxed) => Err(Own::BodyTooLarge),
            Ok(Err(Own::TimedOut)) | Err(_) => {
                ticket.end_for_time();
                Err(Own::TimedOut)
            }
            Ok(Err(own)) => Err(own),
        }
    }

    /// Hands the request to an instance, and waits for memory where there is none for it.
    async fn handle(
        &self,
        ticket: &Arc<Ticket>,
        mut request: Request<WasiBody>,
        deadline: Instant,
    ) -> Result<Response<WasiBody>, Own> {
        let instances = self.handler.instances();
        let patience = Instant::now() + WAIT_FOR_MEMORY;
        loop {
            let freed = instances.freed.notified();
            let unhandled = match self.handler.handle(ticket, request, deadline).await {
                Ok(response) => return Ok(response),
                // The instance's time is the request's; a guest that computes may have kept this thread beyond it.
                Err(_) if Instant::now() >= deadline => return Err(Own::TimedOut),
                Err(unhandled) => unhandled,
            };
            let (error, returned) = match unhandled {
                Unhandled::Uninstantiated(error, request) => (error, request),
                Unhandled::Failed(error) => {
                    ticket.explain(&error);
                    return Err(Own::Failed);
                }
            };
            if !is_for_want_of_memory(&error) {
                ticket.explain(&wasmtime::format_err!("{error:#}"));
                return Err(Own::Failed);
            }
            let is_alone = instances.budget.counters().get(Counter::RequestsInFlight) <= 1;
            if is_alone {
                return Err(Own::NoMemory);
            }
            request = *returned;
            if timeout_at(patience, freed).await.is_err() {
                return Err(Own::NoMemory);
            }
        }
    }
}

/// Whether an instance could not be made because others hold the budget or the pool.
fn is_for_want_of_memory(error: &wasmtime::Error) -> bool {
    error.is::<wasmtime::PoolConcurrencyLimitError>()
        || error.chain().any(|cause| {
            let text = cause.to_string();
            text.contains("exceeds memory limits") || text.contains("exceeds table limits")
        })
}

/// An answer that does not come from the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Own {
    NoHost,
    BodyTooLarge,
    Busy,
    NoMemory,
    TimedOut,
    Failed,
}

impl Own {
    fn response(self) -> Response<WasiBody> {
        let (status, text) = match self {
            Self::NoHost => (StatusCode::BAD_REQUEST, "the request names no host\n"),
            Self::BodyTooLarge => {
                (StatusCode::PAYLOAD_TOO_LARGE, "the request's body is larger than this service takes\n")
            }
            Self::Busy => {
                (StatusCode::SERVICE_UNAVAILABLE, "this service has as many requests as it takes\n")
            }
            Self::NoMemory => {
                (StatusCode::SERVICE_UNAVAILABLE, "this service has no memory for another request\n")
            }
            Self::TimedOut => (StatusCode::GATEWAY_TIMEOUT, "this service did not answer in time\n"),
            Self::Failed => (StatusCode::INTERNAL_SERVER_ERROR, "this service failed; its log says why\n"),
        };
        let body = Full::new(Bytes::from_static(text.as_bytes())).map_err(Into::into).boxed_unsync();
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_service_says_when_to_come_back() {
        let response = Own::NoMemory.response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        assert_eq!(Own::TimedOut.response().status(), 504);
    }
}
