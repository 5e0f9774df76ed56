//! The commands, one file each.

mod create;
mod delete;
mod events;
mod exec;
mod features;
mod kill;
mod list;
mod pause;
mod ps;
mod run;
mod spec;
mod start;
mod state;
mod update;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use rustix::process::{Pid, WaitOptions, waitpid};

use crate::args::{Command, Global};

/// Runs one command.
///
/// # Errors
/// With one sentence for a person.
pub fn run(global: &Global, command: Command) -> Result<ExitCode> {
    let root = global.root.as_path();
    match command {
        Command::Create(args) => create::run(root, &args).map(drop)?,
        Command::Start(args) => start::run(root, &args.id)?,
        Command::Run(args) => return run::run(root, &args),
        Command::State(args) => state::run(root, &args.id)?,
        Command::Kill(args) => kill::run(root, &args)?,
        Command::Delete(args) => delete::run(root, &args)?,
        Command::Exec(args) => return exec::run(root, &args),
        Command::Ps(args) => ps::run(root, &args)?,
        Command::Pause(args) => pause::pause(root, &args.id)?,
        Command::Resume(args) => pause::resume(root, &args.id)?,
        Command::Update(args) => update::run(root, &args)?,
        Command::Events(args) => events::run(root, &args)?,
        Command::Features => features::run()?,
        Command::List(args) => list::run(root, &args)?,
        Command::Spec(args) => spec::run(&args)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints to stdout; that nobody reads it any more is no error of ours.
fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        done => done.context("stdout"),
    }
}

/// Writes the pid file that the flags ask for: whole, because whoever waits for it reads it at once.
fn write_pid_file(path: Option<&Path>, pid: i32) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let name = path.file_name().context("the pid file has no name")?;
    let temporary = path.with_file_name(format!(".{}", name.to_string_lossy()));
    fs::write(&temporary, pid.to_string())
        .and_then(|()| fs::rename(&temporary, path))
        .with_context(|| format!("the pid file {}", path.display()))
}

/// Waits for a child and gives its exit code as a shell would: 128 and the signal's number for one that was killed.
fn wait(pid: i32) -> Result<ExitCode> {
    let pid = Pid::from_raw(pid).context("no process to wait for")?;
    loop {
        match waitpid(Some(pid), WaitOptions::empty()) {
            Ok(Some((_, status))) => {
                let code =
                    status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal));
                return Ok(ExitCode::from(u8::try_from(code.unwrap_or(255)).unwrap_or(255)));
            }
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
