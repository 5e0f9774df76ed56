//! The threads that connections and requests run on: as many as the container has processors, also when that changes.
//!
//! tokio's pools have one size for life. A change therefore makes another pool for the connections to come; those of the one
//! before end with their next response, as in a drain, and their clients come again.

use std::io;
use std::thread::available_parallelism;
use std::time::Duration;

use rustix::thread::sched_getaffinity;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;
use tokio::time::sleep;

use super::connection::Phase;

/// How many turns of tasks pass before a reactor looks at sockets and timers again. A guest that computes takes a whole
/// epoch for its turn, and tokio's default (61) would keep all others waiting for that many.
const TURNS: u32 = 4;
/// Threads beside a reactor's may exist for file operations, this many at most.
const BLOCKING_THREADS: usize = 16;

/// The reactor of the thread that accepts connections, and which runs all else too where there is one processor.
pub(crate) fn main() -> io::Result<Runtime> {
    configured(Builder::new_current_thread()).build()
}

/// How many threads serve a container with this quota of processors: no more than its quota keeps busy.
pub(crate) fn threads(cpus: Option<f64>) -> usize {
    let machine = processors();
    match cpus {
        Some(cpus) if cpus > 0.0 => (1..machine).find(|threads| *threads as f64 >= cpus).unwrap_or(machine),
        _ => machine,
    }
}

/// The processors that this process may run on. The standard library would read the files of control groups for a quota too, which takes
/// 0.1 ms and is known here.
fn processors() -> usize {
    match sched_getaffinity(None) {
        Ok(set) => set.count().max(1) as usize,
        // More than such a set has room for.
        Err(_) => available_parallelism().map_or(1, usize::from),
    }
}

fn configured(mut builder: Builder) -> Builder {
    builder.max_blocking_threads(BLOCKING_THREADS).event_interval(TURNS).enable_all();
    builder
}

/// The threads of one size, and the phase of the connections that they serve.
pub(crate) struct Pool {
    threads: usize,
    handle: Handle,
    /// None where the thread that accepts does it all.
    runtime: Option<Runtime>,
    /// What the connections of this pool are told.
    pub(crate) phase: watch::Sender<Phase>,
}

impl Pool {
    /// A pool of so many threads; to be called on the thread that accepts connections.
    pub(crate) fn new(threads: usize) -> io::Result<Self> {
        let runtime = match threads {
            0 | 1 => None,
            _ => Some(configured(Builder::new_multi_thread()).worker_threads(threads).build()?),
        };
        let handle = runtime.as_ref().map_or_else(Handle::current, |runtime| runtime.handle().clone());
        Ok(Self { threads, handle, runtime, phase: watch::Sender::new(Phase::Serving) })
    }

    /// How many threads it has.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Where its tasks are spawned.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Lets its connections end with their next response, and ends its threads once the requests of the last one have had
    /// their time.
    pub(crate) fn retire(self, patience: Duration) {
        self.phase.send_replace(Phase::Draining);
        tokio::spawn(async move {
            self.phase.closed().await;
            sleep(patience).await;
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // What still runs has had its time.
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_has_as_many_threads_as_it_keeps_busy() {
        let machine = processors();
        assert_eq!(threads(Some(0.25)), 1);
        assert_eq!(threads(Some(1.0)), 1);
        assert_eq!(threads(Some(1.5)), machine.min(2));
        assert_eq!(threads(Some(1e9)), machine, "more than the machine has");
        assert_eq!((threads(None), threads(Some(0.0))), (machine, machine), "no quota");
    }

    #[test]
    fn a_retired_pool_ends_when_its_last_connection_has() {
        main().unwrap().block_on(async {
            let pool = Pool::new(2).unwrap();
            let (handle, mut connection) = (pool.handle().clone(), pool.phase.subscribe());
            let served = handle.spawn(async move {
                connection.changed().await.unwrap();
                *connection.borrow()
            });
            pool.retire(Duration::ZERO);
            assert_eq!(served.await.unwrap(), Phase::Draining, "while it has connections it runs");
            // A pool that has ended cancels what it is given.
            while handle.spawn(async {}).await.is_ok() {
                tokio::task::yield_now().await;
            }
        });
    }
}
