//! The Task service. What is not asked when containers come and go is answered "not supported" by the generated code.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::process;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use containerd_shim_protos::api::{
    ConnectRequest, ConnectResponse, CreateTaskRequest, CreateTaskResponse, DeleteRequest, DeleteResponse,
    Empty, KillRequest, PidsRequest, PidsResponse, ProcessInfo, ShutdownRequest, StartRequest, StartResponse,
    StateRequest, StateResponse, Status, WaitRequest, WaitResponse,
};
use containerd_shim_protos::events::task::{TaskCreate, TaskDelete, TaskExit, TaskStart};
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim_protos::shim_async::Task as TaskService;
use containerd_shim_protos::topics;
use containerd_shim_protos::ttrpc::asynchronous::TtrpcContext;
use containerd_shim_protos::ttrpc::{Code, Error, Result, get_status};
use tokio::sync::{Notify, watch};

use crate::events::Events;
use crate::now;
use crate::sandbox::Pod;

/// `O_NONBLOCK` of Linux on every architecture that it runs on here.
const NONBLOCK: i32 = 0o4000;

/// The shim: its tasks, and its pod where it has one.
#[derive(Debug)]
pub(crate) struct Shim {
    events: Events,
    tasks: Mutex<HashMap<String, Task>>,
    pub(crate) pod: Mutex<Option<Pod>>,
    end: Notify,
}

/// A task that runs nothing.
#[derive(Debug)]
struct Task {
    bundle: String,
    /// The writing ends of its output: who reads them sees their end when the task ends.
    output: Vec<File>,
    started: bool,
    exit: watch::Sender<Option<Exit>>,
}

/// How something ended.
#[derive(Debug, Clone)]
pub(crate) struct Exit {
    pub(crate) status: u32,
    pub(crate) at: Timestamp,
}

impl Shim {
    /// A shim without a task.
    pub(crate) fn new(events: Events) -> Self {
        Self { events, tasks: Mutex::default(), pod: Mutex::default(), end: Notify::new() }
    }

    /// Waits until containerd wants no more of it.
    pub(crate) async fn ended(&self) {
        self.end.notified().await;
    }

    /// Ends, if nothing is left.
    pub(crate) fn end(&self) {
        if lock(&self.tasks).is_empty() && lock(&self.pod).is_none() {
            self.end.notify_one();
        }
    }

    fn with<T>(&self, id: &str, act: impl FnOnce(&mut Task) -> T) -> Result<T> {
        lock(&self.tasks).get_mut(id).map(act).ok_or_else(|| not_found(id))
    }

    fn exit(&self, id: &str, status: u32) -> Result<()> {
        let exit = Exit { status, at: now() };
        self.with(id, |task| {
            task.output.clear();
            task.exit.send_replace(Some(exit.clone()));
        })?;
        self.events.publish(
            topics::TASK_EXIT_EVENT_TOPIC,
            &TaskExit {
                container_id: id.into(),
                id: id.into(),
                pid: process::id(),
                exit_status: status,
                exited_at: MessageField::some(exit.at),
                ..TaskExit::default()
            },
        );
        Ok(())
    }

    /// Kills what runs, as a pod's end does.
    pub(crate) fn kill_all(&self) {
        let running = |(id, task): (&String, &Task)| task.exit.borrow().is_none().then(|| id.clone());
        let running: Vec<_> = lock(&self.tasks).iter().filter_map(running).collect();
        for id in running {
            // It can only be gone already.
            let _ = self.exit(&id, 137);
        }
    }
}

#[async_trait]
impl TaskService for Shim {
    async fn create(&self, _: &TtrpcContext, request: CreateTaskRequest) -> Result<CreateTaskResponse> {
        let open = |path: &String| {
            let fifo = !path.is_empty() && !path.contains("://");
            fifo.then(|| OpenOptions::new().read(true).write(true).custom_flags(NONBLOCK).open(path).ok())
                .flatten()
        };
        let task = Task {
            bundle: request.bundle.clone(),
            output: [&request.stdout, &request.stderr].into_iter().filter_map(open).collect(),
            started: false,
            exit: watch::Sender::new(None),
        };
        lock(&self.tasks).insert(request.id.clone(), task);
        let pid = process::id();
        let event =
            TaskCreate { container_id: request.id, bundle: request.bundle, pid, ..TaskCreate::default() };
        self.events.publish(topics::TASK_CREATE_EVENT_TOPIC, &event);
        Ok(CreateTaskResponse { pid, ..CreateTaskResponse::default() })
    }

    async fn start(&self, _: &TtrpcContext, request: StartRequest) -> Result<StartResponse> {
        let (id, pid) = (request.id, process::id());
        self.with(&id, |task| task.started = true)?;
        let event = TaskStart { container_id: id.clone(), pid, ..TaskStart::default() };
        self.events.publish(topics::TASK_START_EVENT_TOPIC, &event);
        if lock(&self.pod).is_none() {
            self.exit(&id, 0)?;
        }
        Ok(StartResponse { pid, ..StartResponse::default() })
    }

    async fn state(&self, _: &TtrpcContext, request: StateRequest) -> Result<StateResponse> {
        self.with(&request.id, |task| {
            let exit = task.exit.borrow().clone();
            let status = match (&exit, task.started) {
                (Some(_), _) => Status::STOPPED,
                (None, true) => Status::RUNNING,
                (None, false) => Status::CREATED,
            };
            StateResponse {
                id: request.id.clone(),
                bundle: task.bundle.clone(),
                pid: process::id(),
                status: status.into(),
                exit_status: exit.as_ref().map_or(0, |exit| exit.status),
                exited_at: exit.map(|exit| exit.at).into(),
                ..StateResponse::default()
            }
        })
    }

    async fn pids(&self, _: &TtrpcContext, request: PidsRequest) -> Result<PidsResponse> {
        self.with(&request.id, |_| {
            let own = ProcessInfo { pid: process::id(), ..ProcessInfo::default() };
            PidsResponse { processes: vec![own], ..PidsResponse::default() }
        })
    }

    async fn kill(&self, _: &TtrpcContext, request: KillRequest) -> Result<Empty> {
        if self.with(&request.id, |task| task.exit.borrow().is_some())? {
            return Err(not_found(&request.id));
        }
        self.exit(&request.id, 128 + request.signal)?;
        Ok(Empty::new())
    }

    async fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> Result<WaitResponse> {
        let exit = self.with(&request.id, |task| task.exit.subscribe())?;
        let exit = exit_of(exit).await;
        let exited_at = MessageField::some(exit.at);
        Ok(WaitResponse { exit_status: exit.status, exited_at, ..WaitResponse::default() })
    }

    async fn delete(&self, _: &TtrpcContext, request: DeleteRequest) -> Result<DeleteResponse> {
        let task = lock(&self.tasks).remove(&request.id).ok_or_else(|| not_found(&request.id))?;
        let exit = task.exit.borrow().clone();
        let (exit_status, exited_at) = exit.map_or((0, None), |exit| (exit.status, Some(exit.at)));
        let (pid, exited_at) = (process::id(), MessageField::from(exited_at));
        self.events.publish(
            topics::TASK_DELETE_EVENT_TOPIC,
            &TaskDelete {
                container_id: request.id,
                pid,
                exit_status,
                exited_at: exited_at.clone(),
                ..TaskDelete::default()
            },
        );
        Ok(DeleteResponse { pid, exit_status, exited_at, ..DeleteResponse::default() })
    }

    async fn connect(&self, _: &TtrpcContext, _: ConnectRequest) -> Result<ConnectResponse> {
        let pid = process::id();
        Ok(ConnectResponse { shim_pid: pid, task_pid: pid, ..ConnectResponse::default() })
    }

    async fn shutdown(&self, _: &TtrpcContext, _: ShutdownRequest) -> Result<Empty> {
        self.end();
        Ok(Empty::new())
    }
}

/// Waits for an end; a task that was deleted meanwhile has ended too.
pub(crate) async fn exit_of(mut exit: watch::Receiver<Option<Exit>>) -> Exit {
    let exit = exit.wait_for(Option::is_some).await.ok().and_then(|exit| exit.clone());
    exit.unwrap_or_else(|| Exit { status: 137, at: now() })
}

pub(crate) fn not_found(id: &str) -> Error {
    Error::RpcStatus(get_status(Code::NOT_FOUND, format!("{id} does not exist or has ended")))
}

/// What a panic leaves is as good as any.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
