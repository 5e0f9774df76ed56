//! The clock that makes endless computations yield: Wasmtime's epochs, which pass only while requests run.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use wisp_engine::Engine;

/// How long a computation may keep a thread before others get their turn.
const EPOCH: Duration = Duration::from_millis(10);
/// Epochs without a request after which the clock stops: not after each request, as starting it costs a system call.
const LINGER: u32 = 20;
/// The thread does next to nothing.
const STACK: usize = 32 << 10;

/// The process's clock.
pub(crate) struct Ticker(Arc<Shared>);

struct Shared {
    /// Requests that run now.
    running: AtomicUsize,
    /// Whether the clock has stopped, for the thread that starts it again.
    stopped: Mutex<bool>,
    started: Condvar,
}

impl Ticker {
    /// Makes the clock's thread, which sleeps.
    pub(crate) fn start(engine: Engine) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            running: AtomicUsize::new(0),
            stopped: Mutex::new(true),
            started: Condvar::new(),
        });
        let thread = Arc::clone(&shared);
        std::thread::Builder::new().name("epochs".into()).stack_size(STACK).spawn(move || {
            loop {
                thread.sleep_until_started();
                thread.tick_while_running(&engine);
            }
        })?;
        Ok(Self(shared))
    }

    /// Keeps the clock going for as long as the result lives.
    pub(crate) fn run(&self) -> Running {
        if self.0.running.fetch_add(1, Ordering::SeqCst) == 0 {
            let mut stopped = self.0.stopped.lock().unwrap_or_else(PoisonError::into_inner);
            if std::mem::take(&mut *stopped) {
                self.0.started.notify_one();
            }
        }
        Running(Arc::clone(&self.0))
    }
}

impl Shared {
    fn sleep_until_started(&self) {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.started.wait_while(stopped, |stopped| *stopped).unwrap_or_else(PoisonError::into_inner));
    }

    fn tick_while_running(&self, engine: &Engine) {
        let mut quiet = 0;
        while quiet < LINGER {
            std::thread::sleep(EPOCH);
            engine.increment_epoch();
            quiet = if self.running.load(Ordering::SeqCst) == 0 { quiet + 1 } else { 0 };
        }
        let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        // A request that began meanwhile found the clock going and did not start it.
        *stopped = self.running.load(Ordering::SeqCst) == 0;
    }
}

/// A request that runs.
pub(crate) struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}
