//! The Sandbox service: containerd's requests about the pod. See containerd's `api/runtime/sandbox/v1/sandbox.proto`, and
//! `plugins/sandbox/controller.go`, which calls it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::sandbox_api::{
    CreateSandboxRequest, CreateSandboxResponse, PingRequest, PingResponse, PlatformRequest,
    PlatformResponse, SandboxMetricsRequest, SandboxMetricsResponse, SandboxStatusRequest,
    SandboxStatusResponse, ShutdownSandboxRequest, ShutdownSandboxResponse, StartSandboxRequest,
    StartSandboxResponse, StopSandboxRequest, StopSandboxResponse, WaitSandboxRequest, WaitSandboxResponse,
};
use containerd_shim_protos::sandbox_async::Sandbox;
use containerd_shim_protos::ttrpc;
use containerd_shim_protos::ttrpc::asynchronous::TtrpcContext;
use serde_json::json;
use tracing::debug;

use super::finish;
use crate::RUNTIME_NAME;
use crate::error::{Error, Result};
use crate::sandbox::{Leader, Pod, PodConfig};
use crate::task::Tasks;
use crate::timestamp;

/// The states, as CRI spells them.
const READY: &str = "SANDBOX_READY";
const NOT_READY: &str = "SANDBOX_NOTREADY";

/// The type of an OCI configuration, whose value is JSON.
const SPEC: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";

/// The service over a shim's pod.
#[derive(Debug)]
pub(crate) struct SandboxService {
    tasks: Arc<Tasks>,
    leader: Leader,
}

impl SandboxService {
    /// The service for the pod of these tasks, whose namespaces `leader` holds.
    pub(crate) fn new(tasks: Arc<Tasks>, leader: Leader) -> Self {
        Self { tasks, leader }
    }

    fn pod(&self, id: &str) -> Result<Arc<Pod>> {
        let pod = self.tasks.pod().filter(|pod| pod.id == id);
        pod.ok_or_else(|| Error::not_found(format!("sandbox {id} does not exist")))
    }

    async fn stop(&self, pod: Arc<Pod>) -> ttrpc::Result<()> {
        let tasks = self.tasks.clone();
        finish(async move {
            pod.stop(tasks.kill_all()).await;
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl Sandbox for SandboxService {
    async fn create_sandbox(
        &self,
        _: &TtrpcContext,
        request: CreateSandboxRequest,
    ) -> ttrpc::Result<CreateSandboxResponse> {
        let config = PodConfig::decode(request.options.as_ref(), &request.netns_path)?;
        let pod = Pod::new(self.tasks.namespace(), &request.sandbox_id, config, &request.netns_path)?;
        self.tasks.set_pod(pod)?;
        Ok(CreateSandboxResponse::new())
    }

    async fn start_sandbox(
        &self,
        _: &TtrpcContext,
        request: StartSandboxRequest,
    ) -> ttrpc::Result<StartSandboxResponse> {
        let pod = self.pod(&request.sandbox_id)?;
        let created_at = MessageField::some(timestamp(pod.created_at));
        let (leader, reaper) = (self.leader.clone(), self.tasks.reaper().clone());
        let pid = finish(async move { pod.start(&leader, &reaper).await }).await?;
        debug!(id = request.sandbox_id, pid, "the pod runs");
        let spec = MessageField::some(spec(pid));
        Ok(StartSandboxResponse { pid, created_at, spec, ..StartSandboxResponse::default() })
    }

    async fn platform(&self, _: &TtrpcContext, request: PlatformRequest) -> ttrpc::Result<PlatformResponse> {
        self.pod(&request.sandbox_id)?;
        let mut response = PlatformResponse::new();
        let platform = response.platform.mut_or_insert_default();
        "linux".clone_into(&mut platform.os);
        architecture().clone_into(&mut platform.architecture);
        Ok(response)
    }

    async fn stop_sandbox(
        &self,
        _: &TtrpcContext,
        request: StopSandboxRequest,
    ) -> ttrpc::Result<StopSandboxResponse> {
        let pod = self.pod(&request.sandbox_id)?;
        self.stop(pod).await?;
        Ok(StopSandboxResponse::new())
    }

    async fn wait_sandbox(
        &self,
        _: &TtrpcContext,
        request: WaitSandboxRequest,
    ) -> ttrpc::Result<WaitSandboxResponse> {
        let exit = self.pod(&request.sandbox_id)?.wait().await;
        Ok(WaitSandboxResponse {
            exit_status: exit.status,
            exited_at: MessageField::some(timestamp(exit.at)),
            ..WaitSandboxResponse::default()
        })
    }

    async fn sandbox_status(
        &self,
        _: &TtrpcContext,
        request: SandboxStatusRequest,
    ) -> ttrpc::Result<SandboxStatusResponse> {
        let pod = self.pod(&request.sandbox_id)?;
        let exit = pod.exit();
        let pid = pod.pid();
        let state = if pid.is_some() { READY } else { NOT_READY };
        Ok(SandboxStatusResponse {
            sandbox_id: pod.id.clone(),
            pid: pid.unwrap_or_default(),
            state: state.to_owned(),
            info: if request.verbose { info(&pod) } else { HashMap::new() },
            created_at: MessageField::some(timestamp(pod.created_at)),
            exited_at: exit.map(|exit| timestamp(exit.at)).into(),
            ..SandboxStatusResponse::default()
        })
    }

    async fn ping_sandbox(&self, _: &TtrpcContext, request: PingRequest) -> ttrpc::Result<PingResponse> {
        self.pod(&request.sandbox_id)?;
        Ok(PingResponse::new())
    }

    /// Also for a sandbox that could not be made, after which containerd asks for nothing but this.
    async fn shutdown_sandbox(
        &self,
        _: &TtrpcContext,
        request: ShutdownSandboxRequest,
    ) -> ttrpc::Result<ShutdownSandboxResponse> {
        if let Ok(pod) = self.pod(&request.sandbox_id) {
            self.stop(pod).await?;
            self.tasks.forget_pod();
        }
        self.tasks.life().end();
        Ok(ShutdownSandboxResponse::new())
    }

    async fn sandbox_metrics(
        &self,
        _: &TtrpcContext,
        request: SandboxMetricsRequest,
    ) -> ttrpc::Result<SandboxMetricsResponse> {
        let pod = self.pod(&request.sandbox_id)?;
        let mut response = SandboxMetricsResponse::new();
        let metrics = response.metrics.mut_or_insert_default();
        metrics.timestamp = MessageField::some(timestamp(SystemTime::now()));
        metrics.id.clone_from(&pod.id);
        metrics.data = MessageField::some(pod.metrics());
        Ok(response)
    }
}

/// What containerd tells NRI plugins of the pod: an OCI configuration, as of a pause container, with the namespaces.
fn spec(pid: u32) -> Any {
    let namespaces = [("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid")];
    let namespaces =
        namespaces.map(|(kind, file)| json!({"type": kind, "path": format!("/proc/{pid}/ns/{file}")}));
    let spec = json!({"ociVersion": "1.2.0", "linux": {"namespaces": namespaces}});
    Any { type_url: SPEC.to_owned(), value: spec.to_string().into_bytes(), ..Any::default() }
}

/// What `crictl inspectp` shows: in the fields of containerd's own sandbox, whose form containerd reads.
fn info(pod: &Pod) -> HashMap<String, String> {
    let pid = pod.pid();
    let info = json!({
        "pid": pid.unwrap_or_default(),
        "processStatus": if pid.is_some() { "running" } else { "stopped" },
        "netNamespaceClosed": pid.is_none(),
        "runtimeType": RUNTIME_NAME,
    });
    HashMap::from([("info".to_owned(), info.to_string())])
}

/// The processor's name in image indexes.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
