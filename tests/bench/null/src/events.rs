//! The way of events to containerd: one queue, sent in its order.

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::shim::events::ForwardRequest;
use containerd_shim_protos::shim_async::{Client, EventsClient};
use containerd_shim_protos::ttrpc::asynchronous::transport::Socket;
use containerd_shim_protos::ttrpc::context;
use tokio::net::UnixStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::now;

/// The end of the queue.
#[derive(Debug)]
pub(crate) struct Events {
    namespace: String,
    queue: UnboundedSender<Envelope>,
}

impl Events {
    /// Starts sending to containerd's ttrpc socket, on the current runtime.
    pub(crate) fn start(address: &str, namespace: &str) -> Self {
        let (queue, events) = unbounded_channel();
        tokio::spawn(send(address.strip_prefix("unix://").unwrap_or(address).to_owned(), events));
        Self { namespace: namespace.to_owned(), queue }
    }

    /// Puts an event of `containerd.events` at the end of the queue.
    pub(crate) fn publish<E: Message>(&self, topic: &str, event: &E) {
        let Ok(value) = event.write_to_bytes() else { return };
        let type_url = format!("containerd.events.{}", E::NAME);
        // Nobody takes it where containerd has gone.
        let _ = self.queue.send(Envelope {
            timestamp: MessageField::some(now()),
            namespace: self.namespace.clone(),
            topic: topic.to_owned(),
            event: MessageField::some(Any { type_url, value, ..Any::default() }),
            ..Envelope::default()
        });
    }
}

async fn send(path: String, mut events: UnboundedReceiver<Envelope>) {
    let Ok(stream) = UnixStream::connect(path).await else { return };
    let client = EventsClient::new(Client::new(Socket::new(stream)));
    while let Some(event) = events.recv().await {
        let request = ForwardRequest { envelope: MessageField::some(event), ..ForwardRequest::default() };
        if client.forward(context::with_timeout(5_000_000_000), &request).await.is_err() {
            return;
        }
    }
}
