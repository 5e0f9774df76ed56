//! The node's tasks, as containerd and their guests tell of them.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use containerd_client::services::v1::container::Runtime;
use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::namespaces_client::NamespacesClient;
use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::services::v1::{
    Container, ListContainersRequest, ListNamespacesRequest, ListTasksRequest, MetricsRequest,
};
use containerd_client::tonic::transport::Channel;
use containerd_client::tonic::{Request, Status};
use containerd_client::types::v1::Process;
use serde::Deserialize;
use wisp_contract::counters::{self, Snapshot};
use wisp_contract::facts::Kind;

use super::figures::Figures;
use super::{Pod, Task};
use crate::install::handler::RUNTIME_TYPE;

/// Where `wisp-runtime` keeps what it knows of containers, by namespace, when the shim drives it.
const ROOT: &str = "/run/wisp";
/// The extension of a container's record in which the CRI plugin keeps what it made the container from.
const CRI_METADATA: &str = "io.cri-containerd.container.metadata";

/// A connection to the node's containerd.
pub(super) struct Node {
    channel: Channel,
}

impl Node {
    /// Connects to containerd's socket.
    pub(super) async fn connect(socket: &Path) -> Result<Self> {
        let channel = containerd_client::connect(socket).await.map_err(|error| {
            // What the operating system said is the innermost; the rest says "transport error".
            let mut innermost: &dyn std::error::Error = &error;
            while let Some(source) = innermost.source() {
                innermost = source;
            }
            anyhow!("no connection: {innermost}")
        })?;
        Ok(Self { channel })
    }

    /// The Wasm tasks of one containerd namespace, or of all.
    pub(super) async fn tasks(&self, namespace: Option<&str>) -> Result<Vec<Task>> {
        let namespaces = match namespace {
            Some(namespace) => vec![namespace.to_owned()],
            None => self.namespaces().await?,
        };
        let mut tasks = Vec::new();
        for namespace in namespaces {
            tasks.extend(
                self.tasks_in(&namespace).await.with_context(|| format!("the namespace {namespace}"))?,
            );
        }
        Ok(tasks)
    }

    async fn namespaces(&self) -> Result<Vec<String>> {
        let answer = NamespacesClient::new(self.channel.clone()).list(ListNamespacesRequest::default()).await;
        let namespaces = answer.map_err(call)?.into_inner().namespaces;
        Ok(namespaces.into_iter().map(|namespace| namespace.name).collect())
    }

    async fn tasks_in(&self, namespace: &str) -> Result<Vec<Task>> {
        let request = ListContainersRequest { filters: vec![format!("runtime.name=={RUNTIME_TYPE}")] };
        let containers = ContainersClient::new(self.channel.clone()).list(of(namespace, request)?).await;
        let containers = containers.map_err(call)?.into_inner().containers;
        let containers = containers.into_iter().filter(is_wisps);
        let mut containers: HashMap<_, _> = containers.map(|one| (one.id.clone(), one)).collect();
        if containers.is_empty() {
            return Ok(Vec::new());
        }
        let processes =
            TasksClient::new(self.channel.clone()).list(of(namespace, ListTasksRequest::default())?).await;
        // What has no page of counters is a native container, or ends just now.
        let mut tasks: Vec<_> = processes
            .map_err(call)?
            .into_inner()
            .tasks
            .into_iter()
            .filter_map(|process| task(namespace, &containers.remove(&process.id)?, &process))
            .collect();
        let figures = self.figures(namespace, &tasks).await?;
        for task in &mut tasks {
            let figures = figures.get(&task.id);
            task.cpu_ns = figures.map(|figures| figures.cpu_ns);
            task.memory_bytes = figures.map(|figures| figures.memory_bytes);
        }
        Ok(tasks)
    }

    async fn figures(&self, namespace: &str, tasks: &[Task]) -> Result<HashMap<String, Figures>> {
        if tasks.is_empty() {
            return Ok(HashMap::new());
        }
        let filters = tasks.iter().map(|task| format!("id=={}", task.id)).collect();
        let metrics =
            TasksClient::new(self.channel.clone()).metrics(of(namespace, MetricsRequest { filters })?).await;
        let metrics = metrics.map_err(call)?.into_inner().metrics;
        Ok(metrics
            .into_iter()
            .filter_map(|metric| Some((metric.id.clone(), Figures::of(&metric)?)))
            .collect())
    }
}

/// Whether Wisp's shim runs it; earlier versions of containerd may know no such filter.
fn is_wisps(container: &Container) -> bool {
    matches!(&container.runtime, Some(Runtime { name, .. }) if name == RUNTIME_TYPE)
}

fn of<T>(namespace: &str, message: T) -> Result<Request<T>> {
    let mut request = Request::new(message);
    let value =
        namespace.parse().with_context(|| format!("{namespace:?} has characters that no namespace has"))?;
    request.metadata_mut().insert("containerd-namespace", value);
    Ok(request)
}

fn call(status: Status) -> anyhow::Error {
    anyhow!("containerd says: {}", status.message())
}

fn task(namespace: &str, container: &Container, process: &Process) -> Option<Task> {
    // `containerd.v1.types.Status`; what has stopped uses nothing.
    let status = match process.status {
        1 => "created",
        2 => "running",
        4 | 5 => "paused",
        _ => return None,
    };
    let folder: PathBuf = [ROOT, namespace, &container.id].iter().collect();
    let counters = Snapshot::read(&File::open(folder.join(counters::FILE)).ok()?).ok()?;
    let asked = asked(container);
    Some(Task {
        namespace: namespace.to_owned(),
        id: container.id.clone(),
        pid: process.pid,
        status,
        image: asked.image.user_specified_image.clone().unwrap_or_else(|| container.image.clone()),
        pod: pod(container, &asked),
        kind: kind(&folder),
        cpu_percent: None,
        cpu_ns: None,
        memory_bytes: None,
        counters,
    })
}

/// What the guest is, as `wisp-runtime` noted it.
fn kind(folder: &Path) -> Option<Kind> {
    #[derive(Deserialize)]
    struct Record {
        kind: Option<Kind>,
    }
    let record: Record = serde_json::from_slice(&fs::read(folder.join("state.json")).ok()?).ok()?;
    record.kind
}

fn pod(container: &Container, asked: &ContainerConfig) -> Option<Pod> {
    let label = |name: &str| container.labels.get(&format!("io.kubernetes.{name}")).cloned();
    Some(Pod {
        namespace: label("pod.namespace")?,
        name: label("pod.name")?,
        container: label("container.name")?,
        restarts: asked.metadata.as_ref().map(|metadata| metadata.attempt),
    })
}

/// What kubelet asked of the CRI plugin; empty where it was not the CRI plugin that made the container.
fn asked(container: &Container) -> ContainerConfig {
    let metadata = container.extensions.get(CRI_METADATA);
    let read = metadata.and_then(|any| serde_json::from_slice::<Versioned>(&any.value).ok());
    read.unwrap_or_default().metadata.config
}

/// See containerd's `internal/cri/store/container/metadata.go`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Versioned {
    #[serde(rename = "Metadata")]
    metadata: Metadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    #[serde(rename = "Config")]
    config: ContainerConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerConfig {
    metadata: Option<ContainerMetadata>,
    image: ImageSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerMetadata {
    attempt: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ImageSpec {
    user_specified_image: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_container_is_told_with_its_restarts_and_its_image_as_the_user_named_it() {
        let labels = [("pod.namespace", "shop"), ("pod.name", "cart-1"), ("container.name", "app")];
        let value = br#"{"Version":"v1","Metadata":{"ID":"x","Config":{"metadata":{"name":"app","attempt":3},
            "image":{"image":"sha256:00","user_specified_image":"registry.test/cart:2"}}}}"#;
        let container = Container {
            labels: labels.map(|(name, value)| (format!("io.kubernetes.{name}"), value.to_owned())).into(),
            extensions: [(
                CRI_METADATA.to_owned(),
                prost_types::Any { type_url: String::new(), value: value.to_vec() },
            )]
            .into(),
            ..Container::default()
        };
        let asked = asked(&container);
        assert_eq!(asked.image.user_specified_image.as_deref(), Some("registry.test/cart:2"));
        let pod = pod(&container, &asked).unwrap();
        assert_eq!(
            (pod.namespace.as_str(), pod.name.as_str(), pod.container.as_str()),
            ("shop", "cart-1", "app")
        );
        assert_eq!(pod.restarts, Some(3));
    }

    #[test]
    fn a_container_of_nobodys_pod_has_none() {
        let container = Container::default();
        assert!(pod(&container, &asked(&container)).is_none());
    }
}
