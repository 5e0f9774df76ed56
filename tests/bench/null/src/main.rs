//! `containerd-shim-null-v1`: a shim that answers everything containerd asks when pods and containers come and go, publishes the
//! events that it waits for, and runs nothing. What it costs is what the layers above a shim cost: the floor of every figure.
//!
//! A task's process is the shim itself. A task outside a pod ends as soon as it has started; one of a pod runs until it is killed.

mod events;
mod sandbox;
mod start;
mod task;

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::sandbox_async::create_sandbox;
use containerd_shim_protos::shim_async::create_task;
use containerd_shim_protos::ttrpc::asynchronous::{Server, transport::Listener};
use containerd_shim_protos::types::introspection::RuntimeInfo;

use crate::events::Events;
use crate::task::Shim;

/// How long the shim stays after its last answer: containerd takes the last events and closes its connections first, since one
/// that the shim closes right then may be in use for another call.
const LINGER: Duration = Duration::from_millis(100);

/// What containerd calls a shim with, as far as this one needs it.
#[derive(Debug, Default)]
struct Args {
    namespace: String,
    id: String,
    action: String,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)).and_then(|args| run(&args)) {
        Ok(answer) if std::io::stdout().write_all(&answer).is_ok() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            // containerd shows what a shim prints as the reason of its failure.
            let _ = write!(std::io::stderr(), "containerd-shim-null-v1: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Go's flags, then an action. See containerd's `core/runtime/v2/command.go`.
fn parse(mut words: impl Iterator<Item = String>) -> Result<Args> {
    let mut args = Args::default();
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("the flag {word} needs a value"));
        match word.as_str() {
            "-namespace" => args.namespace = value()?,
            "-id" => args.id = value()?,
            "-address" | "-publish-binary" | "-bundle" => drop(value()?),
            "-debug" => {}
            "-info" => args.action = word,
            _ if word.starts_with('-') => bail!("unknown flag {word}"),
            _ => args.action = word,
        }
    }
    Ok(args)
}

/// Does what was asked; the answer is for stdout.
fn run(args: &Args) -> Result<Vec<u8>> {
    match args.action.as_str() {
        "start" => start::start(args),
        "" => serve(args).map(|()| Vec::new()),
        // There is nothing to clean up.
        "delete" => {
            let exited_at = MessageField::some(now());
            Ok(DeleteResponse { exited_at, ..DeleteResponse::default() }.write_to_bytes()?)
        }
        "-info" => Ok(RuntimeInfo { name: "io.containerd.null.v1".into(), ..RuntimeInfo::default() }
            .write_to_bytes()?),
        other => bail!("unknown action {other:?}; a shim knows start and delete"),
    }
}

/// Serves on the socket that `start` has made this process's stdin, on one thread.
fn serve(args: &Args) -> Result<()> {
    let listener = UnixListener::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    listener.set_nonblocking(true)?;
    let socket = listener.local_addr().context("stdin is not the socket that `start` makes")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        let address =
            std::env::var("TTRPC_ADDRESS").context("TTRPC_ADDRESS, which `start` sets, is not there")?;
        let shim = Arc::new(Shim::new(Events::start(&address, &args.namespace)));
        let version_3 = create_task(shim.clone());
        // The generated name is version 3's; version 2 has the same messages.
        let version_2 = create_task(shim.clone())
            .into_values()
            .map(|service| ("containerd.task.v2.Task".into(), service));
        let mut server = Server::new()
            .register_service(version_2.collect())
            .register_service(version_3)
            .register_service(create_sandbox(shim.clone()))
            .add_listener(Listener::from(tokio::net::UnixListener::from_std(listener)?));
        server.start().await?;
        shim.ended().await;
        tokio::time::sleep(LINGER).await;
        Ok(())
    });
    if let Some(path) = socket.as_pathname() {
        let _ = std::fs::remove_file(path);
    }
    served
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: since.as_secs().cast_signed(),
        nanos: since.subsec_nanos().cast_signed(),
        ..Timestamp::default()
    }
}
