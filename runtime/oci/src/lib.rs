//! An OCI runtime for WebAssembly, with runc's commands, flags, state and messages.
//!
//! One process a command, single-threaded to the end, so that it may fork. `create` finds the program that the
//! entrypoint names ([`entrypoint`]), gets its compiled code from the node's cache ([`program`]), and makes the
//! container's first process ([`sandbox`]), which ends in one exec of `wisp-guest` and waits there for `start`.
//!
//! No compiler and no registry client is linked in.

pub mod args;
pub mod bundle;
pub mod commands;
pub mod entrypoint;
pub mod hooks;
pub mod logging;
pub mod process;
pub mod program;
pub mod sandbox;
pub mod state;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

/// The exit code of a command that failed, as runc's.
const FAILED: u8 = 1;

/// Runs one command with the arguments of a process.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match args::Args::try_parse_from(arguments) {
        Ok(args) => args,
        Err(error) => error.exit(),
    };
    carry_out(&args.global, args.command).unwrap_or_else(|error| {
        // One line with the whole chain. Who asks for JSON reads the last error of the log and shows it; for a person who
        // sent the log to a file it is on stderr too. (The stderr of `create` is the container's.)
        tracing::error!("{error:#}");
        if args.global.log.is_some() && args.global.log_format == args::LogFormat::Text {
            writeln!(std::io::stderr(), "{error:#}").ok();
        }
        ExitCode::from(FAILED)
    })
}

fn carry_out(global: &args::Global, command: args::Command) -> anyhow::Result<ExitCode> {
    logging::start(global)?;
    if let Some(parent) = global.die_with_parent {
        process::die_with_parent(parent)?;
    }
    commands::run(global, command)
}
