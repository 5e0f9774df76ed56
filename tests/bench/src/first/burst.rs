//! Many pods of one image that this node has never seen, all at once.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use wisp_tests::cri::node::Node;
use wisp_tests::leaks::has_cgroup_v1;

use super::Uncached;
use crate::client::Client;
use crate::figure::{Figure, Pairs};

/// How many pods.
const PODS: usize = 20;
/// The largest of the guests: its compile is what they all wait for.
const PROGRAM: &str = "/http-js.wasm";
const COMPILED: &str = "the compile's end";
/// How often the cache and the compilers are looked at.
const PAUSE: Duration = Duration::from_millis(5);

/// When the compile ended, when the last pod answered, and how many compiles there were.
///
/// # Errors
/// What did not start or answer.
pub(super) fn measure(uncached: &Uncached) -> Result<[Figure; 2]> {
    uncached.forget()?;
    let nodes =
        (0..PODS).map(|_| uncached.node.under(uncached.node.handler())).collect::<Result<Vec<_>>>()?;
    let (ready, over) = (Barrier::new(PODS + 1), AtomicBool::new(false));
    let (start, answered, compiles) = thread::scope(|scope| {
        let (ready, over, cache) = (&ready, &over, &uncached.cache);
        let pods: Vec<_> = nodes.into_iter().map(|node| scope.spawn(move || one(&node, ready))).collect();
        ready.wait();
        let start = Instant::now();
        let watch = scope.spawn(move || watch(cache, start, over));
        ready.wait();
        over.store(true, Ordering::Relaxed);
        let answered: Vec<_> = pods.into_iter().map(thread::ScopedJoinHandle::join).collect();
        (start, answered, watch.join())
    });
    let panicked = |_| anyhow!("a thread of the bench panicked");
    let compiles = compiles.map_err(panicked)??;
    let mut times = Vec::new();
    for at in answered {
        times.push(at.map_err(panicked)??.duration_since(start).as_secs_f64());
    }
    let last = times.iter().copied().fold(0.0, f64::max);
    let ended = compiles.ended.context("nothing was compiled")?.as_secs_f64();
    let series = |name: &str, value| (name.to_owned(), vec![value]);
    Ok([
        Figure::new(
            "20 pods at once of an image that the node has never seen",
            "s",
            "Pods of the JavaScript service, whose containers are made and started all at once: when its code was in the cache, and \
             when the last of them had answered.",
            Pairs::None,
            vec![series(COMPILED, ended), series("wisp, the last answer", last)],
        )
        .against(&[COMPILED], Pairs::None),
        Figure::new(
            "compiles of these 20 pods",
            "",
            "Processes of the compiler.",
            Pairs::None,
            vec![series("wisp", compiles.processes as f64)],
        ),
    ])
}

/// When one pod has answered. It waits for all others before its container is made, and before it is removed.
fn one(node: &Node, ready: &Barrier) -> Result<Instant> {
    let prepared = node.pod().run().and_then(|pod| Ok((Client::ready(pod.pid()?)?, pod)));
    ready.wait();
    let answered = prepared.and_then(|(client, pod)| {
        pod.container(&[PROGRAM]).start()?;
        Ok((client.first_byte()?, pod))
    });
    ready.wait();
    Ok(answered?.0)
}

/// What was seen of compiles.
struct Compiles {
    /// How many processes there were.
    processes: usize,
    /// When the first code was there.
    ended: Option<Duration>,
}

fn watch(cache: &Path, start: Instant, over: &AtomicBool) -> Result<Compiles> {
    let mut known = BTreeSet::new();
    let mut ended = None;
    while !over.load(Ordering::Relaxed) {
        if ended.is_none() && has_code(cache)? {
            ended = Some(start.elapsed());
        }
        known.extend(compilers());
        thread::sleep(PAUSE);
    }
    Ok(Compiles { processes: known.len(), ended })
}

/// The compilers that run now: in the control group that they share, and with them who keeps them.
fn compilers() -> Vec<String> {
    let hierarchy = if has_cgroup_v1() { "memory/" } else { "" };
    let group = fs::read_to_string(format!("/sys/fs/cgroup/{hierarchy}wisp-compiler/cgroup.procs"));
    let is_compiler = |pid: &&str| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == "wisp-compiler")
    };
    group.unwrap_or_default().lines().filter(is_compiler).map(str::to_owned).collect()
}

fn has_code(cache: &Path) -> Result<bool> {
    for entry in fs::read_dir(cache)? {
        if entry?.path().extension().is_some_and(|kind| kind == "code") {
            return Ok(true);
        }
    }
    Ok(false)
}
