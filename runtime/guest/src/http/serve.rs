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
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::net::{SocketFlags, accept_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use wisp_contract::counters::Counter;
use wisp_contract::plan::HttpSettings;

use super::connection::{self, Phase};
use super::handler::Handler;
use super::listen::Port;
use super::pool::{self, Pool};
use super::request::Service;
use crate::{exit, signals};

/// How long to leave connections in the queue when there are no descriptors for them.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(50);

/// Serves on the threads of `pool` until the process is asked to stop, and what follows from it. `cpus` is the container's quota of
/// processors, by which the pool was made, as it changes.
pub(crate) async fn serve(
    port: Port,
    handler: Handler,
    settings: HttpSettings,
    pool: io::Result<Pool>,
    mut cpus: watch::Receiver<Option<f64>>,
) -> Result<()> {
    let listener = port.listen().and_then(watched).context("the service's port cannot be listened on")?;
    let most = (settings.max_connections.max(1) as usize).min(Semaphore::MAX_PERMITS);
    let mut server = Server {
        delay: Duration::from_millis(settings.drain_delay_ms),
        timeout: Duration::from_millis(settings.drain_timeout_ms),
        settings: Arc::new(settings),
        service: Service::new(handler.clone()),
        pool: pool.context("the service's threads cannot be started")?,
        retired: Vec::new(),
        permits: Arc::new(Semaphore::new(most)),
        open: Arc::default(),
        last_opened: Instant::now(),
    };
    loop {
        tokio::select! {
            biased;
            () = signals::stop_asked() => break,
            Ok(()) = cpus.changed() => server.resize(pool::threads(*cpus.borrow_and_update())),
            () = server.accept(&listener) => {}
        }
    }
    server.drain(listener, &handler).await
}

struct Server {
    settings: Arc<HttpSettings>,
    delay: Duration,
    timeout: Duration,
    service: Service,
    pool: Pool,
    /// The connections of pools that were replaced.
    retired: Vec<watch::Sender<Phase>>,
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
    /// From now on connections are served by so many threads.
    fn resize(&mut self, threads: usize) {
        if threads == self.pool.threads() {
            return;
        }
        match Pool::new(threads) {
            Ok(pool) => {
                let old = std::mem::replace(&mut self.pool, pool);
                self.retired.retain(|phase| phase.receiver_count() > 0);
                self.retired.push(old.phase.clone());
                old.retire(Duration::from_millis(self.settings.request_timeout_ms));
            }
            Err(error) => exit::say(&format!("wisp-guest: the service stays with its threads: {error}")),
        }
    }

    /// Accepts connections for ever. No more than `max_connections`: others wait in the kernel's queue.
    async fn accept(&mut self, listener: &AsyncFd<TcpListener>) {
        loop {
            let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else { return };
            match listener.async_io(Interest::READABLE, accept_one).await {
                Ok(stream) => self.spawn(stream, Some(permit)),
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
        let (service, settings) = (self.service.clone(), Arc::clone(&self.settings));
        let phase = self.pool.phase.subscribe();
        self.pool.handle().spawn(async move {
            // Registered with the reactor of the threads that serve it.
            if let Ok(stream) = tokio::net::TcpStream::from_std(stream) {
                connection::serve(stream, service, settings, phase).await;
            }
            drop((permit, opened));
        });
    }

    fn enter(&self, phase: Phase) {
        for connections in self.retired.iter().chain([&self.pool.phase]) {
            connections.send_replace(phase);
        }
    }

    async fn drain(&mut self, listener: AsyncFd<TcpListener>, handler: &Handler) -> Result<()> {
        if !self.is_unused() {
            self.enter(Phase::Draining);
            let over = Instant::now() + self.delay;
            tokio::select! {
                biased;
                () = sleep_until(over) => {}
                () = self.accept(&listener) => {}
            }
        }
        self.empty_queue(listener.get_ref());
        self.enter(Phase::Closing);
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
    fn empty_queue(&mut self, listener: &TcpListener) {
        loop {
            match accept_one(listener) {
                Ok(stream) => self.spawn(stream, None),
                Err(error) if is_of_client(&error) => {}
                Err(_) => return,
            }
        }
    }

    /// Waits for the connections' ends and for what guests do after their responses.
    async fn finish(&self, handler: &Handler) {
        let deadline = Instant::now() + self.timeout;
        while self.open.count.load(Ordering::Acquire) > 0 {
            if timeout_at(deadline, self.open.none.notified()).await.is_err() {
                return;
            }
        }
        let instances = handler.instances();
        loop {
            let freed = instances.freed.notified();
            let is_done = instances.budget.counters().get(Counter::RequestsInFlight) == 0;
            if is_done || timeout_at(deadline, freed).await.is_err() {
                return;
            }
        }
    }
}

fn watched(listener: TcpListener) -> io::Result<AsyncFd<TcpListener>> {
    // SAFETY: a `TcpListener` owns an open descriptor, which stays the same for as long as it lives.
    Ok(unsafe { AsyncFd::register(listener) }?)
}

/// A connection that is there; `WouldBlock` if there is none.
fn accept_one(listener: &TcpListener) -> io::Result<TcpStream> {
    Ok(accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?.into())
}

fn is_of_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
