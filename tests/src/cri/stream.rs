//! The streams of CRI's exec, attach and port-forward, as frames of a websocket: the first byte of each is its channel.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

use crate::space::Space;

/// How long a stream may be silent.
const PATIENCE: Duration = Duration::from_secs(30);

/// A channel of exec and attach. (Port-forward has two for each port: data, and an error.)
mod channel {
    pub(super) const STDIN: u8 = 0;
    pub(super) const STDOUT: u8 = 1;
    pub(super) const STDERR: u8 = 2;
    pub(super) const STATUS: u8 = 3;
    pub(super) const RESIZE: u8 = 4;
}

/// A connection to a streaming URL.
#[derive(Debug)]
pub struct Stream {
    socket: WebSocket<TcpStream>,
    output: [String; 4],
    ended: bool,
}

impl Stream {
    /// Connects to `url`, which is one of the node's loopback.
    ///
    /// # Errors
    /// Where it is no such URL, or nobody speaks the protocol there.
    pub fn open(space: &Space, url: &str) -> Result<Self> {
        let address = url.strip_prefix("http://").context("not an HTTP URL")?.to_owned();
        let (host, _) = address.split_once('/').context("a URL without a path")?;
        let host = host.to_owned();
        let tcp = space.inside(move || TcpStream::connect(&host).with_context(|| host.clone()))?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        let mut request = format!("ws://{address}").into_client_request()?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", "v4.channel.k8s.io".parse()?);
        let (socket, _) =
            tungstenite::client(request, tcp).map_err(|error| anyhow::anyhow!("{url}: {error}"))?;
        Ok(Self { socket, output: Default::default(), ended: false })
    }

    /// Sends to the program's standard input.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn write(&mut self, text: &str) -> Result<()> {
        self.send(channel::STDIN, text.as_bytes())
    }

    /// Says how large the terminal is.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn resize(&mut self, columns: u16, rows: u16) -> Result<()> {
        self.send(channel::RESIZE, json!({"Width": columns, "Height": rows}).to_string().as_bytes())
    }

    fn send(&mut self, channel: u8, bytes: &[u8]) -> Result<()> {
        let frame = [&[channel], bytes].concat();
        Ok(self.socket.send(Message::Binary(frame.into()))?)
    }

    /// Waits until the program has printed `text` on either stream, carriage returns left out.
    ///
    /// # Errors
    /// Where it does not, with what it printed.
    pub fn until(&mut self, text: &str) -> Result<()> {
        let start = Instant::now();
        while !self.printed().contains(text) {
            ensure!(start.elapsed() < PATIENCE && !self.ended, "no {text:?} in {:?}", self.output);
            self.receive()?;
        }
        Ok(())
    }

    /// What came so far on both streams, carriage returns left out.
    #[must_use]
    pub fn printed(&self) -> String {
        let [stdout, stderr] =
            [channel::STDOUT, channel::STDERR].map(|channel| &self.output[usize::from(channel)]);
        format!("{stdout}{stderr}").replace('\r', "")
    }

    /// Waits for the end, and answers how the program ended: a Kubernetes `Status`.
    ///
    /// # Errors
    /// Where it does not end.
    pub fn status(&mut self) -> Result<serde_json::Value> {
        while !self.ended {
            self.receive()?;
        }
        let status = &self.output[usize::from(channel::STATUS)];
        serde_json::from_str(status).with_context(|| format!("not a status: {status:?}"))
    }

    fn receive(&mut self) -> Result<()> {
        match self.socket.read() {
            Ok(Message::Binary(frame)) => {
                let (channel, bytes) = frame.split_first().context("an empty frame")?;
                let output = self.output.get_mut(usize::from(*channel)).context("an unknown channel")?;
                output.push_str(&String::from_utf8_lossy(bytes));
            }
            Ok(Message::Close(_)) | Err(tungstenite::Error::ConnectionClosed) => self.ended = true,
            Ok(_) => {}
            Err(error) => bail!("{error}, after {:?}", self.output),
        }
        Ok(())
    }
}

/// Asks a forwarded port for a page, and answers what came.
///
/// # Errors
/// Those of the connection, or what the error channel says.
pub fn get_through_port(space: &Space, url: &str, path: &str) -> Result<String> {
    let mut stream = Stream::open(space, url)?;
    // The first frame of each of the two channels is the number of the port.
    let mut seen = [false; 2];
    stream.send(0, format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    loop {
        let frame = match stream.socket.read() {
            Ok(Message::Binary(frame)) => frame,
            Ok(Message::Close(_)) | Err(tungstenite::Error::ConnectionClosed) => break,
            Ok(_) => continue,
            Err(error) => bail!("{error}, after {:?}", String::from_utf8_lossy(&answer)),
        };
        let (&channel, bytes) = frame.split_first().context("an empty frame")?;
        let first =
            !std::mem::replace(seen.get_mut(usize::from(channel)).context("an unknown channel")?, true);
        match channel {
            _ if first => {}
            0 => answer.extend_from_slice(bytes),
            _ => bail!("{}", String::from_utf8_lossy(bytes)),
        }
        if String::from_utf8_lossy(&answer).ends_with("\r\n0\r\n\r\n") {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
