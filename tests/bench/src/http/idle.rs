//! What a service does while nobody asks for it.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use wisp_tests::cri::node::Node;

use super::{KINDS, Service};
use crate::figure::{Figure, Pairs};
use crate::processes;

/// How long the services are left alone before they are looked at: threads that nobody needs end after ten seconds. And while they are.
const SETTLE: Duration = Duration::from_secs(15);
const IDLE: Duration = Duration::from_secs(60);

/// How often the threads of a pod wake up in a minute.
///
/// # Errors
/// What did not start or answer.
pub(super) fn measure(node: &Node) -> Result<Figure> {
    let nodes = KINDS.iter().map(|kind| node.under(kind.handler)).collect::<Result<Vec<_>>>()?;
    let services = KINDS
        .iter()
        .zip(&nodes)
        .map(|(kind, node)| Service::start(kind.pod(node), kind.args, "", None))
        .collect::<Result<Vec<_>>>()?;
    thread::sleep(SETTLE);
    let slept = || services.iter().map(|service| processes::sleeps(&service.processes)).collect();
    let before: Vec<u64> = slept()?;
    thread::sleep(IDLE);
    let after: Result<Vec<u64>> = slept();
    let woken =
        after?.into_iter().zip(before).map(|(after, before)| vec![after.saturating_sub(before) as f64]);
    let series = KINDS.iter().map(|kind| kind.name.to_owned()).zip(woken).collect();
    Ok(Figure::new(
        "wake-ups of an idle pod in a minute",
        "",
        "Of all threads of its processes, by how often they went to sleep; the service has answered one request. containerd's own \
         questions for a pod's figures, two each second, are turned off here; each wakes a shim, and nothing else of a pod.",
        Pairs::None,
        series,
    ))
}
