//! The first start ever of a program, beside the compile of it alone.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use wisp_tests::bed::LIMIT;
use wisp_tests::cri::node::Node;
use wisp_tests::{process, site};

use super::Uncached;
use crate::client::Client;
use crate::figure::{Figure, Pairs};
use crate::rounds::{self, interleaved};

/// What is started: a program of the guests' image, and whether it serves.
const PROGRAMS: &[(&str, &str, bool)] =
    &[("a Go module of 2.4 MB", "go.wasm", false), ("a JavaScript service of 12 MB", "http-js.wasm", true)];
const COMPILE: &str = "wasmtime compile";
const KINDS: &[&str] = &[COMPILE, "wisp"];
/// A round of seconds needs less repetition than one of milliseconds.
const FEWER: usize = 5;
/// How often a log is looked at: nothing tells that its first byte has come.
const PAUSE: Duration = Duration::from_micros(200);

/// How long each takes to its first byte.
///
/// # Errors
/// What did not start.
pub(super) fn measure(uncached: &Uncached) -> Result<Vec<Figure>> {
    PROGRAMS.iter().map(|program| one(uncached, program)).collect()
}

fn one(uncached: &Uncached, &(what, file, serves): &(&str, &str, bool)) -> Result<Figure> {
    let [times] = interleaved((rounds::count() / FEWER).max(1), KINDS.len(), |kind| {
        if KINDS[kind] == COMPILE {
            return Ok([compile(file, serves)?.as_secs_f64()]);
        }
        uncached.forget()?;
        Ok([first_byte(&uncached.node, file, serves).with_context(|| what.to_owned())?.as_secs_f64()])
    })?;
    let figure = rounds::figure(
        &format!("the first start ever of {what}"),
        "s",
        "From CreateContainer to the first byte: of the output, or of an answer over HTTP. wasmtime compile is the same compile alone, \
         on all processors, with the checks that a service's code has.",
        KINDS,
        times,
    );
    Ok(figure.against(&[COMPILE], Pairs::Rounds))
}

fn compile(file: &str, serves: bool) -> Result<Duration> {
    let code = site::run_folder()?.join("compiled");
    let mut command = Command::new(site::wasmtime()?);
    command.arg("compile").arg("-o").arg(&code);
    if serves {
        // What one request can be ended by: more code, whoever compiles it.
        command.arg("-Wepoch-interruption=y");
    }
    command.arg(site::guest(file)?);
    let start = Instant::now();
    process::run(&mut command, LIMIT)?.success()?;
    Ok(start.elapsed())
}

fn first_byte(node: &Node, file: &str, serves: bool) -> Result<Duration> {
    let pod = node.pod().run()?;
    let client = if serves { Some(Client::ready(pod.pid()?)?) } else { None };
    let start = Instant::now();
    let container = pod.container(&[&format!("/{file}")]).start()?;
    if let Some(client) = client {
        return Ok(client.first_byte()?.duration_since(start));
    }
    while fs::metadata(container.log()).map_or(0, |log| log.len()) == 0 {
        ensure!(start.elapsed() < LIMIT, "no output in {LIMIT:?}");
        thread::sleep(PAUSE);
    }
    Ok(start.elapsed())
}
