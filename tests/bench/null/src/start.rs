//! `start`: a shim of its own for each pod, and for each container outside one. containerd asks again for no container of a
//! pod: it knows the shim of the sandbox.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult, Extension};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};

use crate::Args;

/// Starts the shim, which inherits its socket as stdin; the answer is what is to be printed, for containerd 2.3 and later.
///
/// # Errors
/// Why it could not be started.
pub(crate) fn start(args: &Args) -> Result<Vec<u8>> {
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input)?;
    let params = BootstrapParams::parse_from_bytes(&input)
        .context("stdin is not the bootstrap parameters that containerd sends from 2.3 on")?;
    let folder =
        params.socket_dir.as_deref().filter(|folder| !folder.is_empty()).unwrap_or("/run/containerd/s");
    fs::create_dir_all(folder)?;
    let mut hash = DefaultHasher::new();
    (&params.containerd_grpc_address, &args.namespace, &args.id).hash(&mut hash);
    let socket = Path::new(folder).join(format!("null-{:016x}", hash.finish()));
    let listener =
        UnixListener::bind(&socket).with_context(|| format!("making the socket {}", socket.display()))?;
    Command::new("/proc/self/exe")
        .args(["-namespace", &args.namespace, "-id", &args.id])
        .env("TTRPC_ADDRESS", &params.containerd_ttrpc_address)
        .current_dir("/")
        .process_group(0)
        .stdin(OwnedFd::from(listener))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("starting the shim")?;
    answer(format!("unix://{}", socket.display()))
}

fn answer(address: String) -> Result<Vec<u8>> {
    let mut result =
        BootstrapResult { version: 3, address, protocol: "ttrpc".into(), ..BootstrapResult::default() };
    // That the shim performs no mounts in place of containerd's mount manager. Unsaid, containerd runs `-info` to ask.
    let none = Any { type_url: "containerd.types.MountCapabilities".into(), ..Any::default() };
    let extension = Extension { value: MessageField::some(none), ..Extension::default() };
    // Field 6, `extensions`, is newer than the generated code.
    result.special_fields.mut_unknown_fields().add_length_delimited(6, extension.write_to_bytes()?);
    Ok(result.write_to_bytes()?)
}
