//! The connections that clients have to the shim. They are counted, because a shim that has answered its last request ends
//! only when its clients have closed theirs: a client of Go's ttrpc may take a connection that closes right after an
//! answer for one that was closed before it, and containerd then reports a pod as not removed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use containerd_shim_protos::ttrpc::asynchronous::transport::Listener;
use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

/// The count; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connections(watch::Sender<usize>);

impl Connections {
    /// What the ttrpc server accepts from.
    pub(crate) fn listen(&self, listener: UnixListener) -> Listener {
        Listener::new(Accept { listener, connections: self.clone() })
    }

    /// Waits until no connection is open.
    pub(crate) async fn closed(&self) {
        // The sender is part of `self`, so waiting does not fail.
        let _ = self.0.subscribe().wait_for(|open| *open == 0).await;
    }

    fn open(&self, stream: UnixStream) -> Connection {
        self.0.send_modify(|open| *open += 1);
        Connection { stream, connections: self.clone() }
    }
}

struct Accept {
    listener: UnixListener,
    connections: Connections,
}

impl Stream for Accept {
    type Item = io::Result<Connection>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let accepted = self.listener.poll_accept(context);
        accepted.map(|accepted| Some(accepted.map(|(stream, _)| self.connections.open(stream))))
    }
}

struct Connection {
    stream: UnixStream,
    connections: Connections,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.connections.0.send_modify(|open| *open -= 1);
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use containerd_shim_protos::ttrpc::asynchronous::Server;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn the_end_waits_for_clients_to_close_their_connections() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let connections = Connections::default();
        let listener = connections.listen(UnixListener::bind(&path).unwrap());
        let mut server = Server::new().add_listener(listener);
        server.start().await.unwrap();
        let client = UnixStream::connect(&path).await.unwrap();
        connections.0.subscribe().wait_for(|open| *open == 1).await.unwrap();
        assert!(timeout(Duration::from_millis(20), connections.closed()).await.is_err());
        drop(client);
        assert!(timeout(Duration::from_secs(60), connections.closed()).await.is_ok());
    }
}
