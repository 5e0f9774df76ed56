//! Making a container.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use containerd_shim_protos::api::CreateTaskRequest;
use containerd_shim_protos::events::task::{TaskCreate, TaskIO};
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::topics;
use tracing::{debug, warn};

use super::Tasks;
use super::container::Container;
use super::process::Process;
use crate::bundle::{self, RuntimeRecord};
use crate::cgroup::Cgroup;
use crate::entrypoint;
use crate::error::{Context, Error, Result};
use crate::io::{ConsoleSocket, Io, Owner, Stdio};
use crate::mount::{self, Mount};
use crate::oom::OomWatch;
use crate::options::Options;
use crate::reaper::ExitOf;
use crate::runtime::{Launch, Runtime};
use crate::spec::Spec;

/// Makes the container that was asked for, whose id has been reserved, and says so.
pub(super) async fn create(tasks: &Arc<Tasks>, request: &CreateTaskRequest) -> Result<Arc<Container>> {
    if !request.checkpoint.is_empty() {
        return Err(Error::unimplemented("Wisp does not restore checkpoints"));
    }
    let bundle = PathBuf::from(&request.bundle);
    let options = Options::decode(&request.options)?;
    let spec = Spec::read(&bundle)?;
    let rootfs = mount_rootfs(request, &bundle)?;
    let made = launch(tasks, request, &bundle, &options, &spec).await;
    let (container, exit) = match made {
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

/// Mounts the root file system that containerd describes, and returns where, if it describes one.
fn mount_rootfs(request: &CreateTaskRequest, bundle: &Path) -> Result<Option<PathBuf>> {
    if request.rootfs.is_empty() {
        return Ok(None);
    }
    let rootfs = bundle.join("rootfs");
    if !rootfs.is_dir() {
        DirBuilder::new().mode(0o711).create(&rootfs).context(|| format!("making {}", rootfs.display()))?;
    }
    let mounts: Vec<Mount> = request
        .rootfs
        .iter()
        .map(|mount| Mount {
            kind: mount.type_.clone(),
            source: mount.source.clone(),
            target: mount.target.clone(),
            options: mount.options.clone(),
        })
        .collect();
    mount::mount_all(&mounts, &rootfs)?;
    Ok(Some(rootfs))
}

/// Has the runtime make the container, and gathers what the shim will need of it.
async fn launch(
    tasks: &Arc<Tasks>,
    request: &CreateTaskRequest,
    bundle: &Path,
    options: &Options,
    spec: &Spec,
) -> Result<(Arc<Container>, ExitOf)> {
    let kind = entrypoint::kind(bundle, spec);
    let systemd = options.systemd_cgroup || spec.has_systemd_cgroup();
    let runtime = tasks.runtimes.choose(kind, options, systemd, bundle)?;
    debug!(id = request.id, ?kind, "making a container");
    runtime.record().write(bundle).context(|| "recording the runtime in the bundle".to_owned())?;

    let stdio = Stdio {
        stdin: request.stdin.clone(),
        stdout: request.stdout.clone(),
        stderr: request.stderr.clone(),
        terminal: request.terminal,
    };
    let owner = Owner {
        id: request.id.clone(),
        namespace: tasks.namespace.clone(),
        ids: (options.io_uid, options.io_gid),
        reaper: tasks.reaper.clone(),
    };
    let init = Process::new(&request.id, stdio);
    let exit = match run_create(tasks, &runtime, &init, &owner, bundle, options).await {
        Ok(exit) => exit,
        Err(error) => {
            RuntimeRecord::remove(bundle);
            return Err(error);
        }
    };

    let cgroup = Cgroup::of_process(init.pid())
        .inspect_err(|error| warn!(id = request.id, %error, "the container's cgroup cannot be told"))
        .ok();
    let oom = cgroup.as_ref().and_then(|cgroup| {
        OomWatch::start(cgroup, &request.id, tasks.publisher.clone())
            .inspect_err(|error| debug!(id = request.id, %error, "OOM kills are not watched"))
            .ok()
    });
    let container = Container {
        id: request.id.clone(),
        bundle: bundle.to_owned(),
        init: Arc::new(init),
        runtime,
        owner,
        own_pid_namespace: spec.has_own_pid_namespace(),
        cgroup,
        oom,
        execs: Default::default(),
        running_execs: Default::default(),
        ended: Default::default(),
        last_stats: Default::default(),
    };
    Ok((Arc::new(container), exit))
}

/// Runs the runtime's `create`; if anything fails after it, the container does not stay.
async fn run_create(
    tasks: &Arc<Tasks>,
    runtime: &Runtime,
    init: &Process,
    owner: &Owner,
    bundle: &Path,
    options: &Options,
) -> Result<ExitOf> {
    let pid_file = bundle.join(bundle::PID_FILE);
    let mut flags = Vec::new();
    if options.no_pivot_root {
        flags.push("--no-pivot");
    }
    if options.no_new_keyring {
        flags.push("--no-new-keyring");
    }
    let expected = tasks.reaper.expect();
    let connection = if init.stdio.terminal {
        let socket = ConsoleSocket::bind(bundle)?;
        let path = socket.path();
        let launch = Launch { pid_file: &pid_file, console_socket: Some(&path), stdio: None, flags };
        runtime.create(&owner.id, bundle, launch).await?;
        match socket.receive() {
            Ok(master) => Io::connect(&init.stdio, owner, master).await,
            Err(error) => Err(error),
        }
    } else {
        let (io, stdio) = Io::open(&init.stdio, owner).await?;
        let launch = Launch { pid_file: &pid_file, console_socket: None, stdio: Some(stdio), flags };
        runtime.create(&owner.id, bundle, launch).await?;
        Ok(io)
    };
    let pid = bundle::read_pid(&pid_file).context(|| "reading the container's process id".to_owned());
    match (connection, pid) {
        (Ok(io), Ok(pid)) => {
            let exit = expected.claim(pid);
            init.born(pid, io);
            Ok(exit)
        }
        (Err(error), _) | (_, Err(error)) => {
            if let Err(error) = runtime.delete(&owner.id, true).await {
                warn!(id = owner.id, %error, "a container that was not made whole was not deleted");
            }
            let _ = fs::remove_file(&pid_file);
            Err(error)
        }
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
