//! Clients and servers in the networks of spaces and containers.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::process::{self, Finished};
use crate::space::{Space, enter_network_of};

/// How long a connection may be silent.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `curl` in the network of a process.
///
/// # Errors
/// Where `curl` is missing or does not end.
pub fn curl(pid: u32, args: &[&str]) -> Result<Finished> {
    let net = format!("--net=/proc/{pid}/ns/net");
    let mut command = Command::new("nsenter");
    command.args([&net, "curl", "--silent", "--show-error", "--max-time", "20"]).args(args);
    process::run(&mut command, Duration::from_secs(30))
}

/// Gets a page from port 8080 of a container; its body, where the answer was 200.
///
/// # Errors
/// Anything else.
pub fn get(pid: u32, path: &str) -> Result<String> {
    curl(pid, &["--fail-with-body", &format!("http://127.0.0.1:8080{path}")])?
        .success()
        .with_context(|| format!("GET {path}"))
}

/// One answer to a request.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Whether the server said that it closes the connection.
    pub closes: bool,
    /// The body.
    pub body: String,
}

/// A connection over HTTP/1.1 that is kept alive.
#[derive(Debug)]
pub struct Connection(BufReader<TcpStream>);

impl Connection {
    /// Connects to port 8080 of this side, in the calling thread's network.
    ///
    /// # Errors
    /// Those of connecting.
    pub fn open() -> Result<Self> {
        Self::to(([127, 0, 0, 1], 8080).into())
    }

    /// Connects to any address from the calling thread's network.
    ///
    /// # Errors
    /// Those of connecting.
    pub fn to(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).context("connecting")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Asks for a page.
    ///
    /// # Errors
    /// Where the connection breaks or the answer is no HTTP.
    pub fn get(&mut self, path: &str) -> Result<Answer> {
        write!(self.0.get_mut(), "GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")?;
        let mut line = String::new();
        ensure!(self.0.read_line(&mut line)? > 0, "the connection was closed without an answer");
        let status =
            line.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status line")?;
        let (mut length, mut chunked, mut closes) = (0, false, false);
        loop {
            line.clear();
            self.0.read_line(&mut line)?;
            let header = line.trim_end().to_ascii_lowercase();
            match header.split_once(": ") {
                _ if header.is_empty() => break,
                Some(("content-length", value)) => length = value.parse()?,
                Some(("transfer-encoding", "chunked")) => chunked = true,
                Some(("connection", "close")) => closes = true,
                _ => {}
            }
        }
        let body = if chunked { self.chunks()? } else { self.exactly(length)? };
        Ok(Answer { status, closes, body: String::from_utf8_lossy(&body).into_owned() })
    }

    fn chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line)?;
            let length =
                usize::from_str_radix(line.trim_end(), 16).with_context(|| format!("chunk {line:?}"))?;
            body.extend(self.exactly(length)?);
            self.0.read_line(&mut line)?;
            if length == 0 {
                return Ok(body);
            }
        }
    }

    fn exactly(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// Clients that ask for one page after the other until they are told to stop.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Result<u64>>>,
}

impl Load {
    /// Starts clients in the network of a container. They connect again where the server says that it closes; `refused`
    /// connections end a client without an error once it was told to stop or the server has closed.
    ///
    /// # Errors
    /// Where the first request of a client does not succeed.
    pub fn start(pid: u32, clients: usize, path: &'static str) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (started, ready) = mpsc::channel();
        let clients = (0..clients)
            .map(|_| {
                let (stop, started) = (Arc::clone(&stop), started.clone());
                thread::spawn(move || {
                    enter_network_of(pid)?;
                    client(&stop, &started, path)
                })
            })
            .collect::<Vec<_>>();
        for _ in &clients {
            ready.recv_timeout(PATIENCE).context("a client got no first answer")?;
        }
        Ok(Self { stop, clients })
    }

    /// Tells the clients to stop; how many requests were answered.
    ///
    /// # Errors
    /// The first request that failed.
    pub fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let mut total = 0;
        for client in self.clients {
            total += client.join().map_err(|_| anyhow!("a client panicked"))??;
        }
        Ok(total)
    }
}

fn client(stop: &AtomicBool, started: &mpsc::Sender<()>, path: &str) -> Result<u64> {
    let mut answered = 0;
    'connections: while !stop.load(Ordering::Relaxed) {
        let mut connection = match Connection::open() {
            Ok(connection) => connection,
            // Once the server has gone there is nobody to ask: whoever refused a connection has lost no request.
            Err(_) if answered > 0 => break,
            Err(error) => return Err(error),
        };
        while !stop.load(Ordering::Relaxed) {
            let answer = connection.get(path).with_context(|| format!("request {}", answered + 1))?;
            ensure!(answer.status == 200, "request {} was answered {}", answered + 1, answer.status);
            answered += 1;
            if answered == 1 {
                // The receiver has gone where another client failed first.
                let _ = started.send(());
            }
            if answer.closes {
                continue 'connections;
            }
        }
    }
    Ok(answered)
}

/// Serves TCP in a space: each connection is handed to `serve` on a thread of its own. Ends with the process.
///
/// # Errors
/// Where the address is taken.
pub fn serve(
    space: &Space,
    address: &'static str,
    serve: fn(TcpStream) -> std::io::Result<()>,
) -> Result<()> {
    let (space, (started, ready)) = (space.clone(), mpsc::channel());
    thread::spawn(move || {
        let listener = space.enter().and_then(|()| Ok(TcpListener::bind(address)?));
        let listener = match listener {
            Ok(listener) => listener,
            Err(error) => return drop(started.send(Err(error))),
        };
        let _ = started.send(Ok(()));
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
    ready.recv_timeout(PATIENCE).context("a server did not start")?
}

/// Answers an HTTP request with its own first line.
///
/// # Errors
/// Those of the connection.
pub fn http_echo(mut stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut first, mut line) = (String::new(), String::new());
    reader.read_line(&mut first)?;
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{first}", first.len())
}

/// Answers a line with the same line.
///
/// # Errors
/// Those of the connection.
pub fn line_echo(mut stream: TcpStream) -> std::io::Result<()> {
    let mut line = String::new();
    BufReader::new(stream.try_clone()?).read_line(&mut line)?;
    stream.write_all(line.as_bytes())
}

/// Takes a connection and never says a word.
///
/// # Errors
/// Those of the connection.
pub fn silent(mut stream: TcpStream) -> std::io::Result<()> {
    stream.read_to_end(&mut Vec::new()).map(drop)
}

/// A name server in a space that gives every name the address 10.1.2.3; and an echo of datagrams on `echo`.
///
/// # Errors
/// Where an address is taken.
pub fn serve_datagrams(space: &Space, echo: &'static str, names: &'static str) -> Result<()> {
    for (address, answer) in [(echo, same as fn(&[u8]) -> Vec<u8>), (names, address_of_every_name)] {
        let socket = space
            .inside(move || Ok(UdpSocket::bind(address)?))
            .with_context(|| format!("binding {address}"))?;
        thread::spawn(move || {
            let mut datagram = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut datagram) {
                // A client that has gone needs no answer.
                let _ = socket.send_to(&answer(&datagram[..length]), from);
            }
        });
    }
    Ok(())
}

fn same(datagram: &[u8]) -> Vec<u8> {
    datagram.to_vec()
}

/// RFC 1035: the question comes back with one answer of type A; questions for other types get none.
fn address_of_every_name(question: &[u8]) -> Vec<u8> {
    let Some(end) =
        question.get(12..).and_then(|name| name.iter().position(|&byte| byte == 0)).map(|at| 12 + at + 5)
    else {
        return Vec::new();
    };
    let is_a = question.get(end - 4..end - 2) == Some(&[0, 1]);
    let mut answer = question[..end.min(question.len())].to_vec();
    answer[2..4].copy_from_slice(&[0x81, 0x80]);
    answer[4..12].copy_from_slice(&[0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
    if is_a {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 1, 2, 3]);
    }
    answer
}

/// Connects to a container once, sends, and reads what comes until the end.
///
/// # Errors
/// Those of the connection.
pub fn talk(pid: u32, port: u16, text: &'static str) -> Result<String> {
    crate::space::on_thread(move || {
        enter_network_of(pid)?;
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(text.as_bytes())?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        if answer.is_empty() {
            bail!("an empty answer");
        }
        Ok(answer)
    })
}

/// Waits until something listens on an address of a space.
///
/// # Errors
/// Where nothing does.
pub fn until_listening(space: &Space, address: &'static str) -> Result<()> {
    space.inside(move || {
        crate::bed::eventually(address, PATIENCE, || Ok(TcpStream::connect(address).ok().map(drop)))
    })
}

/// How many threads of a service's process serve connections, beside the one that accepts them.
///
/// # Errors
/// Where there is no such process.
pub fn workers(pid: u32) -> Result<usize> {
    let mut count = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end meanwhile.
        let name = fs::read_to_string(thread?.path().join("comm")).unwrap_or_default();
        count += usize::from(name.starts_with("tokio-"));
    }
    Ok(count)
}
