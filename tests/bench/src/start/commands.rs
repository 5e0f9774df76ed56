//! `ctr run --rm` of a program that says hello.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow, ensure};
use wisp_tests::bed::{Bed, GUESTS};
use wisp_tests::task::{RUNC, WISP};

use super::milliseconds;
use crate::bed::NULL;
use crate::figure::Figure;
use crate::rounds::{self, interleaved};

/// What is compared: a runtime, and its build of the one source. The null shim looks at no program.
const KINDS: &[(&str, &str, &str)] = &[
    ("null", NULL, "/native"),
    ("wisp, module of WASI 0.1", WISP, "/rust-0.1.wasm"),
    ("wisp, component of WASI 0.2", WISP, "/rust-0.2.wasm"),
    ("runc", RUNC, "/native"),
];
/// How many tasks run at once, and how many in a round.
const AT_ONCE: (usize, usize) = (4, 24);
/// A round of many tasks needs less repetition than one of one.
const FEWER: usize = 3;

/// One after the other.
///
/// # Errors
/// The first that did not succeed.
pub(crate) fn one(bed: &Bed) -> Result<Figure> {
    bed.import_guests()?;
    let [times] = interleaved(rounds::count(), KINDS.len(), |kind| {
        let start = Instant::now();
        run(bed, kind)?;
        Ok([milliseconds(start.elapsed())])
    })?;
    Ok(rounds::figure(
        "ctr run --rm of hello",
        "ms",
        "From the start of ctr to its end: a container is made, runs, and is removed. Compiled code is cached.",
        &names(),
        times,
    ))
}

/// Some at once.
///
/// # Errors
/// The first that did not succeed.
pub(crate) fn at_once(bed: &Bed) -> Result<Figure> {
    let (threads, tasks) = AT_ONCE;
    let [rates] = interleaved((rounds::count() / FEWER).max(1), KINDS.len(), |kind| {
        let (next, start) = (AtomicUsize::new(0), Instant::now());
        thread::scope(|scope| {
            let work = || {
                while next.fetch_add(1, Ordering::Relaxed) < tasks {
                    run(bed, kind)?;
                }
                anyhow::Ok(())
            };
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
        })?;
        Ok([tasks as f64 / start.elapsed().as_secs_f64()])
    })?;
    Ok(rounds::figure(
        "tasks per second, 4 at a time",
        "/s",
        "The same by four threads, each of which runs ctr again as soon as it has ended. More is better.",
        &names(),
        rates,
    ))
}

fn names() -> Vec<&'static str> {
    KINDS.iter().map(|&(name, ..)| name).collect()
}

fn run(bed: &Bed, kind: usize) -> Result<()> {
    let (name, runtime, program) = KINDS[kind];
    let id = bed.id("hello");
    let said = bed.ctr(&["run", "--rm", "--runtime", runtime, GUESTS, &id, program, "hello"])?.success()?;
    ensure!(runtime == NULL || said.starts_with("hello"), "{name} said {said:?} and not hello");
    Ok(())
}
