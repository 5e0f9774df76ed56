//! WASI 0.2: an instance has one request at a time, and is fresh for each unless the pod asks otherwise.
//!
//! Wasmtime's `ProxyHandler` would do it too. It gives each instance a task and what 0.3 needs to run several requests beside each
//! other, which costs a small request more than its guest does.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use http::{Request, Response};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use wasmtime::{Store, format_err};
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};
use wasmtime_wasi_http::{WasiBody, WasiHttpView};
use wisp_contract::counters::Counter;

use super::instances::{Instances, Ticket, Unhandled};
use crate::host::Guest;

/// Instances that wait for their next request; more are not kept, because they hold their memory.
const IDLE: usize = 16;

/// A program of WASI 0.2 that takes requests.
pub(crate) struct Calls {
    instances: Arc<Instances>,
    program: ProxyPre<Guest>,
    /// Instances that may serve another request. The one that served last is first, so that those that are not needed stay untouched.
    idle: Mutex<Vec<Instance>>,
}

/// Where the response goes, once: to whoever waits for it. What is left of it when the guest has ended says that there was none.
type Answer = Arc<Mutex<Option<oneshot::Sender<wasmtime::Result<Response<WasiBody>>>>>>;

impl Calls {
    /// Takes requests for the program.
    pub(crate) fn new(instances: Arc<Instances>, program: ProxyPre<Guest>) -> Arc<Self> {
        Arc::new(Self { instances, program, idle: Mutex::default() })
    }

    /// What instances are made from.
    pub(crate) fn instances(&self) -> &Arc<Instances> {
        &self.instances
    }

    /// Hands a request to an instance.
    ///
    /// # Errors
    /// Where there could be no instance, or it did not answer.
    pub(crate) async fn handle(
        self: &Arc<Self>,
        ticket: &Arc<Ticket>,
        request: Request<WasiBody>,
        deadline: Instant,
    ) -> Result<Response<WasiBody>, Unhandled> {
        let instance = match self.instance().await {
            Ok(instance) => instance,
            Err(error) => return Err(Unhandled::Uninstantiated(Arc::new(error), Box::new(request))),
        };
        let (sender, response) = oneshot::channel();
        let answer = Arc::new(Mutex::new(Some(sender)));
        let mut run = Box::pin(Arc::clone(self).run(instance, request, answer, Arc::clone(ticket), deadline));
        // Most are done at the first turn, which needs no task of its own. Those that are not outlive a client that goes away.
        if poll_fn(|cx| Poll::Ready(run.as_mut().poll(cx))).await.is_pending() {
            tokio::spawn(run);
        }
        let answered = response.await;
        answered
            .unwrap_or_else(|_| {
                Err(format_err!("the guest ended without a response (response-outparam.set)"))
            })
            .map_err(Unhandled::Failed)
    }

    /// An instance that nobody uses.
    async fn instance(&self) -> wasmtime::Result<Instance> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(instance) = idle {
            return Ok(instance);
        }
        let mut store = self.instances.store();
        // Large, and not to be a part of what each request is.
        let proxy = Box::pin(self.program.instantiate_async(&mut store)).await?;
        self.instances.budget.counters().add(Counter::Instances, 1);
        Ok(Instance { store, proxy, served: 0 })
    }

    /// Keeps an instance for another request if it may serve one.
    fn keep(&self, instance: Instance) {
        if instance.served >= self.instances.settings.requests_per_instance {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE {
            idle.push(instance);
        }
    }

    /// Runs the handler to its end, which may come after its response.
    async fn run(
        self: Arc<Self>,
        mut instance: Instance,
        request: Request<WasiBody>,
        answer: Answer,
        ticket: Arc<Ticket>,
        deadline: Instant,
    ) {
        let called = {
            let call = pin!(instance.call(request, &answer));
            timeout_at(deadline, call).await
        };
        match called {
            Ok(Ok(())) => self.keep(instance),
            Ok(Err(error)) => {
                ticket.explain(&error);
                drop(instance);
            }
            Err(_) => {
                ticket.end_for_time();
                drop(instance);
            }
        }
        drop(ticket);
        self.instances.freed.notify_waiters();
        // Whoever waits in vain learns it last, when all has been said and freed.
        drop(answer);
    }
}

struct Instance {
    store: Store<Guest>,
    proxy: Proxy,
    /// Requests, the one that it has included.
    served: u32,
}

impl Instance {
    async fn call(&mut self, request: Request<WasiBody>, answer: &Answer) -> wasmtime::Result<()> {
        let Self { store, proxy, served } = self;
        *served += 1;
        store.set_epoch_deadline(1);
        let mut http = store.data_mut().http();
        let request = http.new_incoming_request(Scheme::Http, request)?;
        let answer = Arc::clone(answer);
        let out = http.new_response_outparam_from_callback(move |response| {
            if let Some(sender) = answer.lock().unwrap_or_else(PoisonError::into_inner).take() {
                // Nobody waits any more for what took too long.
                let _ = sender.send(response.map_err(wasmtime::Error::from));
            }
        })?;
        proxy.wasi_http_incoming_handler().call_handle(store, request, out).await
    }
}
