//! Answering `wisp-runtime` and others on the control socket, from a thread that runs no guest code.

use std::io::{BufRead, BufReader};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::sync::watch;
use wisp_contract::control::{Reply, Request, send};
use wisp_contract::counters::Counter;
use wisp_contract::plan::Plan;

use crate::budget::Budget;
use crate::plan_in::own;
use crate::signals;

/// A message fits well into this, and the thread does little else.
const STACK: usize = 64 << 10;
/// How long one asker may take to ask: others wait behind it.
const PATIENCE: Duration = Duration::from_secs(5);

/// The moment at which the guest may run; none where it need not wait.
pub(crate) struct Start(Option<mpsc::Receiver<()>>);

impl Start {
    /// Waits until the start was asked for. Signals end the wait with the process.
    pub(crate) fn wait(self) {
        // The sender is gone only with the thread that serves, and then nobody can ask any more.
        let _ = self.0.map(|asked| asked.recv());
    }
}

/// Serves the plan's control socket, if it has one: limits go to `budget` and `cpus`, and figures come from there.
pub(crate) fn serve(plan: &Plan, budget: &Arc<Budget>, cpus: &watch::Sender<Option<f64>>) -> Result<Start> {
    let (asked, start) = mpsc::channel();
    match plan.control_fd {
        Some(fd) => {
            let listener = UnixListener::from(own(fd).context("the plan's control socket")?);
            let server = Server { budget: Arc::clone(budget), cpus: cpus.clone(), start: asked };
            std::thread::Builder::new()
                .name("control".into())
                .stack_size(STACK)
                .spawn(move || server.serve(&listener))
                .context("no thread for the control socket")?;
        }
        None if plan.wait_for_start => {
            bail!("the plan waits for a start and has no control socket to ask for it")
        }
        None => {}
    }
    Ok(Start(plan.wait_for_start.then_some(start)))
}

struct Server {
    budget: Arc<Budget>,
    cpus: watch::Sender<Option<f64>>,
    start: mpsc::Sender<()>,
}

impl Server {
    fn serve(&self, listener: &UnixListener) {
        for stream in listener.incoming() {
            match stream {
                // One asker's mistakes are its own.
                Ok(stream) => {
                    let _ = self.converse(&stream);
                }
                // Out of descriptors, most likely: they come back.
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    fn converse(&self, stream: &UnixStream) -> Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        for line in BufReader::new(stream).lines() {
            let line = line?;
            let (reply, then) = match serde_json::from_str(&line) {
                Ok(request) => (self.answer(&request), Some(request)),
                Err(error) => {
                    (Reply::Refused(format!("the guest process does not know this request: {error}")), None)
                }
            };
            send(stream, &reply)?;
            // What may end the process at once comes after the answer.
            match then {
                // Asked twice, the second has nothing to do.
                Some(Request::Start) => drop(self.start.send(())),
                Some(Request::Drain) => signals::stop(),
                _ => {}
            }
        }
        Ok(())
    }

    fn answer(&self, request: &Request) -> Reply {
        match request {
            Request::Start => {
                self.budget.counters().set(Counter::Started, 1);
                Reply::Done
            }
            Request::Drain => Reply::Done,
            Request::Limits { memory, cpus } => {
                if memory.is_some() {
                    self.budget.set_container_limit(*memory);
                }
                // The quota itself is the cgroup's; a service's threads follow it.
                if cpus.is_some() {
                    self.cpus.send_replace(*cpus);
                }
                Reply::Done
            }
            Request::Stats => Reply::Stats(self.budget.counters().snapshot()),
        }
    }
}
