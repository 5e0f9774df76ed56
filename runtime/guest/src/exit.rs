//! How a guest ends: exit codes, and the words on the container's stderr.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Error;
use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::budget::Budget;

/// The exit code of a trap: what a shell shows for SIGABRT, as native programs end that abort.
const TRAP: u8 = 134;

/// What a guest's end means: its own exit code, or a trap that is explained on stderr.
pub(crate) fn code_of(result: Result<(), wasmtime::Error>, program: &str, budget: &Budget) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        // The kernel keeps the lowest eight bits, as of any program.
        return ExitCode::from(exit.0.to_le_bytes()[0]);
    }
    say(&explain(&error, program, budget));
    ExitCode::from(TRAP)
}

/// A trap in words: the program, the cause, the memory limit if it played a part, and the Wasm backtrace.
pub(crate) fn explain(error: &wasmtime::Error, program: &str, budget: &Budget) -> String {
    let mut text = format!("{program}: {}", cause(error));
    if let Some(refused) = budget.refused() {
        let _ = write!(text, "\nbefore that, {refused}");
    }
    if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() {
        let _ = write!(text, "\n{backtrace}");
    }
    text
}

/// Why a guest ended, in one line.
fn cause(error: &wasmtime::Error) -> String {
    if let Some(trap) = error.downcast_ref::<Trap>() {
        return trap.to_string();
    }
    let causes = error.chain().skip(usize::from(error.downcast_ref::<WasmBacktrace>().is_some()));
    let text = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
    format!("wasm trap: {text}")
}

/// An error and its causes as one sentence in one line.
pub(crate) fn one_line(error: &Error) -> String {
    format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The end of a process that has no way left to report but stderr.
pub(crate) fn unstarted(error: &Error) -> ExitCode {
    say(&format!("wisp-guest: {}", one_line(error)));
    ExitCode::FAILURE
}

/// Writes to the container's stderr; where nobody reads it, there is nobody to tell.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
