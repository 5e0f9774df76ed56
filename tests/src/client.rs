//! containerd's API, as blocking calls whose errors keep their codes: tasks and their execs.

mod containers;

use std::path::Path;

use anyhow::{Context, Result};
use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::services::v1::{
    CloseIoRequest, DeleteProcessRequest, DeleteTaskRequest, ExecProcessRequest, GetRequest, KillRequest,
    ListPidsRequest, MetricsRequest, PauseTaskRequest, ResizePtyRequest, ResumeTaskRequest, StartRequest,
    UpdateTaskRequest, WaitRequest,
};
use containerd_client::tonic::transport::Channel;
use containerd_client::tonic::{Code, Request, Response, Status};
use prost_types::Any;
use serde_json::Value;
use tokio::runtime::Runtime;

/// A connection to one containerd, in one namespace.
#[derive(Debug)]
pub struct Client {
    runtime: Runtime,
    channel: Channel,
    namespace: String,
}

/// The answer of one call: a value, or a status with its code.
pub type Answer<T> = Result<T, Status>;

/// The code of an answer; `Ok` where it is one.
#[must_use]
pub fn code<T>(answer: &Answer<T>) -> Code {
    answer.as_ref().map_or_else(Status::code, |_| Code::Ok)
}

/// Calls a method of a service, by default that of tasks.
macro_rules! call {
    ($self:ident, $method:ident, $request:expr) => {
        call!($self, TasksClient.$method, $request)
    };
    ($self:ident, $service:ident.$method:ident, $request:expr) => {{
        let request = $self.request($request)?;
        let mut service = $service::new($self.channel.clone());
        $self.runtime.block_on(async move { service.$method(request).await }).map(Response::into_inner)
    }};
}
use call;

impl Client {
    /// Connects to the containerd behind `socket`.
    ///
    /// # Errors
    /// Where it does not answer.
    pub fn connect(socket: &Path, namespace: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(containerd_client::Client::from_path(socket)).context("connecting")?;
        let mut version = client.version();
        runtime.block_on(async move { version.version(()).await }).context("asking for the version")?;
        Ok(Self { channel: client.channel(), namespace: namespace.to_owned(), runtime })
    }

    fn request<T>(&self, message: T) -> Answer<Request<T>> {
        let mut request = Request::new(message);
        let namespace =
            self.namespace.parse().map_err(|_| Status::invalid_argument("the namespace's name"))?;
        request.metadata_mut().insert("containerd-namespace", namespace);
        Ok(request)
    }

    /// Sends a signal to a task (`exec` is empty) or to one of its execs.
    ///
    /// # Errors
    /// The status.
    pub fn kill(&self, id: &str, exec: &str, signal: u32, all: bool) -> Answer<()> {
        call!(self, kill, KillRequest { container_id: id.into(), exec_id: exec.into(), signal, all })
    }

    /// Waits for the end of a task or exec; its exit status.
    ///
    /// # Errors
    /// The status.
    pub fn wait(&self, id: &str, exec: &str) -> Answer<u32> {
        call!(self, wait, WaitRequest { container_id: id.into(), exec_id: exec.into() })
            .map(|answer| answer.exit_status)
    }

    /// The state of a task or exec (`status` is that of `containerd.v1.types`: 2 running, 3 stopped, 4 paused) and its pid.
    ///
    /// # Errors
    /// The status.
    pub fn state(&self, id: &str, exec: &str) -> Answer<(i32, u32)> {
        let answer = call!(self, get, GetRequest { container_id: id.into(), exec_id: exec.into() })?;
        let process = answer.process.ok_or_else(|| Status::internal("an answer without a process"))?;
        Ok((process.status, process.pid))
    }

    /// Starts a created task or an added exec; its pid.
    ///
    /// # Errors
    /// The status.
    pub fn start(&self, id: &str, exec: &str) -> Answer<u32> {
        call!(self, start, StartRequest { container_id: id.into(), exec_id: exec.into() })
            .map(|answer| answer.pid)
    }

    /// Deletes a stopped task.
    ///
    /// # Errors
    /// The status.
    pub fn delete(&self, id: &str) -> Answer<u32> {
        call!(self, delete, DeleteTaskRequest { container_id: id.into() }).map(|answer| answer.exit_status)
    }

    /// Deletes a stopped exec.
    ///
    /// # Errors
    /// The status.
    pub fn delete_exec(&self, id: &str, exec: &str) -> Answer<u32> {
        call!(self, delete_process, DeleteProcessRequest { container_id: id.into(), exec_id: exec.into() })
            .map(|answer| answer.exit_status)
    }

    /// Adds an exec whose output goes to the file `log`.
    ///
    /// # Errors
    /// The status.
    pub fn exec(&self, id: &str, exec: &str, args: &[&str], log: &Path) -> Answer<()> {
        let process = serde_json::json!({
            "args": args, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}, "noNewPrivileges": true,
        });
        let log = format!("file://{}", log.display());
        call!(
            self,
            exec,
            ExecProcessRequest {
                container_id: id.into(),
                exec_id: exec.into(),
                stdout: log.clone(),
                stderr: log,
                spec: Some(json_any("Process", &process)),
                ..Default::default()
            }
        )
    }

    /// The processes of a task.
    ///
    /// # Errors
    /// The status.
    pub fn pids(&self, id: &str) -> Answer<Vec<u32>> {
        let answer = call!(self, list_pids, ListPidsRequest { container_id: id.into() })?;
        Ok(answer.processes.iter().map(|process| process.pid).collect())
    }

    /// Freezes a task.
    ///
    /// # Errors
    /// The status.
    pub fn pause(&self, id: &str) -> Answer<()> {
        call!(self, pause, PauseTaskRequest { container_id: id.into() })
    }

    /// Lets a frozen task run on.
    ///
    /// # Errors
    /// The status.
    pub fn resume(&self, id: &str) -> Answer<()> {
        call!(self, resume, ResumeTaskRequest { container_id: id.into() })
    }

    /// Changes the limits of a task; `resources` as in the OCI spec's `linux.resources`.
    ///
    /// # Errors
    /// The status.
    pub fn update(&self, id: &str, resources: &Value) -> Answer<()> {
        let resources = Some(json_any("LinuxResources", resources));
        call!(self, update, UpdateTaskRequest { container_id: id.into(), resources, ..Default::default() })
    }

    /// Says that no more input comes.
    ///
    /// # Errors
    /// The status.
    pub fn close_io(&self, id: &str, exec: &str) -> Answer<()> {
        call!(self, close_io, CloseIoRequest { container_id: id.into(), exec_id: exec.into(), stdin: true })
    }

    /// Changes the size of a terminal.
    ///
    /// # Errors
    /// The status.
    pub fn resize(&self, id: &str, exec: &str, width: u32, height: u32) -> Answer<()> {
        call!(
            self,
            resize_pty,
            ResizePtyRequest { container_id: id.into(), exec_id: exec.into(), width, height }
        )
    }

    /// The metrics of a task: their type and their bytes.
    ///
    /// # Errors
    /// The status.
    pub fn metrics(&self, id: &str) -> Answer<Any> {
        let answer = call!(self, metrics, MetricsRequest { filters: vec![format!("id=={id}")] })?;
        let first = answer.metrics.into_iter().next().and_then(|metric| metric.data);
        first.ok_or_else(|| Status::not_found("no metrics for the task"))
    }
}

/// A part of the OCI spec, as containerd's Go client wraps it.
fn json_any(name: &str, value: &Value) -> Any {
    Any {
        type_url: format!("types.containerd.io/opencontainers/runtime-spec/1/{name}"),
        value: value.to_string().into_bytes(),
    }
}
