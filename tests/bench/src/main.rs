//! `wisp-bench [SUBJECT…]`: Wisp's figures, side by side with runc and with a shim that runs nothing, in one run on one machine.
//! `docs/performance.md` says what they mean; `make bench` runs it.

mod bed;
mod figure;
mod machine;
mod memory;
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

use crate::figure::Figure;
use crate::machine::Watch;
use crate::results::{Results, Taken};

/// What can be measured, each by one `make bench-SUBJECT`.
const SUBJECTS: &[Subject] = &[("start", start::measure), ("memory", memory::measure)];

fn main() -> ExitCode {
    let wanted: Vec<_> = std::env::args().skip(1).collect();
    let done = chosen(&wanted).and_then(|subjects| suite::swept(|| run(&subjects))?);
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
        bail!("there is no subject {unknown:?}; there are {}", known.join(" and "));
    }
    Ok(SUBJECTS
        .iter()
        .copied()
        .filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|w| w == name))
        .collect())
}

/// Measures one subject after the other; what was measured is kept even where a later one fails.
fn run(subjects: &[Subject]) -> Result<()> {
    let mut results = Results::read()?;
    for &(name, measure) in subjects {
        let watch = Watch::start()?;
        let figures = measure().with_context(|| format!("measuring {name}"));
        end_own();
        let figures = figures?;
        let taken = Taken::now(watch.end()?, figures);
        table::print(name, &taken, results.last(name));
        results.put(name, taken);
        results.write()?;
    }
    report::write(&results)?;
    table::say(&format!("\n{}\n{}", results::path().display(), report::path().display()));
    Ok(())
}
