//! What every test binary does around its cases: it looks at what they left behind, and ends whatever was started, however it ends.

use std::{process, thread};

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};
use nix::sys::signal::{SigSet, Signal};

use crate::Outcome;

/// What a case has come to, for `libtest_mimic`.
pub(crate) fn judged(outcome: Outcome) -> Result<(), Failed> {
    outcome.map_err(|error| Failed::from(format!("{error:#}")))
}

/// Looks at what is left behind in a place.
pub(crate) fn leak_trial(place: &str, look: impl FnOnce() -> Outcome + Send + 'static) -> Trial {
    Trial::test(format!("{place}/nothing_is_left_behind"), move || judged(look()))
}

/// Runs cases and, when all have ended, the trials that [`leak_trial`] made; whether any failed.
pub(crate) fn run(arguments: &Arguments, cases: Vec<Trial>, leak_trials: fn() -> Vec<Trial>) -> bool {
    let conclusion = libtest_mimic::run(arguments, cases);
    let leaks = leak_trials();
    // They wait for what is tidied up late, each in a place of its own.
    let together = Arguments { test_threads: Some(leaks.len().max(1)), ..Arguments::default() };
    conclusion.has_failed() | libtest_mimic::run(&together, leaks).has_failed()
}

/// Ends the process with the exit code of `cargo test`.
pub(crate) fn exit(failed: bool) -> ! {
    process::exit(if failed { 101 } else { 0 })
}

/// Ends the process before its first case.
#[allow(clippy::print_stderr)] // it is what the person at the terminal is to read
pub(crate) fn fail(message: &str) -> ! {
    eprintln!("{message}");
    process::exit(1);
}

/// Has a person's Ctrl-C, or a CI's time-out, call `end` before the process ends.
pub(crate) fn end_on_signals(end: fn()) {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    if signals.thread_block().is_err() {
        return;
    }
    thread::spawn(move || {
        if let Ok(signal) = signals.wait() {
            end();
            process::exit(128 + signal as i32);
        }
    });
}
