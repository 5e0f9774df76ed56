//! What pods hold of the machine's memory while they wait: by process, by how many there are.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use wisp_tests::bed::{LIMIT, eventually};
use wisp_tests::cri::config::{RUNC, SHIM};
use wisp_tests::cri::node::Node;
use wisp_tests::cri::pod::Pod;

use crate::bed;
use crate::figure::{FLOOR, Figure, Pairs};
use crate::processes::{self, Memory};

/// What is compared: a handler, and the arguments of the one container. The service is asked once before it is measured.
const KINDS: &[(&str, &str, &[&str])] = &[
    ("null", FLOOR, &["/native"]),
    ("wisp, Rust service", SHIM, &["/http-0.2.wasm"]),
    ("wisp, JavaScript service", SHIM, &["/http-js.wasm"]),
    ("runc", RUNC, &["/native", "sleep", "3600"]),
];
/// How many pods there are when their memory is looked at.
const PODS: [usize; 3] = [1, 20, 50];
/// How long the pods are left alone before.
const IDLE: Duration = Duration::from_secs(3);

/// The processes of some pods.
type Pods = Vec<Vec<Memory>>;

/// Measures one kind after the other, so that no page of another's is counted.
///
/// # Errors
/// What did not start.
pub(crate) fn measure() -> Result<Vec<Figure>> {
    let node = bed::start()?;
    let mut by_kind = Vec::new();
    for (name, handler, args) in KINDS {
        by_kind.push((*name, grow(&node.under(handler)?, args).with_context(|| (*name).to_owned())?));
    }
    Ok(figures(&by_kind))
}

/// The processes of each number of pods.
fn grow(node: &Node, args: &[&str]) -> Result<[Pods; PODS.len()]> {
    let mut pods: Vec<(Pod<'_>, BTreeSet<i32>)> = Vec::new();
    let mut looked = [const { Vec::new() }; PODS.len()];
    for (looked, count) in looked.iter_mut().zip(PODS) {
        while pods.len() < count {
            let pod = node.pod().run()?;
            let processes = start(&pod, args)?;
            pods.push((pod, processes));
        }
        thread::sleep(IDLE);
        *looked = pods
            .iter()
            .map(|(_, pids)| pids.iter().map(|&pid| Memory::of(pid)).collect())
            .collect::<Result<_>>()?;
    }
    Ok(looked)
}

/// Starts the container of a pod; the processes of both.
fn start(pod: &Pod<'_>, args: &[&str]) -> Result<BTreeSet<i32>> {
    let container = pod.container(args).start()?;
    if args.iter().any(|arg| arg.starts_with("/http-")) {
        let network = pod.pid()?;
        eventually("the first answer", LIMIT, || Ok(processes::ask(network).ok()))?;
    }
    processes::of(&container)
}

fn figures(by_kind: &[(&str, [Pods; PODS.len()])]) -> Vec<Figure> {
    let series = |values: &dyn Fn(&[Pods; PODS.len()]) -> Vec<f64>| {
        by_kind.iter().map(|(kind, pods)| ((*kind).to_owned(), values(pods))).collect()
    };
    let sum = |pod: &Vec<Memory>, of: fn(&Memory) -> f64| pod.iter().map(of).sum::<f64>();
    let mut figures: Vec<_> = (0..PODS.len())
        .map(|at| {
            Figure::new(
                &format!("PSS of a pod, n = {}", PODS[at]),
                "MiB",
                "Of all its processes: a page is divided by how many map it. A service has answered one request and is idle; under runc \
                 a native program sleeps beside a pause process.",
                Pairs::None,
                series(&|pods| pods[at].iter().map(|pod| sum(pod, |process| process.share)).collect()),
            )
        })
        .collect();
    figures.push(Figure::new(
        "PSS of a pod by process, n = 50",
        "MiB",
        "The same, taken apart.",
        Pairs::None,
        by_kind.iter().flat_map(|(kind, pods)| by_process(kind, &pods[PODS.len() - 1])).collect(),
    ));
    figures.push(Figure::new(
        "private dirty memory that a further pod adds",
        "MiB",
        "What its processes have written and share with none; of 50 pods of one image, all but the first.",
        Pairs::None,
        series(&|pods| {
            let further = pods[PODS.len() - 1].iter().skip(1);
            further.map(|pod| sum(pod, |process| process.private_dirty)).collect()
        }),
    ));
    figures.push(Figure::new(
        "processes of a pod",
        "",
        "",
        Pairs::None,
        series(&|pods| pods[0].iter().map(|pod| pod.len() as f64).collect()),
    ));
    figures
}

/// The values of each of its processes, by their names.
fn by_process(kind: &str, pods: &Pods) -> Vec<(String, Vec<f64>)> {
    let names: BTreeSet<_> = pods.iter().flatten().map(|process| process.name.as_str()).collect();
    names
        .into_iter()
        .map(|name| {
            let values =
                pods.iter().flatten().filter(|process| process.name == name).map(|process| process.share);
            (format!("{kind}: {name}"), values.collect())
        })
        .collect()
}
