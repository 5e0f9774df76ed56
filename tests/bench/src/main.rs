//! `wisp-bench [--check] [SUBJECT…]`: Wisp's figures, side by side with what one would pick instead and with the least that is
//! possible, in one run on one machine; with `--check` they are compared with what is promised. `docs/performance.md` says what they
//! mean; `make bench` and `make bench-check` run it.

mod bed;
mod check;
mod client;
mod density;
mod figure;
mod first;
mod guest;
mod http;
mod machine;
mod memory;
mod processes;
mod registry;
mod report;
mod results;
mod rounds;
mod start;
mod stats;
mod table;

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use wisp_tests::{bed::end_own, suite};

use crate::check::Promises;
use crate::figure::Figure;
use crate::machine::Watch;
use crate::results::{Results, Taken};

/// What can be measured, each by one `make bench-SUBJECT`.
const SUBJECTS: &[Subject] = &[
    ("start", start::measure),
    ("memory", memory::measure),
    ("http", http::measure),
    ("first", first::measure),
    ("guest", guest::measure),
    ("density", density::measure),
    ("registry", registry::measure),
];
/// The argument that compares with what is promised.
const CHECK: &str = "--check";

fn main() -> ExitCode {
    let (check, wanted): (Vec<_>, Vec<_>) = std::env::args().skip(1).partition(|arg| arg == CHECK);
    let done = chosen(&wanted).and_then(|subjects| suite::swept(|| run(&subjects, !check.is_empty()))?);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "wisp-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

type Subject = (&'static str, fn() -> Result<Vec<Figure>>);

fn chosen(wanted: &[String]) -> Result<Vec<Subject>> {
    if let Some(unknown) = wanted.iter().find(|&name| !SUBJECTS.iter().any(|(known, _)| known == name)) {
        let known: Vec<_> = SUBJECTS.iter().map(|&(name, _)| name).collect();
        bail!("there is no subject {unknown:?}; there are {}", known.join(", "));
    }
    Ok(SUBJECTS
        .iter()
        .copied()
        .filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|w| w == name))
        .collect())
}

/// Measures one subject after the other; what was measured is kept even where a later one fails.
fn run(subjects: &[Subject], check: bool) -> Result<()> {
    let (mut results, promises) = (Results::read()?, Promises::read()?);
    let mut taken_now = Vec::new();
    for &(name, measure) in subjects {
        let watch = Watch::start()?;
        let figures = measure().with_context(|| format!("measuring {name}"));
        end_own();
        let figures = figures?;
        let taken = Taken::now(watch.end()?, figures);
        table::print(name, &taken, results.last(name));
        results.put(name, taken.clone());
        results.write()?;
        report::write(&results)?;
        taken_now.push((name, taken));
    }
    table::say(&format!("\n{}\n{}", results::path().display(), report::path().display()));
    if check { promises.require(&taken_now) } else { Ok(()) }
}
