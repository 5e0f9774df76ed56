//! `wisp-guest`: the process that a Wasm program runs in.
//!
//! `wisp-runtime` execs it as the last step of a container's sandbox, with a [`wisp_contract::plan::Plan`] at descriptor 3.
//! It loads the program, says on a pipe whether it can run, waits for the start where the plan says so, and runs it:
//!
//! 1. [`plan_in`] takes the plan; [`signals`] are caught from here on.
//! 2. [`prepare`] loads and links the program; what is wrong is reported in one sentence.
//! 3. [`control`] answers requests from a thread of its own, the start among them.
//! 4. [`seccomp`] takes away what the process needs no more.
//! 5. [`command`], [`export`] or [`http`] runs it from the start on; [`exit`] turns the end into an exit code.

mod budget;
mod command;
mod control;
mod exit;
mod export;
mod heap;
mod host;
mod http;
mod load;
mod parts;
mod plan_in;
mod prepare;
mod seccomp;
mod signals;
mod stdio;

use std::process::ExitCode;

use wisp_contract::plan::Report;
// The linker takes memcpy and its like from here.
use wisp_memory as _;

#[global_allocator]
static HEAP: heap::Heap = heap::Heap;

fn main() -> ExitCode {
    signals::catch();
    let (plan, reporter) = match plan_in::take() {
        Ok(taken) => taken,
        Err(error) => return exit::unstarted(&error),
    };
    plan_in::raise_open_files_limit();
    // From here on, what is wrong is told to whoever creates the container.
    let prepared = prepare::prepare(&plan).and_then(|work| {
        let start = control::serve(&plan, &work.budget, &work.cpus)?;
        seccomp::confine()?;
        Ok((work, start))
    });
    let report = match &prepared {
        Ok(_) => Report::Ready,
        Err(error) => Report::Failed(exit::one_line(error)),
    };
    if let Err(error) = reporter.report(&report) {
        return exit::unstarted(&error);
    }
    let Ok((work, start)) = prepared else { return ExitCode::FAILURE };
    work.run(start)
}
