//! The Sandbox service: a pod without namespaces.

use std::collections::HashMap;
use std::process;

use async_trait::async_trait;
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim_protos::sandbox_api::{
    CreateSandboxRequest, CreateSandboxResponse, PingRequest, PingResponse, PlatformRequest,
    PlatformResponse, SandboxStatusRequest, SandboxStatusResponse, ShutdownSandboxRequest,
    ShutdownSandboxResponse, StartSandboxRequest, StartSandboxResponse, StopSandboxRequest,
    StopSandboxResponse, WaitSandboxRequest, WaitSandboxResponse,
};
use containerd_shim_protos::sandbox_async::Sandbox;
use containerd_shim_protos::ttrpc::Result;
use containerd_shim_protos::ttrpc::asynchronous::TtrpcContext;
use serde_json::json;
use tokio::sync::watch;

use crate::now;
use crate::task::{Exit, Shim, exit_of, lock, not_found};

/// The pod.
#[derive(Debug)]
pub(crate) struct Pod {
    id: String,
    created_at: Timestamp,
    exit: watch::Sender<Option<Exit>>,
}

impl Shim {
    fn pod<T>(&self, id: &str, act: impl FnOnce(&Pod) -> T) -> Result<T> {
        lock(&self.pod).as_ref().filter(|pod| pod.id == id).map(act).ok_or_else(|| not_found(id))
    }

    fn stop(&self, id: &str) -> Result<()> {
        self.kill_all();
        self.pod(id, |pod| {
            pod.exit.send_if_modified(|exit| {
                let runs = exit.is_none();
                exit.get_or_insert_with(|| Exit { status: 0, at: now() });
                runs
            });
        })
    }
}

#[async_trait]
impl Sandbox for Shim {
    async fn create_sandbox(
        &self,
        _: &TtrpcContext,
        request: CreateSandboxRequest,
    ) -> Result<CreateSandboxResponse> {
        let pod = Pod { id: request.sandbox_id, created_at: now(), exit: watch::Sender::new(None) };
        *lock(&self.pod) = Some(pod);
        Ok(CreateSandboxResponse::new())
    }

    async fn start_sandbox(
        &self,
        _: &TtrpcContext,
        request: StartSandboxRequest,
    ) -> Result<StartSandboxResponse> {
        let created_at = MessageField::some(self.pod(&request.sandbox_id, |pod| pod.created_at.clone())?);
        Ok(StartSandboxResponse { pid: process::id(), created_at, ..StartSandboxResponse::default() })
    }

    async fn platform(&self, _: &TtrpcContext, _: PlatformRequest) -> Result<PlatformResponse> {
        let mut response = PlatformResponse::new();
        let platform = response.platform.mut_or_insert_default();
        platform.os = "linux".into();
        platform.architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }.into();
        Ok(response)
    }

    async fn sandbox_status(
        &self,
        _: &TtrpcContext,
        request: SandboxStatusRequest,
    ) -> Result<SandboxStatusResponse> {
        let pid = process::id();
        self.pod(&request.sandbox_id, |pod| {
            let exit = pod.exit.borrow().clone();
            SandboxStatusResponse {
                sandbox_id: pod.id.clone(),
                pid,
                state: if exit.is_none() { "SANDBOX_READY" } else { "SANDBOX_NOTREADY" }.into(),
                info: HashMap::from([("info".into(), json!({"pid": pid}).to_string())]),
                created_at: MessageField::some(pod.created_at.clone()),
                exited_at: exit.map(|exit| exit.at).into(),
                ..SandboxStatusResponse::default()
            }
        })
    }

    async fn wait_sandbox(
        &self,
        _: &TtrpcContext,
        request: WaitSandboxRequest,
    ) -> Result<WaitSandboxResponse> {
        let exit = exit_of(self.pod(&request.sandbox_id, |pod| pod.exit.subscribe())?).await;
        let exited_at = MessageField::some(exit.at);
        Ok(WaitSandboxResponse { exit_status: exit.status, exited_at, ..WaitSandboxResponse::default() })
    }

    async fn ping_sandbox(&self, _: &TtrpcContext, request: PingRequest) -> Result<PingResponse> {
        self.pod(&request.sandbox_id, |_| PingResponse::new())
    }

    async fn stop_sandbox(
        &self,
        _: &TtrpcContext,
        request: StopSandboxRequest,
    ) -> Result<StopSandboxResponse> {
        self.stop(&request.sandbox_id)?;
        Ok(StopSandboxResponse::new())
    }

    async fn shutdown_sandbox(
        &self,
        _: &TtrpcContext,
        request: ShutdownSandboxRequest,
    ) -> Result<ShutdownSandboxResponse> {
        // Also for one that could not be made.
        let _ = self.stop(&request.sandbox_id);
        *lock(&self.pod) = None;
        self.end();
        Ok(ShutdownSandboxResponse::new())
    }
}
