//! `wisp`: the tool that a person uses on a node.

mod doctor;
mod images;
mod inspect;
mod install;
mod installer;
mod login;
mod node;
mod registry;
mod run;

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
    /// Run a program here and now, without containerd and without root, as it runs in a pod
    #[command(
        after_help = "Examples:\n  wisp run app.wasm --verbose\n  wisp run -v ./data:/data:ro -e LEVEL=2 -m 64m app.wasm\n  \
                      wisp run -p 9000 service.wasm\n  wisp run --invoke add sums.wat 1 2\n\n\
                      Exit codes: the program's own; 134 after a trap; 125 where Wisp is at fault, 126 where the program \
                      cannot be run, 127 where there is none"
    )]
    Run(Box<run::Args>),
    /// Compile programs into this node's cache, before the first pod that runs them
    #[command(after_help = "Example:\n  wisp compile app.wasm")]
    Compile {
        /// Wasm modules or components
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Say what a program is, what it asks for and what it offers
    #[command(
        after_help = "Examples:\n  wisp inspect app.wasm\n  wisp inspect --json app.wasm | jq '.imports[] | select(.given | not)'\n  \
                      wisp inspect --wit - < app.wasm > app.wit\n\n\
                      Exit codes: 1 where the file is no program"
    )]
    Inspect(inspect::Args),
    /// Write the WIT of the component on standard input (`wisp inspect` runs it)
    #[command(hide = true)]
    WitOfStdin,
    #[command(flatten)]
    Images(images::Command),
    #[command(flatten)]
    Registry(registry::Command),
    /// Put Wisp on this node: its programs, and containerd's handler for pods; or take all of it back
    #[command(
        after_help = "Examples:\n  wisp install\n  wisp install --uninstall\n  wisp install --root /proc/1/root --label-node --stay   (in a DaemonSet's pod)"
    )]
    Install(install::Args),
    /// Say what on this node would keep a Wasm pod from running, and the cure; exits 1 where something would
    #[command(
        after_help = "Examples:\n  wisp doctor\n  wisp doctor --json | jq '.findings[] | select(.state != \"ok\")'"
    )]
    Doctor(doctor::Args),
    /// Log in to a registry; the login is kept where docker keeps it
    #[command(
        after_help = "Examples:\n  wisp login registry.example\n  pass show registry | wisp login -u ada --password-stdin registry.example"
    )]
    Login(login::LoginArgs),
    /// Forget the login to a registry
    #[command(after_help = "Example:\n  wisp logout registry.example")]
    Logout(login::LogoutArgs),
    /// Write the container image of the installer (`make installer-image`)
    #[command(hide = true)]
    InstallerImage {
        /// The image's name, with a tag
        #[arg(long)]
        name: String,
        /// What is in it, from its root
        root: PathBuf,
        /// An OCI archive to write
        archive: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Args::parse().command) {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            writeln!(io::stderr(), "wisp: {error:#}").ok();
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    let mut out = io::stdout().lock();
    match command {
        Command::Run(args) => {
            drop(out);
            return Ok(run::run(&args));
        }
        Command::Compile { files } => {
            let cache = cache()?;
            for file in files {
                let facts = program(&cache, &file)?.facts;
                let size = bytesize::ByteSize::b(facts.code_bytes);
                writeln!(out, "{}: {}, {size} compiled", file.display(), inspect::kind(facts.kind))?;
            }
        }
        Command::Inspect(args) => return inspect::run(&args, &mut out),
        Command::WitOfStdin => inspect::print_wit(&mut io::stdin().lock(), &mut out)?,
        Command::Images(command) => images::run(command, &mut out)?,
        Command::Registry(command) => registry::run(command, &mut out)?,
        Command::Install(args) => install::run(&args, &mut out)?,
        Command::Doctor(args) => {
            if !doctor::run(&args, &mut out)? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Login(args) => login::login(args, &mut out)?,
        Command::Logout(args) => login::logout(&args, &mut out)?,
        Command::InstallerImage { name, root, archive } => installer::write(&name, &root, &archive)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn cache() -> Result<Cache> {
    Ok(Cache::of(&Config::load()?)?)
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
