//! What every test binary does around its cases: it looks at what they left behind, and ends whatever was started, however it ends.

use std::sync::Mutex;
use std::time::{Duration, Instant};
use std::{process, thread};

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};
use nix::sys::signal::{SigSet, Signal};

use crate::Outcome;
use crate::bed::lock;

/// What a case has come to, for `libtest_mimic`.
pub(crate) fn judged(outcome: Outcome) -> Result<(), Failed> {
    outcome.map_err(|error| Failed::from(format!("{error:#}")))
}

/// How long each case took.
static TIMES: Mutex<Vec<(Duration, String)>> = Mutex::new(Vec::new());

/// A trial whose time is noted; one that waits for its turn first notes it itself, with [`noted`].
pub(crate) fn trial(name: String, run: impl FnOnce() -> Outcome + Send + 'static) -> Trial {
    Trial::test(name.clone(), move || judged(noted(name, run)))
}

/// Runs a case and notes how long it took.
pub(crate) fn noted(name: String, run: impl FnOnce() -> Outcome) -> Outcome {
    let start = Instant::now();
    let outcome = run();
    lock(&TIMES).push((start.elapsed(), name));
    outcome
}

/// Prints the slowest cases, which are where time can be saved.
#[allow(clippy::print_stdout)] // it is what the person at the terminal is to read
fn print_slowest() {
    let mut times = std::mem::take(&mut *lock(&TIMES));
    times.sort_unstable_by(|a, b| b.cmp(a));
    for (took, name) in times.iter().take(10) {
        println!("{:6.1} s  {name}", took.as_secs_f64());
    }
}

/// Looks at what is left behind in a place.
pub(crate) fn leak_trial(place: &str, look: impl FnOnce() -> Outcome + Send + 'static) -> Trial {
    Trial::test(format!("{place}/nothing_is_left_behind"), move || judged(look()))
}

/// Runs cases and, when all have ended, the trials that [`leak_trial`] made; whether any failed.
pub(crate) fn run(
    arguments: &Arguments,
    cases: Vec<Trial>,
    leak_trials: impl FnOnce() -> Vec<Trial>,
) -> bool {
    let conclusion = libtest_mimic::run(arguments, cases);
    let leaks = leak_trials();
    // They wait for what is tidied up late, each in a place of its own; on one thread a line would be printed in two pieces, and
    // other cases may print between them.
    let together = Arguments { test_threads: Some(leaks.len().max(2)), ..Arguments::default() };
    conclusion.has_failed() | libtest_mimic::run(&together, leaks).has_failed()
}

/// Ends the process with the exit code of `cargo test`, after a word on where its time went.
pub(crate) fn exit(failed: bool) -> ! {
    print_slowest();
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
