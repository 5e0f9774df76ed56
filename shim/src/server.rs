//! The shim itself: a daemon that serves containerd on the socket that `start` has made, on one thread. Its other thread
//! holds the pod's namespaces.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use containerd_shim_protos::sandbox_async::create_sandbox;
use containerd_shim_protos::shim_async::create_task;
use containerd_shim_protos::ttrpc::asynchronous::{Server, Service};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, getpid, set_child_subreaper, setsid};
use rustix::stdio::{dup2_stderr, dup2_stdin};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{debug, warn};

use crate::args::Args;
use crate::connections::Connections;
use crate::logging;
use crate::publisher::Publisher;
use crate::reaper::Reaper;
use crate::sandbox::{Leader, lead};
use crate::service::{SandboxService, TaskService};
use crate::task::Tasks;

/// How long the last events and answers may take to reach containerd.
const FLUSH: Duration = Duration::from_secs(5);

/// Serves until the last task is gone and containerd asks for the end.
///
/// # Errors
/// The process was not started by `start`, or the system refuses something that a shim cannot do without.
pub(crate) fn serve(args: &Args) -> anyhow::Result<()> {
    let listener = inherited_listener()?;
    connect_log();
    logging::init(args.debug);
    detach()?;
    let args = args.clone();
    lead(move |leader| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let result = runtime.block_on(run(&args, listener, leader));
        // What still runs belongs to clients that are gone.
        runtime.shutdown_background();
        result
    })?
}

/// `start` has made the socket the stdin of this process.
fn inherited_listener() -> anyhow::Result<UnixListener> {
    let what = "stdin is not a listening socket; this command is run by `containerd-shim-wisp-v1 start`";
    let stdin = io::stdin().as_fd().try_clone_to_owned().context(what)?;
    if !rustix::net::sockopt::socket_acceptconn(&stdin).unwrap_or(false) {
        anyhow::bail!(what);
    }
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    dup2_stdin(&null)?;
    let listener = UnixListener::from(stdin);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Connects stderr to the bundle's log. Opened for reading too, so that a log that nobody reads neither blocks nor fails.
fn connect_log() {
    if let Ok(log) = open("log", OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()) {
        let _ = dup2_stderr(&log);
    }
}

/// Makes this process independent of the one that started it, and the parent of the containers' processes.
fn detach() -> anyhow::Result<()> {
    if let Err(error) = setsid() {
        debug!(%error, "the shim is a session's leader already");
    }
    set_child_subreaper(Some(getpid())).context("becoming the parent of orphaned processes")?;
    // The bundle that it was started in is one task's, and may go while others run.
    rustix::process::chdir("/")?;
    if let Err(error) = raise_oom_score() {
        warn!(%error, "the shim's oom_score_adj was not set");
    }
    Ok(())
}

/// One above containerd's own, which the shim has inherited, so that containerd is killed last.
fn raise_oom_score() -> io::Result<()> {
    const FILE: &str = "/proc/self/oom_score_adj";
    let inherited: i32 = fs::read_to_string(FILE)?.trim().parse().map_err(io::Error::other)?;
    fs::write(FILE, (inherited + 1).min(1000).to_string())
}

async fn run(args: &Args, listener: UnixListener, leader: Leader) -> anyhow::Result<()> {
    let socket = listener.local_addr()?.as_pathname().map(Path::to_owned);
    let ttrpc_address = std::env::var("TTRPC_ADDRESS").unwrap_or_default();
    let reaper = Reaper::start()?;
    let publisher = Publisher::start(&ttrpc_address, &args.namespace);
    let tasks = Tasks::new(args, reaper, publisher.clone());
    let mut server = services(&tasks, leader).into_iter().fold(Server::new(), Server::register_service);
    let connections = Connections::default();
    server = server.add_listener(connections.listen(tokio::net::UnixListener::from_std(listener)?));
    server.start().await?;
    debug!(id = args.id, pid = Pid::as_raw(Some(getpid())), "the shim serves");

    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let asked = tokio::select! {
        () = tasks.life().ended() => true,
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
    };
    debug!(id = args.id, "the shim ends");
    remove(socket);
    publisher.flush(FLUSH).await;
    if asked && tokio::time::timeout(FLUSH, connections.closed()).await.is_err() {
        debug!("a client has kept its connection");
    }
    // Answers that are on their way are sent before the connections are closed.
    if tokio::time::timeout(FLUSH, server.shutdown()).await.is_err() {
        warn!("a client did not take its last answer in time");
    }
    Ok(())
}

/// Everything that is served on the socket. Services of other kinds are added here.
fn services(tasks: &Arc<Tasks>, leader: Leader) -> Vec<HashMap<String, Service>> {
    let service = || create_task(Arc::new(TaskService(tasks.clone())));
    // The generated name is version 3's; version 2 has the same messages.
    let version_2 =
        service().into_values().map(|service| ("containerd.task.v2.Task".to_owned(), service)).collect();
    let sandbox = create_sandbox(Arc::new(SandboxService::new(tasks.clone(), leader)));
    vec![service(), version_2, sandbox]
}

fn remove(socket: Option<PathBuf>) {
    if let Some(path) = socket
        && let Err(error) = fs::remove_file(&path)
        && error.kind() != io::ErrorKind::NotFound
    {
        warn!(%error, path = %path.display(), "the shim's socket was not removed");
    }
}
