//! `wisp-artifact`: asks containerd which Wasm layers a container's image has, and writes them into the container's bundle.
//!
//! The shim runs it where a container's root file system has no such entrypoint: a program of its own, so that the shim,
//! of which there is one a pod, needs no gRPC. It exits 0 whether there are Wasm layers or not, or 1 with one sentence on
//! stderr.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use wisp_artifact::containerd::Containerd;

/// The longest that containerd may take for all answers.
const LIMIT: Duration = Duration::from_secs(30);

/// Writes the Wasm layers of a container's image into the container's bundle.
#[derive(Debug, Parser)]
#[command(name = "wisp-artifact", version)]
struct Args {
    /// containerd's gRPC socket.
    #[arg(long)]
    address: PathBuf,
    /// The containerd namespace.
    #[arg(long)]
    namespace: String,
    /// The container's bundle.
    #[arg(long)]
    bundle: PathBuf,
    /// The container.
    id: String,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell if stderr is gone.
            let _ = writeln!(io::stderr(), "{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let found = runtime.block_on(async { tokio::time::timeout(LIMIT, find(args)).await });
    let Some(artifact) = found.with_context(|| format!("containerd did not answer within {LIMIT:?}"))??
    else {
        return Ok(());
    };
    artifact
        .write(&args.bundle)
        .with_context(|| format!("the bundle {} cannot be written", args.bundle.display()))
}

async fn find(args: &Args) -> Result<Option<wisp_contract::artifact::Artifact>> {
    let containerd = Containerd::connect(&args.address, &args.namespace).await;
    let containerd =
        containerd.with_context(|| format!("containerd was expected at {}", args.address.display()))?;
    Ok(wisp_artifact::find(&containerd, &args.id).await?)
}
