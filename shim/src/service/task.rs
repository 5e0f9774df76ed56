//! The Task service: containerd's requests, translated. One implementation serves `containerd.task.v2.Task` and
//! `containerd.task.v3.Task`, whose messages are the same.

use std::sync::Arc;

use async_trait::async_trait;
use containerd_shim_protos::api::{
    CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest,
    CreateTaskResponse, DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest, PauseRequest,
    PidsRequest, PidsResponse, ProcessInfo, ResizePtyRequest, ResumeRequest, ShutdownRequest, StartRequest,
    StartResponse, StateRequest, StateResponse, StatsRequest, StatsResponse, Status, UpdateTaskRequest,
    WaitRequest, WaitResponse,
};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim::oci::ProcessDetails;
use containerd_shim_protos::shim_async::Task;
use containerd_shim_protos::ttrpc;
use containerd_shim_protos::ttrpc::asynchronous::TtrpcContext;
use tracing::debug;

use super::finish;
use crate::error::{Error, Result};
use crate::io::Stdio;
use crate::task::{Container, Phase, Tasks};
use crate::timestamp;

/// The service over a shim's tasks.
#[derive(Debug, Clone)]
pub(crate) struct TaskService(pub Arc<Tasks>);

impl TaskService {
    /// Does something to a container, to the end even if the client does not wait for it.
    async fn with<T, F>(
        &self,
        id: &str,
        act: impl FnOnce(Arc<Tasks>, Arc<Container>) -> F,
    ) -> ttrpc::Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let container = self.0.container(id)?;
        finish(act(self.0.clone(), container)).await
    }
}

#[async_trait]
impl Task for TaskService {
    async fn create(
        &self,
        _: &TtrpcContext,
        request: CreateTaskRequest,
    ) -> ttrpc::Result<CreateTaskResponse> {
        let pid = self.0.clone().create(request).await?;
        Ok(CreateTaskResponse { pid, ..CreateTaskResponse::default() })
    }

    async fn start(&self, _: &TtrpcContext, request: StartRequest) -> ttrpc::Result<StartResponse> {
        let pid = self
            .with(&request.id, |tasks, container| async move {
                match request.exec_id.as_str() {
                    "" => container.start(&tasks).await,
                    exec_id => container.start_exec(&tasks, container.process(exec_id)?).await,
                }
            })
            .await?;
        Ok(StartResponse { pid, ..StartResponse::default() })
    }

    async fn state(&self, _: &TtrpcContext, request: StateRequest) -> ttrpc::Result<StateResponse> {
        let container = self.0.container(&request.id)?;
        let process = container.process(&request.exec_id)?;
        let status = match container.phase(&process) {
            Phase::Created => Status::CREATED,
            Phase::Running => Status::RUNNING,
            Phase::Pausing => Status::PAUSING,
            Phase::Paused => Status::PAUSED,
            Phase::Stopped => Status::STOPPED,
            Phase::Deleted => Status::UNKNOWN,
        };
        let exit = process.exit();
        Ok(StateResponse {
            id: process.id.clone(),
            bundle: container.bundle.to_string_lossy().into_owned(),
            pid: process.pid(),
            status: status.into(),
            stdin: process.stdio.stdin.clone(),
            stdout: process.stdio.stdout.clone(),
            stderr: process.stdio.stderr.clone(),
            terminal: process.stdio.terminal,
            exit_status: exit.map_or(0, |exit| exit.status),
            exited_at: exit.map(|exit| timestamp(exit.at)).into(),
            exec_id: request.exec_id,
            ..StateResponse::default()
        })
    }

    async fn delete(&self, _: &TtrpcContext, request: DeleteRequest) -> ttrpc::Result<DeleteResponse> {
        let (pid, exit) = self
            .with(&request.id, |tasks, container| async move {
                let process = container.process(&request.exec_id)?;
                let exit = match request.exec_id.as_str() {
                    "" => container.delete(&tasks).await?,
                    _ => container.delete_exec(&process).await?,
                };
                Ok((process.pid(), exit))
            })
            .await?;
        Ok(DeleteResponse {
            pid,
            exit_status: exit.map_or(0, |exit| exit.status),
            exited_at: exit.map(|exit| timestamp(exit.at)).into(),
            ..DeleteResponse::default()
        })
    }

    async fn pids(&self, _: &TtrpcContext, request: PidsRequest) -> ttrpc::Result<PidsResponse> {
        let container = self.0.container(&request.id)?;
        let execs: Vec<(u32, String)> =
            container.execs().values().map(|process| (process.pid(), process.id.clone())).collect();
        let processes = container.pids().into_iter().map(|pid| {
            let exec = execs.iter().find(|(of, _)| *of == pid);
            ProcessInfo { pid, info: exec.map(|(_, id)| details(id)).into(), ..ProcessInfo::default() }
        });
        Ok(PidsResponse { processes: processes.collect(), ..PidsResponse::default() })
    }

    async fn pause(&self, _: &TtrpcContext, request: PauseRequest) -> ttrpc::Result<Empty> {
        self.with(&request.id, |tasks, container| async move { container.pause(&tasks).await }).await?;
        Ok(Empty::new())
    }

    async fn resume(&self, _: &TtrpcContext, request: ResumeRequest) -> ttrpc::Result<Empty> {
        self.with(&request.id, |tasks, container| async move { container.resume(&tasks).await }).await?;
        Ok(Empty::new())
    }

    async fn checkpoint(&self, _: &TtrpcContext, _: CheckpointTaskRequest) -> ttrpc::Result<Empty> {
        Err(Error::unimplemented("Wisp does not make checkpoints").into())
    }

    async fn kill(&self, _: &TtrpcContext, request: KillRequest) -> ttrpc::Result<Empty> {
        self.with(&request.id, |_, container| async move {
            match request.exec_id.as_str() {
                "" => container.kill(request.signal, request.all).await,
                exec_id => container.process(exec_id)?.signal(request.signal),
            }
        })
        .await?;
        Ok(Empty::new())
    }

    async fn exec(&self, _: &TtrpcContext, request: ExecProcessRequest) -> ttrpc::Result<Empty> {
        let stdio = Stdio {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
        };
        let container = self.0.container(&request.id)?;
        container.add_exec(&self.0, &request.exec_id, &request.spec.value, stdio)?;
        Ok(Empty::new())
    }

    async fn resize_pty(&self, _: &TtrpcContext, request: ResizePtyRequest) -> ttrpc::Result<Empty> {
        self.0.container(&request.id)?.process(&request.exec_id)?.resize(request.width, request.height)?;
        Ok(Empty::new())
    }

    async fn close_io(&self, _: &TtrpcContext, request: CloseIORequest) -> ttrpc::Result<Empty> {
        self.0.container(&request.id)?.process(&request.exec_id)?.close_stdin();
        Ok(Empty::new())
    }

    async fn update(&self, _: &TtrpcContext, request: UpdateTaskRequest) -> ttrpc::Result<Empty> {
        let resources = request.resources.value.clone();
        self.with(&request.id, |_, container| async move { container.update(&resources).await }).await?;
        Ok(Empty::new())
    }

    async fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> ttrpc::Result<WaitResponse> {
        let exit = self.0.container(&request.id)?.process(&request.exec_id)?.wait().await;
        Ok(WaitResponse {
            exit_status: exit.status,
            exited_at: MessageField::some(timestamp(exit.at)),
            ..WaitResponse::default()
        })
    }

    async fn stats(&self, _: &TtrpcContext, request: StatsRequest) -> ttrpc::Result<StatsResponse> {
        let stats = self.0.container(&request.id)?.stats()?;
        Ok(StatsResponse { stats: MessageField::some(stats), ..StatsResponse::default() })
    }

    /// Always answered: a containerd that has been restarted drops a shim whose answer is an error.
    async fn connect(&self, _: &TtrpcContext, request: ConnectRequest) -> ttrpc::Result<ConnectResponse> {
        let task_pid = self.0.container(&request.id).map_or(0, |container| container.init.pid());
        Ok(ConnectResponse { shim_pid: std::process::id(), task_pid, ..ConnectResponse::default() })
    }

    async fn shutdown(&self, _: &TtrpcContext, request: ShutdownRequest) -> ttrpc::Result<Empty> {
        debug!(id = request.id, "containerd asks the shim to end");
        self.0.life().end();
        Ok(Empty::new())
    }
}

fn details(exec_id: &str) -> Any {
    let details = ProcessDetails { exec_id: exec_id.to_owned(), ..ProcessDetails::default() };
    Any {
        type_url: "containerd.runc.v1.ProcessDetails".to_owned(),
        value: details.write_to_bytes().unwrap_or_default(),
        ..Any::default()
    }
}
