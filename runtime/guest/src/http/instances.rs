//! A fresh instance for each request, made by Wasmtime's `ProxyHandler`.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::{Sleep, sleep};
use wasmtime::component::GuestTaskId;
use wasmtime::{Store, StoreContextMut};
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::handler::{
    HandlerState, Instance, ProxyPre, ShouldAccept, WorkerExpiration, WorkerState, WorkerStatus,
};
use wisp_contract::counters::Counter;
use wisp_contract::plan::HttpSettings;
use wisp_engine::Engine;

use super::ticker::{Running, Ticker};
use crate::budget::Budget;
use crate::exit;
use crate::host::{Guest, Host};

/// What instances are made from, and what is shared by all of them.
pub(crate) struct Instances {
    pub(crate) engine: Engine,
    pub(crate) host: Arc<Host>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) program: ProxyPre<Guest>,
    /// The program's name in messages.
    pub(crate) name: String,
    pub(crate) settings: HttpSettings,
    pub(crate) ticker: Ticker,
    /// Told when an instance is gone and its memory is free.
    pub(crate) freed: Arc<Notify>,
}

/// One request from its headers to the end of both its response and its instance.
pub(crate) struct Ticket {
    /// Whether the trap that ended the request has been explained.
    explained: AtomicBool,
    budget: Arc<Budget>,
    name: String,
    path: String,
    patience: Duration,
    _permit: OwnedSemaphorePermit,
    _running: Running,
}

impl Ticket {
    pub(crate) fn new(instances: &Instances, path: &str, permit: OwnedSemaphorePermit) -> Arc<Self> {
        instances.budget.counters().add(Counter::RequestsInFlight, 1);
        Arc::new(Self {
            explained: AtomicBool::new(false),
            budget: Arc::clone(&instances.budget),
            name: instances.name.clone(),
            path: path.to_owned(),
            patience: instances.patience(),
            _permit: permit,
            _running: instances.ticker.run(),
        })
    }

    /// Says once on stderr why the guest did not finish. Both who waits for the response and who buries the instance may
    /// know, and neither always does.
    pub(crate) fn explain(&self, error: &wasmtime::Error) {
        if !self.explained.swap(true, Ordering::Relaxed) {
            self.budget.counters().add(Counter::Traps, 1);
            exit::say(&exit::explain(error, &self.name, &self.budget));
        }
    }

    /// Says that the request took too long, which is all that there is to say about it.
    pub(crate) fn end_for_time(&self) {
        if !self.explained.swap(true, Ordering::Relaxed) {
            let seconds = self.patience.as_secs_f64();
            let Self { name, path, .. } = self;
            exit::say(&format!("{name}: {path:?} took longer than {seconds} s and was ended"));
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.budget.counters().sub(Counter::RequestsInFlight, 1);
    }
}

impl Instances {
    /// How long one request may take.
    pub(crate) fn patience(&self) -> Duration {
        Duration::from_millis(self.settings.request_timeout_ms)
    }
}

impl HandlerState for Instances {
    type StoreData = Guest;
    type WorkerExpiration = Expiration;
    type WorkerState = Worker;

    async fn instantiate(&self) -> wasmtime::Result<Instance<Guest, Expiration, Worker>> {
        let mut store = self.host.store(&self.engine, &self.budget);
        // At each epoch the guest gives the thread back; whether it may go on is for `Expiration` to say.
        store.epoch_deadline_async_yield_and_update(1);
        store.set_epoch_deadline(1);
        let proxy = self.program.instantiate_async(&mut store).await?;
        self.budget.counters().add(Counter::Instances, 1);
        let is_over = Arc::new(AtomicBool::new(false));
        Ok(Instance {
            store,
            proxy,
            view: Guest::http,
            expiration: Expiration { time: Box::pin(sleep(self.patience())), is_over: Arc::clone(&is_over) },
            state: Worker { ticket: Mutex::new(None), freed: Arc::clone(&self.freed), is_over },
        })
    }
}

/// The end of an instance's time, which is its request's.
pub(crate) struct Expiration {
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
pub(crate) struct Worker {
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
