//! Accepting connections, and stopping so that no request fails.
//!
//! On SIGTERM a service goes on accepting for `drain_delay_ms`, because clients are told of its end while it is: endpoints are
//! removed and connections are opened at the same time. Each answer closes its connection (HTTP/1) or is followed by GOAWAY
//! (HTTP/2). Then the kernel's queue is emptied into the service, the port is closed, and what was begun is finished, within
//! `drain_timeout_ms`.
//!
//! A service that nobody uses does not wait. That is one with no connection open, none in the queue, and none opened or closed
//! for as long as the delay: where there was no traffic for that long, none is on its way through an endpoint that is being
//! removed, but for a client that happens to come for the first time in this very second, and which will find no endpoint in
//! the next. Kubelet's probes count as traffic.

use std::io;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use wasmtime_wasi_http::handler::ProxyHandler;
use wisp_contract::counters::Counter;
use wisp_contract::plan::HttpSettings;

use super::connection::{self, Phase};
use super::instances::Instances;
use super::listen::Port;
use super::request::Service;
use crate::signals;

/// How long to leave connections in the queue when there are no descriptors for them.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(50);

/// Serves until the process is asked to stop, and what follows from it.
pub(crate) async fn serve(
    port: Port,
    handler: ProxyHandler<Instances>,
    settings: HttpSettings,
) -> Result<()> {
    let listener =
        port.listen().and_then(TcpListener::from_std).context("the service's port cannot be listened on")?;
    let (phase, _) = watch::channel(Phase::Serving);
    let most = (settings.max_connections.max(1) as usize).min(Semaphore::MAX_PERMITS);
    let mut server = Server {
        delay: Duration::from_millis(settings.drain_delay_ms),
        timeout: Duration::from_millis(settings.drain_timeout_ms),
        settings: Arc::new(settings),
        service: Service::new(handler.clone()),
        phase,
        permits: Arc::new(Semaphore::new(most)),
        open: Arc::default(),
        last_opened: Instant::now(),
    };
    tokio::select! {
        biased;
        () = signals::stop_asked() => {}
        () = server.accept(&listener) => {}
    }
    server.drain(listener, &handler).await
}

struct Server {
    settings: Arc<HttpSettings>,
    delay: Duration,
    timeout: Duration,
    service: Service,
    phase: watch::Sender<Phase>,
    permits: Arc<Semaphore>,
    open: Arc<Open>,
    last_opened: Instant,
}

/// The connections that are open.
#[derive(Default)]
struct Open {
    count: AtomicUsize,
    /// Told when the last one closes.
    none: Notify,
    /// Milliseconds since the epoch of the last close do not matter to anybody while one is open.
    last_closed: std::sync::Mutex<Option<Instant>>,
}

/// One open connection.
struct Opened(Arc<Open>);

impl Drop for Opened {
    fn drop(&mut self) {
        if let Ok(mut last) = self.0.last_closed.lock() {
            *last = Some(Instant::now());
        }
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none.notify_one();
        }
    }
}

impl Server {
    /// Accepts connections for ever. No more than `max_connections`: others wait in the kernel's queue.
    async fn accept(&mut self, listener: &TcpListener) {
        loop {
            let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => self.spawn(stream, Some(permit)),
                // The client is gone already, or there are no descriptors left.
                Err(error) if is_of_client(&error) => {}
                Err(_) => sleep(OUT_OF_DESCRIPTORS).await,
            }
        }
    }

    fn spawn(&mut self, stream: TcpStream, permit: Option<OwnedSemaphorePermit>) {
        self.last_opened = Instant::now();
        self.open.count.fetch_add(1, Ordering::AcqRel);
        let opened = Opened(Arc::clone(&self.open));
        let connection = connection::serve(
            stream,
            self.service.clone(),
            Arc::clone(&self.settings),
            self.phase.subscribe(),
        );
        tokio::spawn(async move {
            connection.await;
            drop((permit, opened));
        });
    }

    async fn drain(&mut self, listener: TcpListener, handler: &ProxyHandler<Instances>) -> Result<()> {
        let listener = if self.is_unused() {
            listener
        } else {
            self.phase.send_replace(Phase::Draining);
            let over = Instant::now() + self.delay;
            tokio::select! {
                biased;
                () = sleep_until(over) => {}
                () = self.accept(&listener) => {}
            }
            listener
        };
        let listener = listener.into_std().context("the service's port")?;
        self.empty_queue(&listener);
        self.phase.send_replace(Phase::Closing);
        drop(listener);
        self.finish(handler).await;
        Ok(())
    }

    /// Whether nobody has used the service for as long as it would wait.
    fn is_unused(&self) -> bool {
        let recently = |at: Instant| at.elapsed() < self.delay;
        self.open.count.load(Ordering::Acquire) == 0
            && !recently(self.last_opened)
            && !self.open.last_closed.lock().is_ok_and(|last| last.is_some_and(recently))
    }

    /// Accepts what has connected already, over any limit: to close the port would reset it.
    fn empty_queue(&mut self, listener: &StdListener) {
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    if stream.set_nonblocking(true).is_ok()
                        && let Ok(stream) = TcpStream::from_std(stream)
                    {
                        self.spawn(stream, None);
                    }
                }
                Err(error) if is_of_client(&error) => {}
                Err(_) => return,
            }
        }
    }

    /// Waits for the connections' ends and for what guests do after their responses.
    async fn finish(&self, handler: &ProxyHandler<Instances>) {
        let deadline = Instant::now() + self.timeout;
        while self.open.count.load(Ordering::Acquire) > 0 {
            if timeout_at(deadline, self.open.none.notified()).await.is_err() {
                return;
            }
        }
        let instances = handler.state();
        loop {
            let freed = instances.freed.notified();
            let is_done = instances.budget.counters().get(Counter::RequestsInFlight) == 0;
            if is_done || timeout_at(deadline, freed).await.is_err() {
                return;
            }
        }
    }
}

fn is_of_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
