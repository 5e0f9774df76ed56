//! A pod of one container, from the first call of a kubelet to the last.

use std::time::Instant;

use anyhow::Result;
use wisp_tests::cri::config::{PODSANDBOX, RUNC, SHIM};
use wisp_tests::cri::node::Node;

use super::milliseconds;
use crate::figure::{FLOOR, Figure};
use crate::rounds::{self, interleaved};

/// What is compared: a handler, and its build of the one source.
const KINDS: &[(&str, &str, &str)] = &[
    ("null", FLOOR, "/native"),
    ("wisp", SHIM, "/rust-0.2.wasm"),
    ("wisp, with a pause container", PODSANDBOX, "/rust-0.2.wasm"),
    ("runc", RUNC, "/native"),
];

/// How long a pod takes to start and to end.
///
/// # Errors
/// What CRI said.
pub(crate) fn measure(node: &Node) -> Result<[Figure; 2]> {
    let nodes = KINDS.iter().map(|&(_, handler, _)| node.under(handler)).collect::<Result<Vec<_>>>()?;
    let [up, down] = interleaved(rounds::count(), KINDS.len(), |kind| {
        let start = Instant::now();
        let pod = nodes[kind].pod().run()?;
        let container = pod.container(&[KINDS[kind].2, "sleep", "3600"]).start()?;
        let up = start.elapsed();
        drop(container);
        let start = Instant::now();
        pod.stop()?;
        pod.remove()?;
        Ok([up, start.elapsed()].map(milliseconds))
    })?;
    let names: Vec<_> = KINDS.iter().map(|&(name, ..)| name).collect();
    Ok([
        rounds::figure(
            "a pod's start",
            "ms",
            "RunPodSandbox, CreateContainer and StartContainer, in a network that the bridge plugin makes. runc has a pause container, \
             the null shim none.",
            &names,
            up,
        ),
        rounds::figure(
            "a pod's end",
            "ms",
            "StopPodSandbox of the running pod and RemovePodSandbox.",
            &names,
            down,
        ),
    ])
}
