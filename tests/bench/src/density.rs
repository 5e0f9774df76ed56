//! How many pods run at once on this machine, and what each adds.

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use wisp_tests::bed::{LIMIT, eventually};
use wisp_tests::cri::config::SHIM;
use wisp_tests::cri::pod::Pod;

use crate::bed;
use crate::figure::{Figure, Pairs};
use crate::processes::{self, Memory};

/// How many pods are made, unless `WISP_BENCH_PODS` says otherwise. The network's bridge has 1,023 ports.
const PODS: usize = 500;
/// How long they are left alone before the machine's memory is looked at.
const IDLE: Duration = Duration::from_secs(5);

/// Makes the pods one after the other, each with a service that answers; then asks all of them again.
///
/// # Errors
/// The first pod that does not start or answer, and how many there were before it.
pub(crate) fn measure() -> Result<Vec<Figure>> {
    let wanted = std::env::var("WISP_BENCH_PODS").ok().and_then(|pods| pods.parse().ok()).unwrap_or(PODS);
    let node = bed::start()?.under(SHIM)?;
    // What the first pod makes for all of them is not counted.
    let first = node.pod().run()?;
    first.container(&["/http-0.2.wasm"]).start()?;
    let (before, start) = (available()?, Instant::now());
    let mut pods: Vec<(Pod<'_>, BTreeSet<i32>)> = Vec::new();
    while pods.len() < wanted {
        let add = || {
            let pod = node.pod().run()?;
            let container = pod.container(&["/http-0.2.wasm"]).start()?;
            let processes = processes::of(&container)?;
            // It is started; that it listens comes a moment later.
            let pid = pod.pid()?;
            eventually("an answer", LIMIT, || Ok(processes::ask(pid).ok()))?;
            anyhow::Ok((pod, processes))
        };
        pods.push(add().with_context(|| format!("after {} pods", pods.len()))?);
    }
    let took = start.elapsed();
    thread::sleep(IDLE);
    let added = (before - available()?) / wanted as f64;
    let (mut answered, mut shares) = (0, Vec::new());
    for (pod, pids) in &pods {
        answered += usize::from(processes::ask(pod.pid()?).is_ok());
        shares.push(share(pids)?);
    }
    Ok(figures(answered, added, shares, wanted as f64 / took.as_secs_f64()))
}

fn figures(answered: usize, added: f64, shares: Vec<f64>, rate: f64) -> Vec<Figure> {
    let figure = |name, unit, note, values| {
        Figure::new(name, unit, note, Pairs::None, vec![("wisp, Rust service".to_owned(), values)])
    };
    vec![
        figure(
            "pods at once, all answering",
            "",
            "Services in networks of their own, under one containerd; as many as were asked for. More is better.",
            vec![answered as f64],
        ),
        figure(
            "PSS of each of them",
            "MiB",
            "Of its shim and its guest, after each has answered twice.",
            shares,
        ),
        figure(
            "memory of the machine that each takes",
            "MiB",
            "By MemAvailable: with what the kernel keeps for its processes and network, and containerd for its containers.",
            vec![added],
        ),
        figure(
            "pods started per second, one at a time",
            "/s",
            "With the first answer of each. More is better.",
            vec![rate],
        ),
    ]
}

/// What processes hold together, in MiB.
fn share(pids: &BTreeSet<i32>) -> Result<f64> {
    pids.iter().map(|&pid| Ok(Memory::of(pid)?.share)).sum()
}

/// The memory that the kernel could still give, in MiB.
fn available() -> Result<f64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB"));
    Ok(line.context("no MemAvailable in /proc/meminfo")?.parse::<f64>()? / 1024.0)
}
