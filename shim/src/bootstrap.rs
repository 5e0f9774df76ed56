//! `start`: starts the shim of a container's pod, or finds the one that runs, and answers its address.
//!
//! containerd 2.3 and later send `BootstrapParams` on stdin and are answered in kind. Earlier ones send the runtime's
//! options, and are answered with the bare address, which each of them understands (1.7 refuses a JSON answer of version
//! 3, 1.6 any JSON); but for a sandbox with JSON, which those that have sandboxes (2.0 to 2.2) need to hear of version 3.

use std::fs;
use std::io::{self, Read};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::args::Args;
use crate::bundle::{self, ADDRESS_FILE};
use crate::options::Options;
use crate::socket;
use crate::spec::Spec;
use anyhow::{Context, bail};
use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult, Extension, LogLevel};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use rustix::thread::{CoreSchedulingScope, create_core_scheduling_cookie};
use serde_json::json;

/// Where shims' sockets are, unless containerd says otherwise.
const SOCKETS: &str = "/run/containerd/s";
/// Annotations whose value groups containers in one shim, in the order in which they count.
const GROUPS: [&str; 2] = ["io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"];
/// The folder of sandboxes' bundles.
const SANDBOXES: &str = "io.containerd.sandbox.controller.v1.shim";
/// The version of the Task service, which is also that of shims that know sandboxes.
const VERSION: i32 = 3;
const PROTOCOL: &str = "ttrpc";
/// The most that is read of stdin.
const MAX_INPUT: u64 = 10 << 20;

/// What containerd wants of a shim, however it said so.
#[derive(Debug, Default)]
struct Request {
    /// Whether it said so, and is to be answered, in `BootstrapParams`.
    bootstrap: bool,
    debug: bool,
    address: String,
    ttrpc_address: Option<String>,
    socket_dir: Option<PathBuf>,
    options: Any,
}

impl Request {
    fn read(args: &Args, input: &[u8]) -> Self {
        let legacy = || Self {
            debug: args.debug,
            address: args.address.clone(),
            // The runtime's options, if anything. What cannot be read is refused by Create, which gets them too.
            options: Any::parse_from_bytes(input).unwrap_or_default(),
            ..Self::default()
        };
        // Options, too, can be read as parameters: they are meant only where they name this container.
        match BootstrapParams::parse_from_bytes(input) {
            Ok(params) if params.instance_id == args.id && params.namespace == args.namespace => {
                Self::of(args, params)
            }
            _ => legacy(),
        }
    }

    fn of(args: &Args, params: BootstrapParams) -> Self {
        let known = |value: &Any| Options::knows(&value.type_url);
        let mut values = params.extensions.into_iter().filter_map(|extension| extension.value.into_option());
        Self {
            bootstrap: true,
            debug: args.debug || params.log_level.value() <= LogLevel::LOG_LEVEL_DEBUG as i32,
            address: params.containerd_grpc_address,
            ttrpc_address: Some(params.containerd_ttrpc_address).filter(|address| !address.is_empty()),
            socket_dir: params.socket_dir.filter(|dir| !dir.is_empty()).map(PathBuf::from),
            options: values.find(known).unwrap_or_default(),
        }
    }
}

/// Does it; the answer is what is to be printed.
///
/// # Errors
/// Why no shim could be started.
pub(crate) fn start(args: &Args) -> anyhow::Result<Vec<u8>> {
    let mut input = Vec::new();
    io::stdin().take(MAX_INPUT).read_to_end(&mut input).context("reading what containerd sent on stdin")?;
    let request = Request::read(args, &input);
    let bundle = std::env::current_dir().context("finding the bundle, which is the working directory")?;
    let sandbox = is_sandbox(&bundle);
    // A sandbox has no OCI configuration.
    let spec = if sandbox { Spec::default() } else { Spec::read(&bundle)? };
    let group = GROUPS.iter().find_map(|name| spec.annotations.get(*name)).unwrap_or(&args.id);
    let folder = request.socket_dir.as_deref().unwrap_or(Path::new(SOCKETS));
    let path = socket::path(folder, &request.address, &args.namespace, group);
    let address = format!("unix://{}", path.display());

    if let Some(listener) =
        socket::listen(&path).with_context(|| format!("making the shim's socket {}", path.display()))?
        && let Err(error) = spawn(args, &request, listener)
    {
        let _ = fs::remove_file(&path);
        return Err(error);
    }
    bundle::write(&bundle.join(ADDRESS_FILE), address.as_bytes())
        .context("writing the shim's address into the bundle")?;
    match request.bootstrap {
        true => Ok(result(address)?.write_to_bytes()?),
        false if sandbox => Ok(serde_json::to_vec(&json!({
            "version": VERSION, "address": address, "protocol": PROTOCOL,
        }))?),
        false => Ok(address.into_bytes()),
    }
}

/// Whether the bundle is one of a sandbox: containerd keeps these apart, as `FOLDER/NAMESPACE/ID`.
fn is_sandbox(bundle: &Path) -> bool {
    bundle.ancestors().nth(2).is_some_and(|folder| folder.ends_with(SANDBOXES))
}

/// The answer in kind: Task service version 3 over ttrpc.
fn result(address: String) -> anyhow::Result<BootstrapResult> {
    let mut result = BootstrapResult {
        version: VERSION,
        address,
        protocol: PROTOCOL.to_owned(),
        ..BootstrapResult::default()
    };
    // That the shim performs no mounts in place of containerd's mount manager. Unsaid, containerd runs `-info` to ask.
    let none = Any { type_url: "containerd.types.MountCapabilities".to_owned(), ..Any::default() };
    let extension = Extension { value: MessageField::some(none), ..Extension::default() };
    // Field 6, `extensions`, is newer than the generated code.
    result.special_fields.mut_unknown_fields().add_length_delimited(6, extension.write_to_bytes()?);
    Ok(result)
}

/// Starts the shim, which inherits the socket as its stdin.
fn spawn(args: &Args, request: &Request, listener: UnixListener) -> anyhow::Result<()> {
    let options = Options::decode(&request.options).unwrap_or_default();
    if !options.shim_cgroup.is_empty() {
        join_cgroup(&options.shim_cgroup)
            .with_context(|| format!("joining the shim's cgroup {}", options.shim_cgroup))?;
    }
    if std::env::var_os("SCHED_CORE").is_some_and(|value| !value.is_empty()) {
        let own = rustix::process::getpid();
        create_core_scheduling_cookie(own, CoreSchedulingScope::ThreadGroup)
            .context("asking for core scheduling")?;
    }
    // Not by its path: this binary may be replaced at any time.
    let mut command = Command::new("/proc/self/exe");
    std::os::unix::process::CommandExt::arg0(&mut command, std::env::args_os().next().unwrap_or_default());
    command.args(["-namespace", &args.namespace, "-id", &args.id, "-address", &request.address]);
    if request.debug {
        command.arg("-debug");
    }
    if let Some(address) = &request.ttrpc_address {
        command.env("TTRPC_ADDRESS", address);
    }
    let listener = std::os::fd::OwnedFd::from(listener);
    command.stdin(listener).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().context("starting the shim")?;
    Ok(())
}

/// Puts this process, and with it the shim that it starts, into a cgroup that is there.
fn join_cgroup(cgroup: &str) -> anyhow::Result<()> {
    let mount = Path::new("/sys/fs/cgroup");
    let cgroup = cgroup.trim_start_matches('/');
    let own = std::process::id().to_string();
    if mount.join("cgroup.controllers").exists() {
        return Ok(fs::write(mount.join(cgroup).join("cgroup.procs"), own)?);
    }
    let mut joined = false;
    for controller in fs::read_dir(mount)? {
        let procs = controller?.path().join(cgroup).join("cgroup.procs");
        if procs.exists() {
            fs::write(&procs, &own).with_context(|| format!("writing {}", procs.display()))?;
            joined = true;
        }
    }
    if !joined {
        bail!("there is no such cgroup; make it before containers are started");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> Args {
        Args { namespace: "n".into(), id: "i".into(), address: "/a".into(), ..Args::default() }
    }

    #[test]
    fn parameters_that_name_the_container_are_answered_in_kind() {
        let options = Any { type_url: "containerd.runc.v1.Options".into(), value: vec![1], ..Any::default() };
        let params = BootstrapParams {
            instance_id: "i".into(),
            namespace: "n".into(),
            containerd_grpc_address: "/b".into(),
            containerd_ttrpc_address: "/b.ttrpc".into(),
            log_level: LogLevel::LOG_LEVEL_TRACE.into(),
            socket_dir: Some("/s".into()),
            extensions: vec![Extension {
                value: MessageField::some(options.clone()),
                ..Extension::default()
            }],
            ..BootstrapParams::default()
        };
        let request = Request::read(&args(), &params.write_to_bytes().unwrap());
        assert!(request.bootstrap && request.debug);
        assert_eq!((request.address.as_str(), request.ttrpc_address.as_deref()), ("/b", Some("/b.ttrpc")));
        assert_eq!(request.socket_dir, Some("/s".into()));
        assert_eq!(request.options, options);

        let other = BootstrapParams { instance_id: "other".into(), ..params };
        assert!(!Request::read(&args(), &other.write_to_bytes().unwrap()).bootstrap);
    }

    #[test]
    fn a_sandbox_is_known_by_the_folder_of_its_bundle() {
        let state = Path::new("/run/containerd");
        assert!(is_sandbox(&state.join(SANDBOXES).join("k8s.io/pod")));
        assert!(!is_sandbox(&state.join("io.containerd.runtime.v2.task/k8s.io/pod")));
        assert!(!is_sandbox(Path::new("/")));
    }

    #[test]
    fn runtime_options_or_nothing_are_the_old_protocol() {
        let options = Any { type_url: "containerd.runc.v1.Options".into(), value: vec![], ..Any::default() };
        let request = Request::read(&args(), &options.write_to_bytes().unwrap());
        assert!(!request.bootstrap);
        assert_eq!((request.address.as_str(), request.options), ("/a", options));
        assert!(!Request::read(&args(), b"").bootstrap);
    }
}
