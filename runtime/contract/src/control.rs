//! What a running guest process answers on its control socket ([`SOCKET`] in the container's state directory, for root
//! only): one JSON request a line, one JSON reply a line.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The socket's name in the container's state directory.
pub const SOCKET: &str = "control.sock";
/// How long a guest process may take to answer. It answers from a thread that runs no guest code.
pub const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// What can be asked of a guest process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Run the guest: sent once, by `wisp-runtime start` or by the shim in its place.
    Start,
    /// The container's limits are now these.
    Limits {
        /// Bytes, as in [`crate::plan::Plan::memory_limit`]; `None` leaves it as it is, 0 removes it.
        memory: Option<u64>,
        /// Processors, as in [`crate::plan::Plan::cpus`]; `None` leaves it as it is, 0 removes it.
        cpus: Option<f64>,
    },
    /// What the counters say.
    Stats,
    /// Stop as on SIGTERM.
    Drain,
}

/// What a guest process answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Done.
    Done,
    /// The answer to [`Request::Stats`].
    Stats(crate::counters::Snapshot),
    /// Not done, and why, in one sentence.
    Refused(String),
}

/// Why a request had no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket is not there, or nobody listens: the guest process has ended.
    #[error("the guest process does not answer on its control socket: {0}")]
    Io(#[from] io::Error),
    /// The answer was not one of this protocol's.
    #[error("the guest process gave an answer that is not one of the control protocol's: {0}")]
    Protocol(#[from] serde_json::Error),
    /// The guest process understood and said no.
    #[error("{0}")]
    Refused(String),
}

/// Asks the guest process that listens at `socket` and waits for its answer (ten seconds at most).
///
/// # Errors
/// [`Error`] says which part failed; a refusal is an error.
pub fn ask(socket: &Path, request: &Request) -> Result<Reply, Error> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
    stream.set_write_timeout(Some(REPLY_TIMEOUT))?;
    send(&stream, request)?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line)?;
    if line.is_empty() {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    match serde_json::from_str(&line)? {
        Reply::Refused(why) => Err(Error::Refused(why)),
        reply => Ok(reply),
    }
}

/// Writes one message and its newline.
///
/// # Errors
/// Those of the stream.
pub fn send<T: Serialize>(mut stream: &UnixStream, message: &T) -> Result<(), Error> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(stream.write_all(&line)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_refusal_reaches_the_asker_as_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            assert_eq!(serde_json::from_str::<Request>(&line).unwrap(), Request::Drain);
            send(&stream, &Reply::Refused("not now".into())).unwrap();
        });
        assert_eq!(ask(&path, &Request::Drain).unwrap_err().to_string(), "not now");
        server.join().unwrap();
    }
}
