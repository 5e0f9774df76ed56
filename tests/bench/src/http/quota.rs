//! Whether a service uses the processors that its quota gives it.

use std::time::Duration;

use anyhow::{Context, Result};
use wisp_tests::cri::config::SHIM;
use wisp_tests::cri::node::Node;

use super::{FEWER, Service};
use crate::figure::{Figure, Pairs};
use crate::http::load::Load;
use crate::rounds::{self, interleaved};

/// Quotas, in processors.
const KINDS: &[(&str, i64)] = &[("a quota of 1", 1), ("a quota of 2", 2)];
/// How long the handler computes.
const COMPUTES: Duration = Duration::from_millis(5);
/// How much it computes while it is found how much that is.
const TRIAL: u64 = 4_000_000;
const CONNECTIONS: usize = 8;
const TIME: Duration = Duration::from_secs(2);

/// Requests per second of a handler that computes.
///
/// # Errors
/// What did not start or answer.
pub(super) fn measure(node: &Node) -> Result<Figure> {
    let node = node.under(SHIM)?;
    let services = KINDS
        .iter()
        .map(|&(_, quota)| Service::start(node.pod(), &["/http-0.2.wasm"], "", Some(quota)))
        .collect::<Result<Vec<_>>>()?;
    let path = format!("/compute?{}", steps(&services[0])?);
    let [rates] = interleaved((rounds::count() / FEWER).max(1), KINDS.len(), |kind| {
        let load =
            Load { path: path.clone(), connections: CONNECTIONS, time: TIME, rate: None, awake: false };
        Ok([services[kind].under(load).context(KINDS[kind].0)?.per_second])
    })?;
    let names: Vec<_> = KINDS.iter().map(|&(name, _)| name).collect();
    Ok(rounds::figure(
        "requests per second of a handler that computes for 5 ms",
        "/s",
        "Eight connections. More is better.",
        &names,
        rates,
    )
    .against(&names[..1], Pairs::Rounds))
}

/// How many steps the handler computes in its time, by the quickest of some requests.
fn steps(service: &Service<'_>) -> Result<u64> {
    let path = format!("/compute?{TRIAL}");
    let trial = Load { path, connections: 1, time: Duration::from_millis(500), rate: None, awake: false };
    let quickest = service.under(trial)?.latencies.into_iter().fold(f64::INFINITY, f64::min);
    Ok((TRIAL as f64 * COMPUTES.as_secs_f64() * 1e6 / quickest) as u64)
}
