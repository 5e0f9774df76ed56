//! How a guest ends: exit codes, and the words on the container's stderr.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Error};
use tokio::runtime::Runtime;
use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;
use wisp_contract::plan::Plan;

use crate::budget::Budget;
use crate::plan_in::own;

/// The exit code of a trap: what a shell shows for SIGABRT, as native programs end that abort.
const TRAP: u8 = 134;
/// What kubelet keeps of a termination message: the end of the file, so that more would hide the cause.
const TERMINATION_MESSAGE: usize = 4096;

/// The end of a guest that has the process to itself.
pub(crate) struct End {
    program: String,
    budget: Arc<Budget>,
    termination_log: Option<File>,
}

impl End {
    /// The end to come; made once a process, as it takes the plan's termination log.
    pub(crate) fn new(plan: &Plan, budget: &Arc<Budget>) -> anyhow::Result<Self> {
        let log = plan.termination_log.map(own).transpose().context("the plan's termination log")?;
        Ok(Self {
            program: plan.program.path.clone(),
            budget: Arc::clone(budget),
            termination_log: log.map(Into::into),
        })
    }

    /// Ends the process with the guest's own exit code, or with a trap's. What host calls still do for the guest, on `runtime`, is
    /// waited for; nothing else of the guest is taken apart before, because the kernel does that faster.
    pub(crate) fn exit(self, result: Result<(), wasmtime::Error>, runtime: Runtime) -> ! {
        let code = self.code(result);
        drop(runtime);
        std::process::exit(code.into())
    }

    /// What it means: the guest's own exit code, or a trap that is explained on stderr and in the termination log.
    fn code(self, result: Result<(), wasmtime::Error>) -> u8 {
        let Err(error) = result else { return 0 };
        if let Some(exit) = error.downcast_ref::<I32Exit>() {
            // The kernel keeps the lowest eight bits, as of any program.
            return exit.0.to_le_bytes()[0];
        }
        let words = explain(&error, &self.program, &self.budget);
        say(&words);
        if let Some(mut log) = self.termination_log {
            // What the guest has written there itself stays, before this.
            let _ = log.write_all(&words.as_bytes()[..words.floor_char_boundary(TERMINATION_MESSAGE)]);
        }
        TRAP
    }
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
