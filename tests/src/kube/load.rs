//! Clients of a Service that ask all the time, on connections that are kept and on new ones.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};

use crate::net::Connection;
use crate::space::Space;

/// Clients that keep their connection, and clients that make one for each request.
const KEEPING: usize = 6;
const CONNECTING: usize = 4;
/// What each waits from one request to the next: together they ask some hundred times a second.
const PAUSE: Duration = Duration::from_millis(15);

/// What became of the requests.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// How many were answered 200.
    pub answered: u64,
    /// What happened to the others, with the time since the start.
    pub failures: Vec<String>,
}

/// Clients that ask until they are told to stop.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Result<Tally>>>,
}

impl Load {
    /// Starts clients in a space. A connection that the server says it closes is made anew; any other end is a failure.
    #[must_use]
    pub fn start(space: &Space, address: SocketAddr, path: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let start = Instant::now();
        let clients = (0..KEEPING + CONNECTING).map(|number| {
            let (space, stop) = (space.clone(), Arc::clone(&stop));
            thread::spawn(move || {
                space.enter()?;
                let mut tally = Tally::default();
                let mut kept = None;
                while !stop.load(Ordering::Relaxed) {
                    match ask(&mut kept, address, path) {
                        Ok(()) => tally.answered += 1,
                        Err(error) => tally.failures.push(format!("after {:?}: {error:#}", start.elapsed())),
                    }
                    if number >= KEEPING {
                        kept = None;
                    }
                    thread::sleep(PAUSE);
                }
                Ok(tally)
            })
        });
        let clients = clients.collect();
        Self { stop, clients }
    }

    /// Tells the clients to stop; what became of their requests.
    ///
    /// # Errors
    /// Where a client could not work at all.
    pub fn stop(self) -> Result<Tally> {
        self.stop.store(true, Ordering::Relaxed);
        let mut sum = Tally::default();
        for client in self.clients {
            let tally = client.join().map_err(|_| anyhow!("a client panicked"))??;
            sum.answered += tally.answered;
            sum.failures.extend(tally.failures);
        }
        Ok(sum)
    }
}

fn ask(kept: &mut Option<Connection>, address: SocketAddr, path: &str) -> Result<()> {
    let kind = if kept.is_some() { "a kept connection" } else { "a new connection" };
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => Connection::to(address)?,
    };
    let answer = connection.get(path).map_err(|error| error.context(kind))?;
    ensure!(answer.status == 200, "{kind}: answered {}", answer.status);
    if !answer.closes {
        *kept = Some(connection);
    }
    Ok(())
}
