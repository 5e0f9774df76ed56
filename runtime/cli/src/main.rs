//! `wisp`: the tool that a person uses on a node.

mod compile;
mod completions;
#[cfg(test)]
mod docs;
mod doctor;
mod images;
mod inspect;
mod install;
mod installer;
mod login;
mod man;
mod node;
mod program;
mod registry;
mod run;
mod top;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

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
                      wisp run -p 127.0.0.1:9000:8080 service.wasm\n  wisp run --invoke add sums.wat 1 2\n  wisp run registry.example/app:1\n\n\
                      Exit codes: the program's own; 134 after a trap; 125 where Wisp is at fault, 126 where the program \
                      cannot be run, 127 where there is none"
    )]
    Run(Box<run::Args>),
    /// Compile programs into this node's cache, before the first pod that runs them
    #[command(after_help = "Examples:\n  wisp compile app.wasm\n  wisp compile registry.example/app:1\n  \
                      wisp compile --containerd registry.example/app:1   (what this node's containerd has pulled)")]
    Compile(compile::Args),
    /// Say what a program is, what it asks for and what it offers
    #[command(
        after_help = "Examples:\n  wisp inspect app.wasm\n  wisp inspect --json app.wasm | jq '.imports[] | select(.given | not)'\n  \
                      wisp inspect --wit - < app.wasm > app.wit\n  wisp inspect registry.example/app:1\n\n\
                      Exit codes: 1 where the file is no program"
    )]
    Inspect(inspect::Args),
    /// Show the Wasm tasks of this node and what they use
    #[command(after_help = "Examples:\n  wisp top\n  wisp top -n k8s.io --sort memory\n  \
                      wisp top --json | jq '.[] | {id, cpu_percent, memory_bytes}'\n\n\
                      Exit codes: 1 where containerd does not answer")]
    Top(top::Args),
    /// Print what a shell needs to complete the command line
    #[command(
        after_help = "Examples:\n  wisp completions bash > /usr/share/bash-completion/completions/wisp\n  \
                      wisp completions zsh > /usr/share/zsh/vendor-completions/_wisp\n  \
                      wisp completions fish > ~/.config/fish/completions/wisp.fish"
    )]
    Completions(completions::Args),
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
        after_help = "Examples:\n  wisp doctor\n  wisp doctor --json | jq '.findings[] | select(.state != \"ok\")'\n\n\
                      Exit codes: 1 where something would keep a Wasm pod from running"
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
    /// Write the manual's pages (`make dist`)
    #[command(hide = true)]
    Man {
        /// The folder to write them into
        folder: PathBuf,
    },
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
    let parsed = command_line().try_get_matches().and_then(|matches| Args::from_arg_matches(&matches));
    let args = match parsed {
        Ok(args) => args,
        Err(error) => return no_command_line(&error),
    };
    match run(args.command) {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            writeln!(io::stderr(), "wisp: {error:#}").ok();
            ExitCode::FAILURE
        }
    }
}

/// The command line; in the help of every command stand its exit codes.
fn command_line() -> clap::Command {
    Args::command().mut_subcommands(|command| {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        if help.contains("Exit codes: ") {
            return command;
        }
        command
            .after_help(format!("{help}\n\nExit codes: 1 where it failed, 2 where the command line is wrong"))
    })
}

/// Says what is wrong with a command line, or gives the help that it asks for. Of `wisp run` the exit code is docker's.
fn no_command_line(error: &clap::Error) -> ExitCode {
    // Nobody is left to tell if the output is gone.
    error.print().ok();
    let is_run = std::env::args_os().nth(1).is_some_and(|command| command == "run");
    match error.use_stderr() {
        false => ExitCode::SUCCESS,
        true if is_run => ExitCode::from(125),
        true => ExitCode::from(2),
    }
}

fn run(command: Command) -> Result<ExitCode> {
    let mut out = io::stdout().lock();
    match command {
        Command::Run(args) => {
            drop(out);
            return Ok(run::run(&args));
        }
        Command::Compile(args) => compile::run(&args, &mut out)?,
        Command::Inspect(args) => return inspect::run(&args, &mut out),
        Command::Top(args) => return top::run(&args, &mut out),
        Command::Completions(args) => completions::run(&args, &mut out)?,
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
        Command::Man { folder } => man::write(&folder)?,
        Command::InstallerImage { name, root, archive } => installer::write(&name, &root, &archive)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command_line().debug_assert();
    }

    #[test]
    fn every_command_has_examples_and_exit_codes() {
        for command in command_line().get_subcommands().filter(|command| !command.is_hide_set()) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "wisp {} has no example", command.get_name());
            assert!(help.contains("Exit codes"), "wisp {} has no exit codes", command.get_name());
        }
    }
}
