//! The floor of a fresh instance for each request.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use wisp_tests::bed::LIMIT;
use wisp_tests::{process, site};

use crate::bed;
use crate::figure::{Figure, Pairs};
use crate::rounds;

/// Instances of one value: about a tenth of a second of them.
const INSTANCES: &str = "5000";

/// What it costs to make and drop an instance of the service, and nothing else.
///
/// # Errors
/// What was not compiled or did not run.
pub(super) fn measure() -> Result<Figure> {
    let folder = site::run_folder()?;
    let (code, facts) = (folder.join("instance.code"), folder.join("instance.facts"));
    // The compiler reads the program from its stdin and writes the code to descriptor 3.
    let mut compile = Command::new("sh");
    compile.args(["-c", r#"exec "$0" <"$1" 3>"$2""#]);
    compile.arg(site::binary("wisp-compiler")?).arg(site::guest("http-0.2.wasm")?).arg(&code);
    fs::write(&facts, process::run(&mut compile, LIMIT)?.success()?)?;
    let one = || -> Result<f64> {
        let mut floor = Command::new(bed::beside("instance-floor")?);
        let printed = process::run(floor.arg(&code).arg(&facts).arg(INSTANCES), LIMIT)?.success()?;
        printed.trim().parse().with_context(|| format!("a time was expected, not {printed:?}"))
    };
    let values = (0..rounds::count()).map(|_| one()).collect::<Result<_>>()?;
    Ok(Figure::new(
        "processor time of an instance alone",
        "µs",
        "Wasmtime's own API in a loop: an instance of the same component from the same pool is made and dropped, and nothing in it is called.",
        Pairs::None,
        vec![("Wasmtime".to_owned(), values)],
    ))
}
