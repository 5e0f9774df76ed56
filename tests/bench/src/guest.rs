//! How fast guests compute, beside `wasmtime run`.

use anyhow::{Context, Result};
use serde_json::json;
use wisp_tests::bed::{Bed, LIMIT, eventually};
use wisp_tests::cri::config::SHIM;
use wisp_tests::image::Image;
use wisp_tests::task::{RUNC, WISP};
use wisp_tests::{net, site};

use crate::bed;
use crate::figure::{Figure, Pairs};
use crate::rounds::{self, interleaved};

/// The programs of `guest/src/lib.rs`, and what each does.
const PROGRAMS: [(&str, &str); 5] = [
    ("core", "A linked list, matrices, a state machine and a checksum over them, as in CoreMark."),
    ("database", "A database in memory: rows are put into its tree, looked up, gone through and removed."),
    ("json", "A document is written and read."),
    ("regex", "Four patterns are looked for in a text."),
    ("sha256", "A digest of 16 MiB."),
];
const WASMTIME: &str = "wasmtime run";
const KINDS: &[&str] = &[WASMTIME, "wisp, a command", "wisp, a service"];
const IMAGE: &str = "wisp.test/bench-guest:1";
/// A round of seconds needs less repetition than one of milliseconds.
const FEWER: usize = 5;

/// The time of each program, by the guest's own clock: without start and compile.
///
/// # Errors
/// What did not run.
pub(crate) fn measure() -> Result<Vec<Figure>> {
    let node = bed::start()?.under(SHIM)?;
    node.import(&image()?)?;
    let pod = node.pod().run()?;
    pod.container(&["/speed-service.wasm"]).image(IMAGE).start()?;
    let service = pod.pid()?;
    eventually("the service answers", LIMIT, || Ok(net::get(service, "/hello").ok()))?;
    let times = interleaved((rounds::count() / FEWER).max(1), KINDS.len(), |kind| match kind {
        0 => command(&node.bed, RUNC, &["/wasmtime", "run", "/speed.wasm"]),
        1 => command(&node.bed, WISP, &["/speed.wasm"]),
        _ => {
            let said: Result<Vec<_>> =
                PROGRAMS.iter().map(|(name, _)| net::get(service, &format!("/run?{name}"))).collect();
            milliseconds(&said?.concat())
        }
    })?;
    let figure = |((name, note), times): (&(&str, &str), _)| {
        let note = format!(
            "{note} A service checks at each loop and call whether its time is over, which a command does not."
        );
        rounds::figure(&format!("a guest's own speed: {name}"), "ms", &note, KINDS, times)
            .against(&[WASMTIME], Pairs::Rounds)
    };
    Ok(PROGRAMS.iter().zip(times).map(figure).collect())
}

fn image() -> Result<Image> {
    Ok(Image::new(IMAGE)
        .config("Entrypoint", json!(["/speed.wasm"]))
        .file_of("/speed.wasm", site::guest("speed.wasm")?)
        .file_of("/speed-service.wasm", site::guest("speed-service.wasm")?)
        .file_of("/wasmtime", site::wasmtime()?))
}

fn command(bed: &Bed, runtime: &str, args: &[&str]) -> Result<[f64; PROGRAMS.len()]> {
    let id = bed.id("speed");
    let run = [&["run", "--rm", "--runtime", runtime, IMAGE, id.as_str()], args].concat();
    milliseconds(&bed.ctr(&run)?.success()?)
}

/// From lines of a name, milliseconds and a checksum.
fn milliseconds(said: &str) -> Result<[f64; PROGRAMS.len()]> {
    let mut times = [0.0; PROGRAMS.len()];
    for ((name, _), time) in PROGRAMS.iter().zip(&mut times) {
        let line = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = line.and_then(|line| line.split(' ').next()?.parse().ok());
        *time = value.with_context(|| format!("nothing about {name} in {said:?}"))?;
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_by_the_names_of_programs() {
        let said = "core 1.5 ab\nregex 4 0\njson 3.25 9\ndatabase 2 1\nsha256 5 ff\n";
        assert_eq!(milliseconds(said).unwrap(), [1.5, 2.0, 3.25, 4.0, 5.0]);
        assert!(milliseconds("core 1.5 ab\n").is_err());
    }
}
