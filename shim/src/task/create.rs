//! Making a container.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;

use containerd_shim_protos::api::CreateTaskRequest;
use containerd_shim_protos::events::task::{TaskCreate, TaskIO};
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::topics;
use tokio::sync::{Notify, oneshot};
use tracing::{debug, warn};

use super::Tasks;
use super::container::Container;
use super::process::Process;
use crate::bundle::{self, RuntimeRecord};
use crate::cgroup::Cgroup;
use crate::entrypoint::{self, Kind};
use crate::error::{Context, Error, Result};
use crate::io::{ConsoleSocket, Io, Owner, Stdio};
use crate::mount::{self, Mount};
use crate::oom::OomWatch;
use crate::options::Options;
use crate::reaper::ExitOf;
use crate::runtime::{Launch, Runtime};
use crate::spec::Spec;

impl Tasks {
    /// Makes a container, and returns its process id. Who does not wait for it has it given up.
    ///
    /// # Errors
    /// There is one with its id, or why it cannot be made.
    pub(crate) async fn create(self: Arc<Self>, request: CreateTaskRequest) -> Result<u32> {
        self.reserve(&request.id)?;
        let (answer, answered) = oneshot::channel();
        tokio::spawn(make(self, request, answer));
        answered.await.unwrap_or_else(|_| Err(Error::unknown("the shim failed at this request")))
    }
}

/// Makes a container for somebody who waits for its process id, and may give up.
async fn make(tasks: Arc<Tasks>, request: CreateTaskRequest, mut answer: oneshot::Sender<Result<u32>>) {
    let id = request.id.clone();
    let abandoned = Notify::new();
    let mut creating = pin!(create(&tasks, &request, &abandoned));
    let created = tokio::select! {
        created = &mut creating => created,
        () = given_up(&tasks, &mut answer) => {
            warn!(id, "a container is given up while it is made");
            abandoned.notify_one();
            creating.await
        }
    };
    let pid = created.as_ref().map(|container| container.init.pid()).map_err(Clone::clone);
    let nobody_waits = answer.send(pid).is_err();
    match created {
        Err(_) => tasks.give_up(&id),
        Ok(container) if nobody_waits => {
            // Who does not know of it will not delete it.
            if let Err(error) = container.delete(&tasks).await {
                warn!(id, %error, "a container that nobody waited for was not removed");
            }
            tasks.give_up(&id);
        }
        Ok(_) => {}
    }
}

/// Waits until nobody wants the container any more: containerd has given up, or stops the pod.
async fn given_up(tasks: &Tasks, answer: &mut oneshot::Sender<Result<u32>>) {
    let stopped = async {
        match tasks.pod() {
            Some(pod) => pod.ending().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = answer.closed() => {}
        () = stopped => {}
    }
}

/// Makes the container that was asked for, whose id has been reserved, and says so. It is given up when `abandoned` is told.
async fn create(
    tasks: &Arc<Tasks>,
    request: &CreateTaskRequest,
    abandoned: &Notify,
) -> Result<Arc<Container>> {
    if !request.checkpoint.is_empty() {
        return Err(Error::unimplemented("Wisp does not restore checkpoints"));
    }
    let bundle = PathBuf::from(&request.bundle);
    let pod = tasks.pod();
    let _making = match &pod {
        Some(pod) => Some(pod.adopt(&bundle).await?),
        None => None,
    };
    let (options, spec) = (Options::decode(&request.options)?, Spec::read(&bundle)?);
    let making = Making { tasks, request, bundle, options, spec, abandoned };
    let rootfs = making.mount_rootfs()?;
    let (container, exit) = match making.container().await {
        Ok(made) => made,
        Err(error) => {
            if let Some(rootfs) = rootfs
                && let Err(error) = mount::unmount_all(&rootfs)
            {
                warn!(%error, path = %rootfs.display(), "a root file system stays mounted");
            }
            return Err(error);
        }
    };
    tasks.insert(container.clone());
    publish(tasks, request, container.init.pid());
    tokio::spawn(container.clone().follow(tasks.clone(), exit));
    Ok(container)
}

/// A container that is being made.
struct Making<'a> {
    tasks: &'a Arc<Tasks>,
    request: &'a CreateTaskRequest,
    bundle: PathBuf,
    options: Options,
    spec: Spec,
    abandoned: &'a Notify,
}

impl Making<'_> {
    /// Mounts the root file system that containerd describes, and returns where, if it describes one.
    fn mount_rootfs(&self) -> Result<Option<PathBuf>> {
        if self.request.rootfs.is_empty() {
            return Ok(None);
        }
        let rootfs = self.bundle.join("rootfs");
        if !rootfs.is_dir() {
            DirBuilder::new()
                .mode(0o711)
                .create(&rootfs)
                .context(|| format!("making {}", rootfs.display()))?;
        }
        let mounts = self.request.rootfs.iter().map(|mount| Mount {
            kind: mount.type_.clone(),
            source: mount.source.clone(),
            target: mount.target.clone(),
            options: mount.options.clone(),
        });
        mount::mount_all(&mounts.collect::<Vec<_>>(), &rootfs)?;
        Ok(Some(rootfs))
    }

    /// Has the runtime make the container, and gathers what the shim will need of it.
    async fn container(&self) -> Result<(Arc<Container>, ExitOf)> {
        let id = &self.request.id;
        let kind = self.kind().await?;
        let systemd = self.options.systemd_cgroup || self.spec.has_systemd_cgroup();
        let runtime = self.tasks.runtimes.choose(kind, &self.options, systemd, &self.bundle)?;
        debug!(id, ?kind, "making a container");
        let owner = Owner {
            id: id.clone(),
            namespace: self.tasks.namespace.clone(),
            ids: (self.options.io_uid, self.options.io_gid),
            reaper: self.tasks.reaper.clone(),
        };
        let (init, exit) = self.first_process(&runtime, &owner).await?;

        let cgroup = Cgroup::of_process(init.pid())
            .inspect_err(|error| warn!(id, %error, "the container's cgroup cannot be told"))
            .ok();
        let oom = cgroup.as_ref().and_then(|cgroup| {
            OomWatch::start(cgroup, id, &self.tasks.pod_kills, self.tasks.publisher.clone())
                .inspect_err(|error| debug!(id, %error, "OOM kills are not watched"))
                .ok()
        });
        let container = Container {
            id: id.clone(),
            bundle: self.bundle.clone(),
            init: Arc::new(init),
            runtime,
            owner,
            start_hooks: self.spec.has_start_hooks(),
            stop_hooks: self.spec.has_stop_hooks(),
            own_pid_namespace: self.spec.has_own_pid_namespace(),
            cgroup,
            oom,
            execs: Default::default(),
            running_execs: Default::default(),
            ended: Default::default(),
            last_stats: Default::default(),
        };
        Ok((Arc::new(container), exit))
    }

    /// What kind of program the entrypoint is. One that is no file may be a layer of the image, which is then Wasm.
    async fn kind(&self) -> Result<Kind> {
        match entrypoint::kind(&self.bundle, &self.spec) {
            Some(kind) => Ok(kind),
            None => {
                let id = &self.request.id;
                self.tasks.artifacts.record(id, &self.bundle, &self.spec, self.abandoned).await?;
                Ok(Kind::Wasm)
            }
        }
    }

    /// Makes the first process; where that fails, nothing of the container stays with the runtime.
    async fn first_process(&self, runtime: &Runtime, owner: &Owner) -> Result<(Process, ExitOf)> {
        let stdio = Stdio {
            stdin: self.request.stdin.clone(),
            stdout: self.request.stdout.clone(),
            stderr: self.request.stderr.clone(),
            terminal: self.request.terminal,
        };
        let init = Process::new(&owner.id, stdio);
        let pid_file = self.bundle.join(bundle::PID_FILE);
        let recorded = runtime.record().write(&self.bundle);
        recorded.context(|| "recording the runtime in the bundle".to_owned())?;
        if let Some(pod) = self.tasks.pod() {
            pod.record(&owner.id, &runtime.record())?;
        }
        let expected = self.tasks.reaper.expect();
        let made = self.run(runtime, &init, owner, &pid_file).await.and_then(|io| {
            let pid =
                bundle::read_pid(&pid_file).context(|| "reading the container's process id".to_owned())?;
            Ok((io, pid))
        });
        match made {
            Ok((io, pid)) => {
                let exit = expected.claim(pid);
                init.born(pid, io);
                Ok((init, exit))
            }
            Err(error) => {
                if let Err(error) = runtime.delete(&owner.id, true).await {
                    debug!(id = owner.id, %error, "the runtime deleted nothing of a container that was not made");
                }
                RuntimeRecord::remove(&self.bundle);
                // It is there only if the process was.
                let _ = fs::remove_file(&pid_file);
                Err(error)
            }
        }
    }

    /// Runs the runtime's `create` and connects the process's stdio.
    async fn run(&self, runtime: &Runtime, init: &Process, owner: &Owner, pid_file: &Path) -> Result<Io> {
        let mut flags = Vec::new();
        if self.options.no_pivot_root {
            flags.push("--no-pivot");
        }
        if self.options.no_new_keyring {
            flags.push("--no-new-keyring");
        }
        let launch =
            Launch { pid_file, console_socket: None, stdio: None, flags, abandoned: Some(self.abandoned) };
        if init.stdio.terminal {
            let socket = ConsoleSocket::bind(&self.bundle)?;
            let path = socket.path();
            let launch = Launch { console_socket: Some(&path), ..launch };
            runtime.create(&owner.id, &self.bundle, launch).await?;
            return Io::connect(&init.stdio, owner, socket.receive()?).await;
        }
        let (io, stdio) = Io::open(&init.stdio, owner).await?;
        runtime.create(&owner.id, &self.bundle, Launch { stdio: Some(stdio), ..launch }).await?;
        Ok(io)
    }
}

fn publish(tasks: &Tasks, request: &CreateTaskRequest, pid: u32) {
    let io = TaskIO {
        stdin: request.stdin.clone(),
        stdout: request.stdout.clone(),
        stderr: request.stderr.clone(),
        terminal: request.terminal,
        ..TaskIO::default()
    };
    let event = TaskCreate {
        container_id: request.id.clone(),
        bundle: request.bundle.clone(),
        rootfs: request.rootfs.clone(),
        io: MessageField::some(io),
        checkpoint: request.checkpoint.clone(),
        pid,
        ..TaskCreate::default()
    };
    tasks.publisher.publish(topics::TASK_CREATE_EVENT_TOPIC, &event);
}
