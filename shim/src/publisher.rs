//! The way of events to containerd: one queue, sent in its order, kept while containerd is away.
//!
//! containerd asks every shim for the state of its tasks when it starts, so an event that is too old to be kept is not
//! missed; the order of those that are kept is never changed.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::shim::events::ForwardRequest;
use containerd_shim_protos::shim_async::{Client, EventsClient};
use containerd_shim_protos::ttrpc;
use containerd_shim_protos::ttrpc::asynchronous::transport::Socket;
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::timestamp;

/// How many events are kept while containerd is away; after that the oldest is lost.
const CAPACITY: usize = 1024;
/// How long containerd may take to accept one event.
const ANSWER: Duration = Duration::from_secs(5);
/// How long to wait before connecting again, the first time and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// A handle to the queue; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Publisher(Arc<Queue>);

#[derive(Debug)]
struct Queue {
    namespace: String,
    events: Mutex<VecDeque<Envelope>>,
    added: Notify,
    sent: Notify,
}

impl Publisher {
    /// Starts sending to containerd's ttrpc socket, on the current runtime. Without an address, events go nowhere.
    pub(crate) fn start(address: &str, namespace: &str) -> Self {
        let queue = Arc::new(Queue {
            namespace: namespace.to_owned(),
            events: Mutex::default(),
            added: Notify::new(),
            sent: Notify::new(),
        });
        if !address.is_empty() {
            let path = address.strip_prefix("unix://").unwrap_or(address).to_owned();
            tokio::spawn(send_all(queue.clone(), path));
        }
        Self(queue)
    }

    /// Puts an event of `containerd.events` at the end of the queue.
    pub(crate) fn publish<E: Message>(&self, topic: &str, event: &E) {
        let value = match event.write_to_bytes() {
            Ok(value) => value,
            Err(error) => return warn!(topic, %error, "an event cannot be encoded"),
        };
        let type_url = format!("containerd.events.{}", E::NAME);
        self.0.add(Envelope {
            timestamp: MessageField::some(timestamp(SystemTime::now())),
            namespace: self.0.namespace.clone(),
            topic: topic.to_owned(),
            event: MessageField::some(Any { type_url, value, ..Any::default() }),
            ..Envelope::default()
        });
    }

    /// Waits until containerd has every event, for no longer than `limit`.
    pub(crate) async fn flush(&self, limit: Duration) {
        let all_sent = async {
            loop {
                let sent = self.0.sent.notified();
                if self.0.events().is_empty() {
                    break;
                }
                sent.await;
            }
        };
        if timeout(limit, all_sent).await.is_err() {
            warn!(events = self.0.events().len(), "containerd did not take the last events in time");
        }
    }
}

impl Queue {
    fn events(&self) -> MutexGuard<'_, VecDeque<Envelope>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, event: Envelope) {
        let mut events = self.events();
        if events.len() == CAPACITY
            && let Some(lost) = events.pop_front()
        {
            warn!(topic = lost.topic, "containerd has been away for too long: its oldest event is lost");
        }
        events.push_back(event);
        self.added.notify_one();
    }

    async fn first(&self) -> Envelope {
        loop {
            let added = self.added.notified();
            if let Some(event) = self.events().front() {
                return event.clone();
            }
            added.await;
        }
    }

    /// Takes the event away that has been sent, unless it was lost meanwhile.
    fn sent(&self, event: &Envelope) {
        let mut events = self.events();
        if events.front().is_some_and(|first| first == event) {
            events.pop_front();
        }
        self.sent.notify_waiters();
    }
}

async fn send_all(queue: Arc<Queue>, path: String) {
    let mut connection = None;
    let mut pause = RETRY.0;
    loop {
        let event = queue.first().await;
        let client = match &connection {
            Some(client) => client,
            None => match connect(&path).await {
                Ok(client) => connection.insert(client),
                Err(error) => {
                    debug!(%error, path, "containerd's event socket cannot be reached");
                    sleep(pause).await;
                    pause = (pause * 2).min(RETRY.1);
                    continue;
                }
            },
        };
        match forward(client, &event).await {
            // containerd has it, or understood it and will not have it: sending it again would change neither.
            Ok(()) | Err(ttrpc::Error::RpcStatus(_)) => {
                pause = RETRY.0;
                queue.sent(&event);
            }
            Err(error) => {
                debug!(%error, topic = event.topic, "an event was not sent, and will be");
                connection = None;
                sleep(pause).await;
                pause = (pause * 2).min(RETRY.1);
            }
        }
    }
}

/// Connects without ever blocking the thread, as the crate's own `Client::connect` may.
async fn connect(path: &str) -> io::Result<EventsClient> {
    let socket = UnixStream::connect(path).await?;
    Ok(EventsClient::new(Client::new(Socket::from(socket))))
}

async fn forward(client: &EventsClient, event: &Envelope) -> ttrpc::Result<()> {
    let request = ForwardRequest { envelope: MessageField::some(event.clone()), ..ForwardRequest::default() };
    let limit = i64::try_from(ANSWER.as_nanos()).unwrap_or(i64::MAX);
    match timeout(ANSWER, client.forward(ttrpc::context::with_timeout(limit), &request)).await {
        Ok(answer) => answer.map(drop),
        Err(_) => Err(ttrpc::Error::Others("containerd did not answer".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use async_trait::async_trait;
    use containerd_shim_protos::api::Empty;
    use containerd_shim_protos::events::task::TaskPaused;
    use containerd_shim_protos::shim_async::{Events, create_events};
    use containerd_shim_protos::ttrpc::asynchronous::transport::Listener;
    use containerd_shim_protos::ttrpc::asynchronous::{Server, TtrpcContext};
    use tokio::net::UnixListener;

    use super::*;

    /// Keeps the ids in the events that it gets.
    #[derive(Clone, Default)]
    struct Containerd(Arc<Mutex<Vec<String>>>);

    #[async_trait]
    impl Events for Containerd {
        async fn forward(&self, _: &TtrpcContext, request: ForwardRequest) -> ttrpc::Result<Empty> {
            let event = TaskPaused::parse_from_bytes(&request.envelope.event.value).unwrap();
            assert_eq!(request.envelope.event.type_url, "containerd.events.TaskPaused");
            self.0.lock().unwrap().push(event.container_id);
            Ok(Empty::new())
        }
    }

    impl Containerd {
        async fn start(&self, socket: &Path) -> Server {
            let listener = UnixListener::bind(socket).unwrap();
            let mut server = Server::new()
                .register_service(create_events(Arc::new(self.clone())))
                .add_listener(Listener::from(listener));
            server.start().await.unwrap();
            server
        }
    }

    fn publish(publisher: &Publisher, ids: std::ops::Range<usize>) -> Vec<String> {
        let ids: Vec<String> = ids.map(|id| id.to_string()).collect();
        for id in &ids {
            publisher
                .publish("/tasks/paused", &TaskPaused { container_id: id.clone(), ..TaskPaused::default() });
        }
        ids
    }

    #[tokio::test]
    async fn events_arrive_in_order_though_containerd_is_away_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("ttrpc");
        let publisher = Publisher::start(socket.to_str().unwrap(), "n");
        let mut expected = publish(&publisher, 0..20);
        publisher.flush(Duration::from_millis(1)).await;

        let containerd = Containerd::default();
        let mut server = containerd.start(&socket).await;
        publisher.flush(Duration::from_secs(10)).await;
        assert_eq!(*containerd.0.lock().unwrap(), expected);

        server.shutdown().await.unwrap();
        expected.extend(publish(&publisher, 20..40));
        std::fs::remove_file(&socket).unwrap();
        let _server = containerd.start(&socket).await;
        publisher.flush(Duration::from_secs(10)).await;
        assert_eq!(*containerd.0.lock().unwrap(), expected);
    }

    #[tokio::test]
    async fn only_the_oldest_events_are_lost_when_there_are_too_many() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("ttrpc");
        let publisher = Publisher::start(socket.to_str().unwrap(), "n");
        let expected = publish(&publisher, 0..CAPACITY + 10).split_off(10);
        let containerd = Containerd::default();
        let _server = containerd.start(&socket).await;
        publisher.flush(Duration::from_secs(10)).await;
        assert_eq!(*containerd.0.lock().unwrap(), expected);
    }
}
