//! What survives, and what is left of what does not.

use std::thread;

use anyhow::{Result, anyhow, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use wisp_tests::bed::{LIMIT, eventually};
use wisp_tests::cri::api::ContainerState;
use wisp_tests::cri::node::{Node, Variant};
use wisp_tests::leaks::{self, Inventory};
use wisp_tests::suite::Case;
use wisp_tests::{Outcome, cases};

use crate::network::{answered, fetch};

pub(crate) const CASES: &[Case] = cases![Pods:
    many_pods_at_once_run_and_answer,
];

pub(crate) const OWN_CASES: &[Case] = cases![OwnPods:
    pods_run_on_while_containerd_is_stopped_and_started,
    pods_run_on_while_containerd_is_killed_and_started,
    a_pod_whose_shim_is_killed_is_not_ready_and_leaves_nothing,
    completed_pods_hold_nothing_until_they_are_removed,
];

fn many_pods_at_once_run_and_answer(node: &Node) -> Outcome {
    const PODS: usize = 20;
    let variant = node.variant;
    let one = move || -> Outcome {
        let node = Node::shared(variant)?;
        let pod = node.pod().run()?;
        let service = pod.container(&["/http-0.2.wasm"]).start()?;
        let url = format!("http://{}:8080/hello", pod.ip()?);
        ensure!(answered(&service, &url)?.starts_with("hello"));
        service.stop(60)?;
        service.ended()?.code(0, "Completed")?;
        Ok(())
    };
    let pods: Vec<_> = (0..PODS).map(|_| thread::spawn(one)).collect();
    for pod in pods {
        pod.join().map_err(|_| anyhow!("a pod's thread panicked"))??;
    }
    Ok(())
}

fn survives(variant: Variant, signal: Signal) -> Outcome {
    let node = Node::start(variant)?;
    node.under_runc()?.pod().run()?.container(&["/native"]).run()?; // makes what stays
    let before = Inventory::of(&node.bed)?;
    let pod = node.pod().run()?;
    let service = pod.container(&["/http-0.2.wasm"]).start()?;
    let url = format!("http://{}:8080/hello", pod.ip()?);
    answered(&service, &url)?;
    let ticking = pod.container(&["/rust-0.1.wasm", "tick", "50"]).start()?;
    ticking.until("tick 2\n")?;
    let native = pod.container(&["/native", "sleep", "600"]).start()?;
    native.until("sleeping")?;

    node.bed.stop(signal)?;
    ensure!(fetch(&node.bed, &url)?.starts_with("hello"), "no answer while containerd is away");
    node.launch()?;

    ensure!(pod.ready()?, "the pod is not ready: {:?}", pod.status()?);
    ensure!(fetch(&node.bed, &url)?.starts_with("hello"), "no answer after containerd came back");
    let lines = ticking.lines()?.len();
    eventually("a line of the log", LIMIT, || Ok((ticking.lines()?.len() > lines).then_some(())))?;
    for container in [&service, &ticking, &native] {
        ensure!(container.status()?.state() == ContainerState::ContainerRunning, "{:?}", container.status()?);
        ensure!(container.says(&["/native", "hello"])? == "hello from Rust, native\n");
    }
    for (container, grace, code) in [(&service, 60, 0), (&ticking, 60, 143), (&native, 0, 137)] {
        container.stop(grace)?;
        let status = container.status()?;
        ensure!(status.exit_code == code, "exit code {} and not {code}", status.exit_code);
        container.remove()?;
    }
    let again = pod.container(&["/http-0.2.wasm"]).start()?;
    answered(&again, &url)?;
    drop(pod);
    Inventory::nothing_new(&node.bed, &before)
}

fn pods_run_on_while_containerd_is_stopped_and_started(variant: Variant) -> Outcome {
    survives(variant, Signal::SIGTERM)
}

fn pods_run_on_while_containerd_is_killed_and_started(variant: Variant) -> Outcome {
    survives(variant, Signal::SIGKILL)
}

fn a_pod_whose_shim_is_killed_is_not_ready_and_leaves_nothing(variant: Variant) -> Outcome {
    let node = Node::start(variant)?;
    node.under_runc()?.pod().run()?.container(&["/native"]).run()?;
    let before = Inventory::of(&node.bed)?;
    let pod = node.pod().run()?;
    let containers = [["/rust-0.2.wasm", "sleep", "600"], ["/native", "sleep", "600"]];
    let containers = containers.iter().map(|args| pod.container(args).start()).collect::<Result<Vec<_>>>()?;
    for container in &containers {
        container.until("sleeping")?;
    }
    let pids = containers.iter().map(|container| container.pid()).collect::<Result<Vec<_>>>()?;
    kill(Pid::from_raw(leaks::parent_of(pids[0].cast_signed())?), Signal::SIGKILL)?;
    for (container, pid) in containers.iter().zip(pids) {
        // Nobody was there to see how it ended.
        let status = container.ended()?.status;
        ensure!([137, 255].contains(&status.exit_code) && status.reason == "Error", "{status:?}");
        ensure!(wisp_tests::process::gone(pid.cast_signed(), LIMIT)?, "it runs on without its shim");
    }
    eventually("the pod is not ready", LIMIT, || Ok((!pod.ready()?).then_some(())))?;
    pod.stop()?;
    pod.remove()?;
    drop(pod);
    Inventory::nothing_new(&node.bed, &before)
}

/// How many pods [`completed_pods_hold_nothing_until_they_are_removed`] makes: `WISP_TESTS_PODS`, or what shows a leak soon.
fn how_many() -> usize {
    std::env::var("WISP_TESTS_PODS").ok().and_then(|number| number.parse().ok()).unwrap_or(20)
}

fn completed_pods_hold_nothing_until_they_are_removed(variant: Variant) -> Outcome {
    let node = Node::start(variant)?;
    node.under_runc()?.pod().run()?.container(&["/native"]).run()?;
    let before = Inventory::of(&node.bed)?;
    let mut pods = Vec::new();
    for _ in 0..how_many() {
        let pod = node.pod().run()?;
        pod.container(&["/rust-0.1.wasm", "hello"]).run()?.code(0, "Completed")?;
        pod.stop()?;
        pods.push(pod);
    }
    eventually("completed pods hold nothing", LIMIT, || Ok(held(&node, &before)?.is_empty().then_some(())))
        .map_err(|error| anyhow!("{error:#}: {:#?}", held(&node, &before)))?;
    for pod in &pods {
        ensure!(!pod.ready()?, "{:?}", pod.status()?);
    }
    drop(pods);
    Inventory::nothing_new(&node.bed, &before)
}

/// What came since `before` and is more than a note of a pod: mounts, networks and processes. A shim that is its pod's
/// sandbox answers for it until it is removed, in the node's network.
fn held(node: &Node, before: &Inventory) -> Result<Vec<String>> {
    let new = Inventory::of(&node.bed)?.new_since(before);
    let shim = |line: &str| node.variant.shim() && line.contains("/containerd-shim-wisp-v1 ");
    let mut held: Vec<_> = new
        .into_iter()
        .filter(|line| ["process ", "mount ", "file f /run/netns/"].iter().any(|kind| line.starts_with(kind)))
        .filter(|line| !shim(line))
        .collect();
    for process in leaks::processes(&node.bed.name) {
        if leaks::in_another_network(&node.bed, process.pid) {
            held.push(format!("the network of process {} {}", process.pid, process.command));
        }
    }
    Ok(held)
}
