//! From StartContainer to the first byte of an answer over HTTP.

use std::time::Instant;

use anyhow::{Context, Result};
use wisp_tests::cri::config::SHIM;
use wisp_tests::cri::node::Node;

use super::milliseconds;
use crate::client::Client;
use crate::figure::{FLOOR, Figure};
use crate::rounds::{self, interleaved};

/// What is compared: a handler and a service. The null shim has none, and only its StartContainer is measured.
const KINDS: &[(&str, &str, &str)] = &[
    ("null", FLOOR, "/native"),
    ("wisp, Rust service", SHIM, "/http-0.2.wasm"),
    ("wisp, JavaScript service", SHIM, "/http-js.wasm"),
];
/// How long StartContainer takes, and how much later the first byte comes than the null shim's answer to StartContainer.
///
/// # Errors
/// What CRI said, or where a service does not answer.
pub(crate) fn measure(node: &Node) -> Result<[Figure; 2]> {
    let nodes = KINDS.iter().map(|&(_, handler, _)| node.under(handler)).collect::<Result<Vec<_>>>()?;
    let [started, answered] = interleaved(rounds::count(), KINDS.len(), |kind| {
        let (name, handler, program) = KINDS[kind];
        once(&nodes[kind], program, handler != FLOOR).with_context(|| name.to_owned())
    })?;
    let names: Vec<_> = KINDS.iter().map(|&(name, ..)| name).collect();
    let above: Vec<Vec<f64>> = answered
        .iter()
        .map(|times| times.iter().zip(&started[0]).map(|(answered, null)| answered - null).collect())
        .collect();
    Ok([
        rounds::figure(
            "StartContainer",
            "ms",
            "The call alone, after CreateContainer. Compiled code is cached.",
            &names,
            started,
        ),
        rounds::figure(
            "from StartContainer to the first byte over HTTP, above the null shim's StartContainer",
            "ms",
            "A client in the pod's network connects as soon as StartContainer is answered. What the null shim's StartContainer took in \
             the same round is taken away.",
            &names[1..],
            above[1..].to_vec(),
        ),
    ])
}

/// How long StartContainer took, and how long it was until the first byte came; the same where nothing is served.
fn once(node: &Node, program: &str, serves: bool) -> Result<[f64; 2]> {
    let pod = node.pod().run()?;
    let container = pod.container(&[program]).create()?;
    let client = if serves { Some(Client::ready(pod.pid()?)?) } else { None };
    let start = Instant::now();
    container.start()?;
    let started = start.elapsed();
    let answered = match client {
        Some(client) => client.first_byte()?.duration_since(start),
        None => started,
    };
    Ok([started, answered].map(milliseconds))
}
