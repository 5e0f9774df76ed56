//! `containerd-shim-wisp-v1`: the process between containerd and the containers of one pod. See `docs/` for users and
//! containerd's `core/runtime/v2/README.md` for the protocol.

mod args;
mod artifact;
mod bootstrap;
mod bundle;
mod cgroup;
mod connections;
mod delete;
mod entrypoint;
mod error;
mod info;
mod io;
mod life;
mod logging;
mod mount;
mod oom;
mod options;
mod publisher;
mod reaper;
mod runtime;
mod sandbox;
mod server;
mod service;
mod socket;
mod spec;
mod stats;
mod task;
mod time;

use std::io::Write;
use std::process::ExitCode;

use anyhow::anyhow;
// The linker takes memcpy and its like from here.
use wisp_memory as _;

use crate::args::{Action, Args};
use crate::time::timestamp;

/// musl's own maps a page for almost each size of block, and unmaps it when the last of its blocks is freed: that is more time, and
/// more memory of an idle shim.
#[global_allocator]
static HEAP: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// The name under which containerd knows the shim.
const RUNTIME_NAME: &str = "io.containerd.wisp.v1";

fn main() -> ExitCode {
    match args::parse(std::env::args().skip(1)).map_err(|error| anyhow!(error)).and_then(|args| run(&args)) {
        Ok(answer) => match std::io::stdout().write_all(&answer) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => {
            // containerd shows what a shim prints as the reason of its failure.
            let _ = write!(std::io::stderr(), "{RUNTIME_NAME}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Does what was asked; the answer is for stdout.
fn run(args: &Args) -> anyhow::Result<Vec<u8>> {
    match args.action {
        Action::Version => Ok(info::version().into_bytes()),
        Action::Info => info::info(),
        Action::Hold => sandbox::hold().map(|()| Vec::new()),
        _ if args.namespace.is_empty() => {
            Err(anyhow!("shim namespace cannot be empty; containerd gives it as -namespace"))
        }
        Action::Start => bootstrap::start(args),
        Action::Delete => delete::delete(args),
        Action::Serve => server::serve(args).map(|()| Vec::new()),
    }
}
