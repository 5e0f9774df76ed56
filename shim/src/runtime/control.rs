//! What the shim asks of a guest process itself, on its control socket ([`wisp_contract::control`]).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;
use wisp_contract::control::{REPLY_TIMEOUT, Reply, Request, SOCKET};

/// The longest answer to a start.
const LONGEST: u64 = 4096;

/// Lets the guest run that waits with its socket in `folder`.
pub(super) async fn start(folder: &Path) -> io::Result<()> {
    match timeout(REPLY_TIMEOUT, ask(folder, &Request::Start)).await?? {
        Reply::Done => Ok(()),
        reply => Err(io::Error::other(format!("it answered {reply:?}"))),
    }
}

async fn ask(folder: &Path, request: &Request) -> io::Result<Reply> {
    // The path of a socket has no room for more than 107 bytes.
    let folder = File::open(folder)?;
    let mut stream = UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd())).await?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    line.clear();
    BufReader::new(stream.take(LONGEST)).read_until(b'\n', &mut line).await?;
    Ok(serde_json::from_slice(&line)?)
}
