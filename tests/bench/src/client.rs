//! The first byte of a service.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use wisp_tests::bed::LIMIT;
use wisp_tests::space::enter_network_of;

/// How long to wait before connecting again where nobody listens yet.
const PAUSE: Duration = Duration::from_micros(100);

/// A thread in a pod's network that waits to be told to connect.
pub(crate) struct Client {
    go: mpsc::Sender<()>,
    thread: thread::JoinHandle<Result<Instant>>,
}

impl Client {
    /// Starts it, and waits until it waits.
    ///
    /// # Errors
    /// Where the process has ended.
    pub(crate) fn ready(pid: u32) -> Result<Self> {
        let (go, told) = mpsc::channel();
        let (tell, ready) = mpsc::channel();
        let thread = thread::spawn(move || {
            enter_network_of(pid)?;
            tell.send(())?;
            told.recv()?;
            ask()
        });
        ready.recv().context("a client did not enter the pod's network")?;
        Ok(Self { go, thread })
    }

    /// Tells it to connect; when the first byte of the answer came.
    ///
    /// # Errors
    /// Where nobody serves, or the answer is not 200.
    pub(crate) fn first_byte(self) -> Result<Instant> {
        self.go.send(()).context("a client has ended")?;
        self.thread.join().map_err(|_| anyhow!("a client panicked"))?
    }
}

fn ask() -> Result<Instant> {
    let start = Instant::now();
    let mut stream = loop {
        match TcpStream::connect(("127.0.0.1", 8080)) {
            Ok(stream) => break stream,
            Err(error) if start.elapsed() > LIMIT => return Err(error).context("nobody serves"),
            Err(_) => thread::sleep(PAUSE),
        }
    };
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(b"GET /hello HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")?;
    let mut answer = vec![0; 1];
    stream.read_exact(&mut answer).context("the service closed the connection")?;
    let at = Instant::now();
    stream.read_to_end(&mut answer)?;
    ensure!(
        answer.starts_with(b"HTTP/1.1 200"),
        "the service answered {:?}",
        String::from_utf8_lossy(&answer)
    );
    Ok(at)
}
