//! WASI 0.3: a fresh instance for each request, run by Wasmtime's `ProxyHandler`, whose tasks run beside each other.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use http::{Request, Response};
use tokio::sync::Notify;
use tokio::time::{Sleep, sleep};
use wasmtime::component::GuestTaskId;
use wasmtime::{Store, StoreContextMut};
use wasmtime_wasi_http::handler::{
    HandlerState, Instance, InstantiationError, ProxyHandler, ProxyPre, ShouldAccept, WorkerExpiration,
    WorkerState, WorkerStatus,
};
use wasmtime_wasi_http::{WasiBody, WasiHttpView, p3};
use wisp_contract::counters::Counter;

use super::instances::{Instances, Ticket, Unhandled};
use crate::host::Guest;

/// A program of WASI 0.3 that takes requests.
#[derive(Clone)]
pub(crate) struct Tasks(ProxyHandler<State>);

impl Tasks {
    /// Takes requests for the program.
    pub(crate) fn new(instances: Arc<Instances>, program: p3::bindings::ServicePre<Guest>) -> Self {
        Self(ProxyHandler::new(State { instances, program: ProxyPre::P3(program) }))
    }

    /// What instances are made from.
    pub(crate) fn instances(&self) -> &Arc<Instances> {
        &self.0.state().instances
    }

    /// Hands a request to a fresh instance.
    ///
    /// # Errors
    /// Where there could be no instance, or it did not answer.
    pub(crate) async fn handle(
        &self,
        ticket: &Arc<Ticket>,
        request: Request<WasiBody>,
    ) -> Result<Response<WasiBody>, Unhandled> {
        let error = match self.0.handle(Arc::clone(ticket), request).await {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        let InstantiationError { request, error, .. } =
            error.downcast::<InstantiationError<Arc<Ticket>>>().map_err(Unhandled::Failed)?;
        let request = request.into_inner().unwrap_or_else(PoisonError::into_inner);
        Err(Unhandled::Uninstantiated(error, Box::new(request)))
    }
}

struct State {
    instances: Arc<Instances>,
    program: ProxyPre<Guest>,
}

impl HandlerState for State {
    type StoreData = Guest;
    type WorkerExpiration = Expiration;
    type WorkerState = Worker;

    async fn instantiate(&self) -> wasmtime::Result<Instance<Guest, Expiration, Worker>> {
        let instances = &self.instances;
        let mut store = instances.store();
        let proxy = self.program.instantiate_async(&mut store).await?;
        instances.budget.counters().add(Counter::Instances, 1);
        let is_over = Arc::new(AtomicBool::new(false));
        Ok(Instance {
            store,
            proxy,
            view: Guest::http,
            expiration: Expiration {
                time: Box::pin(sleep(instances.patience())),
                is_over: Arc::clone(&is_over),
            },
            state: Worker { ticket: Mutex::new(None), freed: Arc::clone(&instances.freed), is_over },
        })
    }
}

/// The end of an instance's time, which is its request's.
struct Expiration {
    time: Pin<Box<Sleep>>,
    is_over: Arc<AtomicBool>,
}

impl WorkerExpiration for Expiration {
    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        _status: WorkerStatus,
        _start: Instant,
    ) -> Poll<()> {
        let over = self.time.as_mut().poll(cx);
        self.is_over.store(over.is_ready(), Ordering::Relaxed);
        over
    }
}

/// What an instance carries.
struct Worker {
    ticket: Mutex<Option<Arc<Ticket>>>,
    freed: Arc<Notify>,
    is_over: Arc<AtomicBool>,
}

impl WorkerState for Worker {
    type StoreData = Guest;
    type RequestData = Arc<Ticket>;

    fn should_accept_request(&self, _concurrent: usize, total: usize) -> ShouldAccept {
        if total == 0 { ShouldAccept::Yes } else { ShouldAccept::Never }
    }

    fn on_request_start(
        &self,
        _store: StoreContextMut<'_, Guest>,
        ticket: Arc<Ticket>,
        _task: GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + 'static + Send + Sync>> {
        *self.ticket.lock().unwrap_or_else(PoisonError::into_inner) = Some(ticket);
        Box::pin(std::future::pending())
    }

    fn drop(&self, store: Store<Guest>, result: wasmtime::Result<()>) {
        let ticket = self.ticket.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (&ticket, result) {
            (Some(ticket), Err(_)) if self.is_over.load(Ordering::Relaxed) => ticket.end_for_time(),
            (Some(ticket), Err(error)) => ticket.explain(&error),
            _ => {}
        }
        drop(store);
        drop(ticket);
        self.freed.notify_waiters();
    }
}
