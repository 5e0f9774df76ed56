//! `wisp`: the tool that a person uses on a node.

mod inspect;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use wisp_cache::{Cache, Compiled};
use wisp_config::Config;

/// Runs WebAssembly as ordinary Kubernetes pods.
#[derive(Debug, Parser)]
#[command(name = "wisp", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compile programs into this node's cache, before the first pod that runs them
    #[command(after_help = "Example:\n  wisp compile app.wasm")]
    Compile {
        /// Wasm modules or components
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Say what a program is, what it asks for and what it offers
    #[command(
        after_help = "Examples:\n  wisp inspect app.wasm\n  wisp inspect --json app.wasm | jq .imports"
    )]
    Inspect {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// A Wasm module or component
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Args::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            writeln!(io::stderr(), "wisp: {error:#}").ok();
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    let cache = Cache::of(&Config::load()?)?;
    let mut out = io::stdout().lock();
    match command {
        Command::Compile { files } => {
            for file in files {
                let facts = program(&cache, &file)?.facts;
                let size = bytesize::ByteSize::b(facts.code_bytes);
                writeln!(out, "{}: {}, {size} compiled", file.display(), inspect::kind(facts.kind))?;
            }
        }
        Command::Inspect { json, file } => {
            let facts = program(&cache, &file)?.facts;
            let text =
                if json { serde_json::to_string_pretty(&facts)? + "\n" } else { inspect::text(&facts) };
            out.write_all(text.as_bytes())?;
        }
    }
    Ok(())
}

fn program(cache: &Cache, path: &Path) -> Result<Compiled> {
    let mut file = File::open(path).with_context(|| path.display().to_string())?;
    cache.program(&mut file).with_context(|| path.display().to_string())
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }
}
