//! A load generator: clients over HTTP/1.1 on one thread, which has a processor of its own and is no part of what is measured.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wisp_tests::space::{enter_network_of, on_thread};

use crate::processes;

/// How often the generator looks at its sockets, in turns of its tasks: as they wait for their time by turning, often.
const TURNS: u32 = 16;
/// The longest answer that is understood.
const LONGEST: usize = 4096;

/// What a service is asked, and how often.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    /// The path.
    pub path: String,
    /// How many connections there are; each has one request at a time.
    pub connections: usize,
    /// How long.
    pub time: Duration,
    /// Requests a second over all connections; as many as are answered where there is none.
    pub rate: Option<f64>,
    /// Whether the generator's processor is its own, so that its thread never sleeps.
    pub awake: bool,
}

/// What came of it.
#[derive(Debug, Clone)]
pub(crate) struct Answered {
    /// Answers a second.
    pub per_second: f64,
    /// The processor time of the service for one, in microseconds.
    pub processor: f64,
    /// How long each took, in microseconds: from when it was due, so that one that is late makes those behind it late too.
    pub latencies: Vec<f64>,
}

impl Load {
    /// Asks port 8080 in the network of a process. `processes` are those of the service.
    ///
    /// # Errors
    /// Where a request is not answered 200, or what was measured has ended.
    pub(crate) fn run(self, network: u32, processes: &BTreeSet<i32>) -> Result<Answered> {
        let processes = processes.clone();
        on_thread(move || {
            enter_network_of(network)?;
            let mut last = CpuSet::new();
            last.set(last_processor()?)?;
            sched_setaffinity(Pid::from_raw(0), &last).context("choosing a processor")?;
            let runtime =
                tokio::runtime::Builder::new_current_thread().event_interval(TURNS).enable_io().build()?;
            runtime.block_on(self.drive(&processes))
        })
    }

    async fn drive(self, processes: &BTreeSet<i32>) -> Result<Answered> {
        let mut clients = Vec::new();
        for _ in 0..self.connections {
            clients.push(Client::connect(&self.path).await?);
        }
        let (used, start) = (processes::processor_time(processes)?, Instant::now());
        let tasks: Vec<_> = clients
            .into_iter()
            .enumerate()
            .map(|(index, client)| {
                let pace = self.rate.map(|rate| Pace::new(rate, start, index, self.connections));
                tokio::spawn(client.ask_until(start + self.time, pace))
            })
            .collect();
        if self.awake {
            tokio::spawn(stay_awake(start + self.time));
        }
        let mut latencies = Vec::new();
        for task in tasks {
            latencies.extend(task.await??);
        }
        let (elapsed, used) = (start.elapsed(), processes::processor_time(processes)? - used);
        ensure!(!latencies.is_empty(), "nothing was answered in {:?}", self.time);
        let answers = latencies.len() as f64;
        Ok(Answered {
            per_second: answers / elapsed.as_secs_f64(),
            processor: used.as_secs_f64() * 1e6 / answers,
            latencies,
        })
    }
}

/// Keeps the generator's thread from sleeping. Who answers a thread that sleeps has to wake it: on a virtual machine that costs a service up to
/// 10 µs for each answer, but not one that answers so fast that the generator never sleeps, and none whose clients are elsewhere.
async fn stay_awake(end: Instant) {
    while Instant::now() < end {
        tokio::task::yield_now().await;
    }
}

/// The processor of the generator; services have the first one.
///
/// # Errors
/// Where the kernel does not say how many there are.
fn last_processor() -> Result<usize> {
    Ok(std::thread::available_parallelism()?.get() - 1)
}

/// When the requests of one connection are due.
#[derive(Debug)]
struct Pace {
    due: Instant,
    step: Duration,
}

impl Pace {
    /// Each of the connections asks in turn.
    fn new(rate: f64, start: Instant, index: usize, connections: usize) -> Self {
        let between = Duration::from_secs_f64(1.0 / rate);
        Self { due: start + between * index as u32, step: between * connections as u32 }
    }

    /// Waits for the next one, to the microsecond: the timers of the kernel and of tokio are not that fine.
    async fn next(&mut self) -> Instant {
        let due = self.due;
        self.due += self.step;
        while Instant::now() < due {
            tokio::task::yield_now().await;
        }
        due
    }
}

/// A connection.
struct Client {
    stream: TcpStream,
    request: Vec<u8>,
    /// The whole answer to a request, of which all have the same length.
    answer: Vec<u8>,
}

impl Client {
    /// Connects, and learns the length of an answer by asking once.
    async fn connect(path: &str) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", 8080)).await.context("nobody serves")?;
        stream.set_nodelay(true)?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n").into_bytes();
        let mut client = Self { stream, request, answer: vec![0; LONGEST] };
        client.stream.write_all(&client.request).await?;
        let mut read = 0;
        let length = loop {
            let more = client.stream.read(&mut client.answer[read..]).await?;
            ensure!(
                more > 0,
                "the service closed a connection, or its answer is longer than {LONGEST} bytes"
            );
            read += more;
            if let Some(length) = length(&client.answer[..read])? {
                break length;
            }
        };
        client.answer.truncate(length);
        Ok(client)
    }

    /// Asks again and again; how long each answer took, in microseconds.
    async fn ask_until(mut self, end: Instant, mut pace: Option<Pace>) -> Result<Vec<f64>> {
        let mut latencies = Vec::new();
        loop {
            let due = match &mut pace {
                Some(pace) => pace.next().await,
                None => Instant::now(),
            };
            if due >= end {
                return Ok(latencies);
            }
            self.stream.write_all(&self.request).await?;
            self.stream.read_exact(&mut self.answer).await.context("the service closed a connection")?;
            ensure!(self.answer.starts_with(b"HTTP/1.1 200"), "the answers are not alike");
            latencies.push(due.elapsed().as_secs_f64() * 1e6);
        }
    }
}

/// How long a whole answer is; `None` where it has not come yet.
fn length(answer: &[u8]) -> Result<Option<usize>> {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return Ok(None) };
    ensure!(head.starts_with("HTTP/1.1 200"), "the service answered {head:?}");
    let head = head.to_ascii_lowercase();
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let whole = match (header("content-length"), header("transfer-encoding")) {
        (Some(length), _) => head.len() + 4 + length.parse::<usize>()?,
        (None, Some("chunked")) if body.ends_with("0\r\n\r\n") => answer.len(),
        (None, Some("chunked")) => return Ok(None),
        _ => bail!("an answer without a length: {head:?}"),
    };
    Ok((answer.len() >= whole).then_some(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_as_long_as_it_says() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(length(whole).unwrap(), Some(whole.len()));
        assert_eq!(length(&whole[..whole.len() - 1]).unwrap(), None);
        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
        assert_eq!(length(chunked).unwrap(), Some(chunked.len()));
        assert_eq!(length(&chunked[..chunked.len() - 5]).unwrap(), None);
    }

    #[test]
    fn what_is_not_200_or_has_no_length_is_refused() {
        assert!(length(b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n").is_err());
        assert!(length(b"HTTP/1.1 200 OK\r\n\r\nhello").is_err());
    }

    #[test]
    fn connections_ask_in_turn() {
        let start = Instant::now();
        let paces: Vec<_> = (0..4).map(|index| Pace::new(1000.0, start, index, 4)).collect();
        assert_eq!(paces[3].due - start, Duration::from_millis(3));
        assert!(paces.iter().all(|pace| pace.step == Duration::from_millis(4)));
    }

    #[tokio::test]
    async fn a_late_request_makes_those_behind_it_late() {
        let start = Instant::now() - Duration::from_secs(1);
        let mut pace = Pace::new(1000.0, start, 0, 1);
        assert_eq!(pace.next().await, start);
        assert_eq!(pace.next().await, start + Duration::from_millis(1), "not now");
    }
}
