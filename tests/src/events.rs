//! What containerd publishes about tasks, in its order and with the time at which it came.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use containerd_client::events as proto;
use containerd_client::services::v1::events_client::EventsClient;
use containerd_client::services::v1::{PublishRequest, SubscribeRequest};
use containerd_client::tonic::Request;
use containerd_client::tonic::transport::Channel;
use containerd_client::types::Envelope;
use prost::Message;

use crate::bed::lock;

/// One event of a task.
#[derive(Debug, Clone)]
pub struct Event {
    /// `/tasks/create`, `/tasks/start`, `/tasks/exit`…
    pub topic: String,
    /// The container's id.
    pub id: String,
    /// The exec's id; empty for the task itself.
    pub exec: String,
    /// The exit status, in exits and deletes.
    pub status: Option<u32>,
    /// The process, where the event names one.
    pub pid: u32,
    /// When it came here.
    pub at: Instant,
}

#[derive(Debug, Default)]
struct Seen {
    events: Mutex<(Vec<Event>, bool)>,
    news: Condvar,
}

/// The events of one containerd; it connects again after a restart.
#[derive(Debug, Clone)]
pub struct Events(Arc<Seen>);

impl Events {
    pub(crate) fn new(socket: PathBuf, namespace: String) -> Self {
        let seen = Arc::new(Seen::default());
        let listener = Arc::clone(&seen);
        thread::spawn(move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
                return;
            };
            loop {
                runtime.block_on(listen(&socket, &namespace, &listener));
                lock(&listener.events).1 = false;
                thread::sleep(Duration::from_millis(20)); // until containerd is back
            }
        });
        Self(seen)
    }

    /// Waits until events are being received.
    pub(crate) fn ready(&self, limit: Duration) -> Result<()> {
        let (guard, _) = self
            .0
            .news
            .wait_timeout_while(lock(&self.0.events), limit, |(_, connected)| !*connected)
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if !guard.1 {
            bail!("containerd gives no events");
        }
        Ok(())
    }

    /// The events of one container so far.
    #[must_use]
    pub fn of(&self, id: &str) -> Vec<Event> {
        lock(&self.0.events).0.iter().filter(|event| event.id == id).cloned().collect()
    }

    /// Waits for one event of a container.
    ///
    /// # Errors
    /// Where it does not come, with what came.
    pub fn wait(&self, id: &str, exec: &str, topic: &str, limit: Duration) -> Result<Event> {
        let wanted = |event: &Event| event.id == id && event.exec == exec && event.topic == topic;
        let (guard, _) = self
            .0
            .news
            .wait_timeout_while(lock(&self.0.events), limit, |(events, _)| !events.iter().any(wanted))
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(event) = guard.0.iter().find(|event| wanted(event)).cloned() else {
            let topics: Vec<_> =
                guard.0.iter().filter(|event| event.id == id).map(|event| &event.topic).collect();
            bail!("no {topic} of {id} {exec} within {limit:?}; there were {topics:?}");
        };
        Ok(event)
    }
}

async fn listen(socket: &Path, namespace: &str, seen: &Seen) {
    let Ok(channel) = containerd_client::connect(socket).await else { return };
    let request = SubscribeRequest { filters: vec![format!("namespace=={namespace}")] };
    let (mut events, mut own) = (EventsClient::new(channel.clone()), EventsClient::new(channel));
    // containerd answers a subscription with its first event, so there must be one that says that it is in place.
    let subscribed = tokio::select! {
        subscribed = events.subscribe(request) => subscribed,
        () = publish_for_ever(&mut own, namespace) => return,
    };
    let Ok(subscribed) = subscribed else { return };
    let mut stream = subscribed.into_inner();
    lock(&seen.events).1 = true;
    seen.news.notify_all();
    while let Ok(Some(envelope)) = stream.message().await {
        if let Some(event) = decode(&envelope) {
            lock(&seen.events).0.push(event);
            seen.news.notify_all();
        }
    }
}

async fn publish_for_ever(events: &mut EventsClient<Channel>, namespace: &str) {
    loop {
        let event = containerd_client::to_any(&proto::TaskOom::default());
        let mut request =
            Request::new(PublishRequest { topic: "/tests/subscribed".into(), event: Some(event) });
        if let Ok(namespace) = namespace.parse() {
            request.metadata_mut().insert("containerd-namespace", namespace);
        }
        if events.publish(request).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn decode(envelope: &Envelope) -> Option<Event> {
    let bytes = envelope.event.as_ref()?.value.as_slice();
    let event = |id, exec, status, pid| Event {
        topic: envelope.topic.clone(),
        id,
        exec,
        status,
        pid,
        at: Instant::now(),
    };
    match envelope.topic.as_str() {
        "/tasks/create" => {
            proto::TaskCreate::decode(bytes).map(|e| event(e.container_id, String::new(), None, e.pid))
        }
        "/tasks/start" => {
            proto::TaskStart::decode(bytes).map(|e| event(e.container_id, String::new(), None, e.pid))
        }
        "/tasks/exit" => proto::TaskExit::decode(bytes).map(|e| {
            // The id of the exit of a task itself is the container's.
            let exec = if e.id == e.container_id { String::new() } else { e.id };
            event(e.container_id, exec, Some(e.exit_status), e.pid)
        }),
        "/tasks/delete" => {
            proto::TaskDelete::decode(bytes).map(|e| event(e.container_id, e.id, Some(e.exit_status), e.pid))
        }
        "/tasks/exec-added" => {
            proto::TaskExecAdded::decode(bytes).map(|e| event(e.container_id, e.exec_id, None, 0))
        }
        "/tasks/exec-started" => {
            proto::TaskExecStarted::decode(bytes).map(|e| event(e.container_id, e.exec_id, None, e.pid))
        }
        "/tasks/oom" => proto::TaskOom::decode(bytes).map(|e| event(e.container_id, String::new(), None, 0)),
        "/tasks/paused" => {
            proto::TaskPaused::decode(bytes).map(|e| event(e.container_id, String::new(), None, 0))
        }
        "/tasks/resumed" => {
            proto::TaskResumed::decode(bytes).map(|e| event(e.container_id, String::new(), None, 0))
        }
        _ => return None,
    }
    .ok()
}
