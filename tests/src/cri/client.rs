//! The calls of CRI, blocking, with an end, and with errors that keep their codes.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use containerd_client::tonic::transport::Channel;
use containerd_client::tonic::{Code, Status};
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::*;
use tokio::runtime::Runtime;

use crate::client::Answer;

/// How long a call may take, beyond what it is told to wait itself: a first start compiles its program.
const PATIENCE: Duration = Duration::from_secs(90);

/// A connection to the CRI plugin of one containerd.
#[derive(Debug)]
pub struct Cri {
    tokio: Runtime,
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

macro_rules! call {
    ($self:ident, $service:ident, $method:ident, $request:expr) => {{
        let mut service = $self.$service.clone();
        $self.bounded(async move { service.$method($request).await })?.into_inner()
    }};
}

impl Cri {
    /// Connects to the containerd behind `socket`.
    ///
    /// # Errors
    /// Where its CRI plugin does not answer.
    pub fn connect(socket: &Path) -> Result<Self> {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let channel = tokio.block_on(containerd_client::connect(socket)).context("connecting")?;
        let cri = Self {
            tokio,
            runtime: RuntimeServiceClient::new(channel.clone()),
            images: ImageServiceClient::new(channel),
        };
        cri.version().context("asking CRI for its version")?;
        Ok(cri)
    }

    fn bounded<T>(&self, call: impl Future<Output = Answer<T>>) -> Answer<T> {
        self.tokio.block_on(async { tokio::time::timeout(PATIENCE, call).await }).unwrap_or_else(|_| {
            Err(Status::new(Code::DeadlineExceeded, format!("no answer in {PATIENCE:?}")))
        })
    }

    /// What answers, and in which version.
    ///
    /// # Errors
    /// The status.
    pub fn version(&self) -> Answer<VersionResponse> {
        Ok(call!(self, runtime, version, VersionRequest { version: "v1".into() }))
    }

    /// What the runtime and its handlers can do.
    ///
    /// # Errors
    /// The status.
    pub fn status(&self) -> Answer<StatusResponse> {
        Ok(call!(self, runtime, status, StatusRequest { verbose: false }))
    }

    /// Makes a pod; its id.
    ///
    /// # Errors
    /// The status.
    pub fn run_pod(&self, config: PodSandboxConfig, handler: &str) -> Answer<String> {
        let request = RunPodSandboxRequest { config: Some(config), runtime_handler: handler.to_owned() };
        Ok(call!(self, runtime, run_pod_sandbox, request).pod_sandbox_id)
    }

    /// Ends what runs in a pod, and takes its network down.
    ///
    /// # Errors
    /// The status.
    pub fn stop_pod(&self, id: &str) -> Answer<()> {
        call!(self, runtime, stop_pod_sandbox, StopPodSandboxRequest { pod_sandbox_id: id.to_owned() });
        Ok(())
    }

    /// Removes a pod and what is left of it.
    ///
    /// # Errors
    /// The status.
    pub fn remove_pod(&self, id: &str) -> Answer<()> {
        call!(self, runtime, remove_pod_sandbox, RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() });
        Ok(())
    }

    /// How a pod is, with what containerd adds for people.
    ///
    /// # Errors
    /// The status.
    pub fn pod_status(&self, id: &str) -> Answer<PodSandboxStatusResponse> {
        let request = PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: true };
        Ok(call!(self, runtime, pod_sandbox_status, request))
    }

    /// All pods.
    ///
    /// # Errors
    /// The status.
    pub fn pods(&self) -> Answer<Vec<PodSandbox>> {
        Ok(call!(self, runtime, list_pod_sandbox, ListPodSandboxRequest { filter: None }).items)
    }

    /// Makes a container of a pod; its id.
    ///
    /// # Errors
    /// The status.
    pub fn create(&self, pod: &str, config: ContainerConfig, sandbox: PodSandboxConfig) -> Answer<String> {
        let request = CreateContainerRequest {
            pod_sandbox_id: pod.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox),
        };
        Ok(call!(self, runtime, create_container, request).container_id)
    }

    /// Starts a container.
    ///
    /// # Errors
    /// The status.
    pub fn start(&self, id: &str) -> Answer<()> {
        call!(self, runtime, start_container, StartContainerRequest { container_id: id.to_owned() });
        Ok(())
    }

    /// Ends a container, at once where it does not end in `grace` seconds.
    ///
    /// # Errors
    /// The status.
    pub fn stop(&self, id: &str, grace: i64) -> Answer<()> {
        let request = StopContainerRequest { container_id: id.to_owned(), timeout: grace };
        call!(self, runtime, stop_container, request);
        Ok(())
    }

    /// Removes a container, running or not.
    ///
    /// # Errors
    /// The status.
    pub fn remove(&self, id: &str) -> Answer<()> {
        call!(self, runtime, remove_container, RemoveContainerRequest { container_id: id.to_owned() });
        Ok(())
    }

    /// How a container is; with what containerd adds for people, where that is asked for.
    ///
    /// # Errors
    /// The status.
    pub fn container_status(&self, id: &str, verbose: bool) -> Answer<ContainerStatusResponse> {
        let request = ContainerStatusRequest { container_id: id.to_owned(), verbose };
        Ok(call!(self, runtime, container_status, request))
    }

    /// Runs a program in a container to its end, at most for `limit` seconds (0: without a limit).
    ///
    /// # Errors
    /// The status; `DeadlineExceeded` where it took longer.
    pub fn exec_sync(&self, id: &str, command: &[&str], limit: i64) -> Answer<ExecSyncResponse> {
        let cmd = command.iter().map(|&word| word.to_owned()).collect();
        let request = ExecSyncRequest { container_id: id.to_owned(), cmd, timeout: limit };
        Ok(call!(self, runtime, exec_sync, request))
    }

    /// Where to connect for a program's streams.
    ///
    /// # Errors
    /// The status.
    pub fn exec_url(&self, request: ExecRequest) -> Answer<String> {
        Ok(call!(self, runtime, exec, request).url)
    }

    /// Where to connect for a container's own streams.
    ///
    /// # Errors
    /// The status.
    pub fn attach_url(&self, request: AttachRequest) -> Answer<String> {
        Ok(call!(self, runtime, attach, request).url)
    }

    /// Where to connect for a pod's ports.
    ///
    /// # Errors
    /// The status.
    pub fn port_forward_url(&self, pod: &str, port: i32) -> Answer<String> {
        let request = PortForwardRequest { pod_sandbox_id: pod.to_owned(), port: vec![port] };
        Ok(call!(self, runtime, port_forward, request).url)
    }

    /// What a container uses.
    ///
    /// # Errors
    /// The status.
    pub fn container_stats(&self, id: &str) -> Answer<ContainerStats> {
        let request = ContainerStatsRequest { container_id: id.to_owned() };
        call!(self, runtime, container_stats, request)
            .stats
            .ok_or_else(|| Status::not_found("an answer without stats"))
    }

    /// What every container uses, as a node's agent asks.
    ///
    /// # Errors
    /// The status.
    pub fn all_container_stats(&self) -> Answer<Vec<ContainerStats>> {
        Ok(call!(self, runtime, list_container_stats, ListContainerStatsRequest { filter: None }).stats)
    }

    /// What a pod uses.
    ///
    /// # Errors
    /// The status.
    pub fn pod_stats(&self, id: &str) -> Answer<PodSandboxStats> {
        let request = PodSandboxStatsRequest { pod_sandbox_id: id.to_owned() };
        call!(self, runtime, pod_sandbox_stats, request)
            .stats
            .ok_or_else(|| Status::not_found("an answer without stats"))
    }

    /// What every pod uses.
    ///
    /// # Errors
    /// The status.
    pub fn all_pod_stats(&self) -> Answer<Vec<PodSandboxStats>> {
        Ok(call!(self, runtime, list_pod_sandbox_stats, ListPodSandboxStatsRequest { filter: None }).stats)
    }

    /// Changes the limits of a container.
    ///
    /// # Errors
    /// The status.
    pub fn update(&self, id: &str, resources: LinuxContainerResources) -> Answer<()> {
        let request = UpdateContainerResourcesRequest {
            container_id: id.to_owned(),
            linux: Some(resources),
            ..Default::default()
        };
        call!(self, runtime, update_container_resources, request);
        Ok(())
    }

    /// Goes on with a container's log in a new file, after the old one was renamed.
    ///
    /// # Errors
    /// The status.
    pub fn reopen_log(&self, id: &str) -> Answer<()> {
        let request = ReopenContainerLogRequest { container_id: id.to_owned() };
        call!(self, runtime, reopen_container_log, request);
        Ok(())
    }

    /// An image that CRI knows.
    ///
    /// # Errors
    /// The status.
    pub fn image(&self, name: &str) -> Answer<Option<k8s_cri::v1::Image>> {
        let image = Some(ImageSpec { image: name.to_owned(), ..Default::default() });
        Ok(call!(self, images, image_status, ImageStatusRequest { image, verbose: false }).image)
    }

    /// Pulls an image; its reference.
    ///
    /// # Errors
    /// The status.
    pub fn pull(&self, name: &str, sandbox: Option<PodSandboxConfig>) -> Answer<String> {
        let image = Some(ImageSpec { image: name.to_owned(), ..Default::default() });
        let request = PullImageRequest { image, auth: None, sandbox_config: sandbox };
        Ok(call!(self, images, pull_image, request).image_ref)
    }
}
