//! What instances are made from, and what a request holds until it and its instance have ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Request;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use wasmtime::Store;
use wasmtime_wasi_http::WasiBody;
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
    /// The program's name in messages.
    pub(crate) name: String,
    pub(crate) settings: HttpSettings,
    pub(crate) ticker: Ticker,
    /// Told when an instance is gone and its memory is free.
    pub(crate) freed: Arc<Notify>,
}

/// Why a request was not answered.
pub(crate) enum Unhandled {
    /// There could be no instance for it; here it is again.
    Uninstantiated(Arc<wasmtime::Error>, Box<Request<WasiBody>>),
    /// The instance failed.
    Failed(wasmtime::Error),
}

/// One request from its headers to the end of both its response and its instance.
pub(crate) struct Ticket {
    /// Whether the trap that ended the request has been explained.
    explained: AtomicBool,
    instances: Arc<Instances>,
    path: String,
    _permit: OwnedSemaphorePermit,
    _running: Running,
}

impl Ticket {
    pub(crate) fn new(instances: &Arc<Instances>, path: &str, permit: OwnedSemaphorePermit) -> Arc<Self> {
        instances.budget.counters().add(Counter::RequestsInFlight, 1);
        Arc::new(Self {
            explained: AtomicBool::new(false),
            instances: Arc::clone(instances),
            path: path.to_owned(),
            _permit: permit,
            _running: instances.ticker.run(),
        })
    }

    /// Says once on stderr why the guest did not finish. Both who waits for the response and who buries the instance may
    /// know, and neither always does.
    pub(crate) fn explain(&self, error: &wasmtime::Error) {
        if !self.explained.swap(true, Ordering::Relaxed) {
            let Instances { budget, name, .. } = &*self.instances;
            budget.counters().add(Counter::Traps, 1);
            exit::say(&exit::explain(error, name, budget));
        }
    }

    /// Says that the request took too long, which is all that there is to say about it.
    pub(crate) fn end_for_time(&self) {
        if !self.explained.swap(true, Ordering::Relaxed) {
            let seconds = self.instances.patience().as_secs_f64();
            let (name, path) = (&self.instances.name, &self.path);
            exit::say(&format!("{name}: {path:?} took longer than {seconds} s and was ended"));
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.instances.budget.counters().sub(Counter::RequestsInFlight, 1);
    }
}

impl Instances {
    /// How long one request may take.
    pub(crate) fn patience(&self) -> Duration {
        Duration::from_millis(self.settings.request_timeout_ms)
    }

    /// A store for an instance, whose guest gives its thread back at each epoch; who runs it sees to its end.
    pub(crate) fn store(&self) -> Store<Guest> {
        let mut store = self.host.store(&self.engine, &self.budget);
        store.epoch_deadline_async_yield_and_update(1);
        store.set_epoch_deadline(1);
        store
    }
}
