//! Which namespaces the containers of a pod share: with each other, and with the node.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use wisp_tests::bed::{LIMIT, eventually};
use wisp_tests::cri::api::NamespaceMode;
use wisp_tests::cri::node::{Node, Variant};
use wisp_tests::suite::Case;
use wisp_tests::{Outcome, cases, leaks, process};

pub(crate) const CASES: &[Case] = cases![Pods:
    the_containers_of_a_pod_share_its_network_ipc_and_name,
    the_containers_of_a_pod_share_memory_and_those_of_others_do_not,
    with_shared_processes_neighbours_see_each_other,
    process_1_of_shared_processes_reaps,
    with_the_nodes_processes_a_neighbour_sees_the_nodes,
    with_the_nodes_ipc_memory_is_the_nodes,
];

pub(crate) const OF_2: &[Case] = cases![PodsWhere where Variant::is_2:
    a_handler_says_that_it_has_no_user_namespaces,
];

/// A program that runs until its input ends, which is when it is killed.
const WAITING: [[&str; 3]; 2] = [["/rust-0.2.wasm", "sleep", "600"], ["/native", "sleep", "600"]];

fn link(pid: u32, namespace: &str) -> Result<std::path::PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/{namespace}")).with_context(|| format!("{namespace} of {pid}"))
}

/// The number of a process in its innermost namespace.
fn inner_pid(pid: u32) -> Result<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:")).context("no NSpid")?;
    Ok(line.split_whitespace().last().context("an empty NSpid")?.parse()?)
}

fn the_containers_of_a_pod_share_its_network_ipc_and_name(node: &Node) -> Outcome {
    let pod = node.pod().run()?;
    let running = WAITING.iter().map(|args| pod.container(args).start()).collect::<Result<Vec<_>>>()?;
    for container in &running {
        container.until("sleeping")?;
    }
    let (wasm, native) = (running[0].pid()?, running[1].pid()?);
    for namespace in ["net", "ipc", "uts"] {
        ensure!(
            link(wasm, namespace)? == link(native, namespace)?,
            "the {namespace} namespace is not shared"
        );
        ensure!(link(wasm, namespace)? == link(pod.pid()?, namespace)?, "{namespace} is not the pod's");
        ensure!(link(wasm, namespace)? != link(node.bed.pid()?, namespace)?, "{namespace} is the node's");
    }
    for namespace in ["pid", "mnt"] {
        ensure!(link(wasm, namespace)? != link(native, namespace)?, "the {namespace} namespace is shared");
        ensure!(link(wasm, namespace)? != link(node.bed.pid()?, namespace)?, "{namespace} is the node's");
    }
    Ok(())
}

fn the_containers_of_a_pod_share_memory_and_those_of_others_do_not(node: &Node) -> Outcome {
    let (pod, other) = (node.pod().run()?, node.pod().run()?);
    let programs = super::life::PROGRAMS;
    for (writer, reader) in programs.into_iter().zip(programs.into_iter().cycle().skip(1)) {
        pod.container(&[writer, "write", "/dev/shm/note", writer]).run()?.code(0, "Completed")?;
        let read =
            |pod: &wisp_tests::cri::pod::Pod<'_>| pod.container(&[reader, "cat", "/dev/shm/note"]).run();
        read(&pod)?.code(0, "Completed")?.stdout(&format!("{}\n", writer)).or_else(|_| {
            // `write` ends no line, and so CRI's log has a part of one.
            read(&pod)?.stdout(writer)
        })?;
        read(&other)?.code(1, "Error")?;
    }
    Ok(())
}

fn with_shared_processes_neighbours_see_each_other(node: &Node) -> Outcome {
    let pod = node.pod().namespaces(|namespaces| namespaces.pid = NamespaceMode::Pod.into()).run()?;
    let wasm = pod.container(&WAITING[0]).start()?;
    wasm.until("sleeping")?;
    let seen = pod.container(&["/native", "ls", "/proc"]).run()?.code(0, "Completed")?.printed();
    let seen: BTreeSet<&str> = seen.lines().collect();
    let guest = inner_pid(wasm.pid()?)?.to_string();
    ensure!(seen.contains("1") && seen.contains(guest.as_str()), "{guest} is not among {seen:?}");
    ensure!(guest != "1", "the guest is process 1 of a shared namespace");
    ensure!(link(wasm.pid()?, "pid")? == link(pod.pid()?, "pid")?, "not the pod's processes");
    // A signal to a process that is no longer process 1 ends it as any other.
    ensure!(wasm.stop(60)? < Duration::from_secs(20));
    wasm.ended()?.code(143, "Error")?;
    Ok(())
}

fn process_1_of_shared_processes_reaps(node: &Node) -> Outcome {
    let pod = node.pod().namespaces(|namespaces| namespaces.pid = NamespaceMode::Pod.into()).run()?;
    let first = pod.pid()?;
    ensure!(inner_pid(first)? == 1, "the pod's process is not process 1 in it");
    let mut orphan = std::process::Command::new("nsenter");
    orphan.args([&format!("--pid=/proc/{first}/ns/pid"), "sh", "-c", "sleep 0.2 & exit 0"]);
    process::run(&mut orphan, LIMIT)?.success()?;
    eventually("an orphan is reaped", LIMIT, || {
        let children = leaks::children_of(first.cast_signed());
        Ok((!children.iter().any(|child| child.contains("sleep"))).then_some(()))
    })
}

fn with_the_nodes_processes_a_neighbour_sees_the_nodes(node: &Node) -> Outcome {
    let pod = node.pod().namespaces(|namespaces| namespaces.pid = NamespaceMode::Node.into()).run()?;
    let wasm = pod.container(&WAITING[0]).start()?;
    wasm.until("sleeping")?;
    ensure!(link(wasm.pid()?, "pid")? == link(node.bed.pid()?, "pid")?, "not the node's processes");
    let seen = pod.container(&["/native", "ls", "/proc"]).run()?.code(0, "Completed")?.printed();
    let containerd = node.bed.pid()?.to_string();
    ensure!(seen.lines().any(|pid| pid == containerd), "containerd is not seen: {seen}");
    ensure!(wasm.stop(60)? < Duration::from_secs(20));
    wasm.ended()?.code(143, "Error")?;
    Ok(())
}

fn with_the_nodes_ipc_memory_is_the_nodes(node: &Node) -> Outcome {
    let pod = node.pod().namespaces(|namespaces| namespaces.ipc = NamespaceMode::Node.into()).run()?;
    let wasm = pod.container(&WAITING[0]).start()?;
    wasm.until("sleeping")?;
    ensure!(link(wasm.pid()?, "ipc")? == link(node.bed.pid()?, "ipc")?, "not the node's IPC");
    let note = format!("/dev/shm/{}", pod.config.hostname);
    let written = pod.container(&["/rust-0.2.wasm", "write", &note, "text"]).run()?.code(0, "Completed");
    let read = fs::read_to_string(&note);
    let _ = fs::remove_file(&note);
    written?;
    ensure!(read? == "text");
    Ok(())
}

fn a_handler_says_that_it_has_no_user_namespaces(node: &Node) -> Outcome {
    let status = node.cri.status()?;
    let handler = status.runtime_handlers.iter().find(|handler| handler.name == node.handler());
    let features = handler.context("the handler is not in the status")?.features.unwrap_or_default();
    // A kubelet refuses `hostUsers: false` where the handler does not say that it can.
    ensure!(!features.user_namespaces, "user namespaces are promised");
    ensure!(features.recursive_read_only_mounts, "recursive read-only mounts are not");
    Ok(())
}
