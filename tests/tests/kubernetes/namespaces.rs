//! The namespaces of its node that a pod asks for, and what a guest and a native neighbour see of each; user namespaces.

use anyhow::ensure;
use serde_json::{Value, json};
use wisp_tests::kube::pod::Pod;
use wisp_tests::kube::scene::Scene;
use wisp_tests::kube::suite::{Case, EVERYWHERE};
use wisp_tests::{Outcome, kube_cases};

pub(crate) const CASES: &[&[Case]] = &[
    kube_cases![Node, EVERYWHERE;
        a_pod_in_the_nodes_network_reaches_what_only_the_node_does,
        with_the_nodes_processes_a_native_neighbour_sees_them_and_a_guest_none,
        with_the_nodes_ipc_memory_is_the_nodes,
    ],
    kube_cases![Pods, EVERYWHERE;
        a_pod_that_wants_users_of_its_own_is_refused,
        settings_of_the_kernel_are_those_of_the_pod,
    ],
];

/// Where kubelet says that it is well, to whoever is on its node.
const HEALTH: &str = "http://127.0.0.1:10248/healthz";

/// A pod of a guest and a native neighbour that do nothing for a long time.
fn two(scene: &Scene<'_>, name: &str) -> Pod {
    let native = scene.container("native", &["/bin/sleep", "3600"]);
    // Process 1 of its namespace has no ear for SIGTERM.
    let pod = scene.pod(name, &["/rust-0.2.wasm", "sleep", "3600"]).beside(native);
    pod.spec("terminationGracePeriodSeconds", json!(1))
}

/// Requires that a namespace of each of a pod's containers is the node's.
fn is_the_nodes(scene: &Scene<'_>, pod: &Value, namespace: &str) -> Outcome {
    let node = scene.node()?;
    let nodes = node.shell(&format!("readlink /proc/self/ns/{namespace}"))?.success()?;
    for container in pod["status"]["containerStatuses"].as_array().into_iter().flatten() {
        let id = container["containerID"].as_str().unwrap_or_default().trim_start_matches("containerd://");
        let processes = scene.control(id, &["cgroup.procs"])?;
        let process = processes.lines().next().unwrap_or_default();
        let link = node.shell(&format!("readlink /proc/{process}/ns/{namespace}"))?.success()?;
        ensure!(link == nodes, "{} has {link}, the node {nodes}", container["name"]);
    }
    Ok(())
}

fn a_pod_in_the_nodes_network_reaches_what_only_the_node_does(scene: &Scene<'_>) -> Outcome {
    let guest = ["/rust-0.2.wasm", "fetch", HEALTH];
    let native = ["/bin/wget", "-qO-", HEALTH];
    let within = scene.ready(&two(scene, "within").spec("hostNetwork", json!(true)))?;
    is_the_nodes(scene, &within, "net")?;
    ensure!(within["status"]["podIP"] == within["status"]["hostIP"], "{}", within["status"]);
    scene.ready(&two(scene, "apart"))?;
    for (container, command, healthy) in [("main", guest, "200\nok"), ("native", native, "ok")] {
        let exec = |pod: &str| {
            let container = format!("--container={container}");
            scene.kubectl.finish(&[&["exec", pod, &container, "--"], &command[..]].concat())
        };
        let (within, apart) = (exec("within")?, exec("apart")?);
        ensure!(within.stdout == healthy, "{container}: {within:?}");
        ensure!(apart.code != 0, "{container} is in the node's network unasked: {apart:?}");
    }
    Ok(())
}

fn with_the_nodes_processes_a_native_neighbour_sees_them_and_a_guest_none(scene: &Scene<'_>) -> Outcome {
    let pod = scene.ready(&two(scene, "sees").spec("hostPID", json!(true)))?;
    is_the_nodes(scene, &pod, "pid")?;
    let exec = |container: &str, command: &[&str]| {
        let container = format!("--container={container}");
        scene.kubectl.finish(&[&["exec", "sees", &container, "--"], command].concat())
    };
    let seen = exec("native", &["/bin/ps"])?.success()?;
    ensure!(seen.contains("/bin/kubelet ") && seen.contains("rust-0.2.wasm"), "{seen}");
    let guest = exec("main", &["/rust-0.2.wasm", "cat", "/proc/1/cmdline"])?;
    ensure!(guest.code == 1 && guest.stdout.is_empty(), "a guest sees a process: {guest:?}");
    Ok(())
}

fn with_the_nodes_ipc_memory_is_the_nodes(scene: &Scene<'_>) -> Outcome {
    let pod = scene.ready(&two(scene, "shares").spec("hostIPC", json!(true)))?;
    is_the_nodes(scene, &pod, "ipc")?;
    let note = format!("/dev/shm/{}", scene.kubectl.namespace);
    scene.exec("shares", &["/rust-0.2.wasm", "write", &note, "of the guest"])?;
    let native = scene.kubectl.run(&["exec", "shares", "--container=native", "--", "/bin/cat", &note]);
    let node = scene.node()?.shell(&format!("cat {note}; rm {note}"))?.success()?;
    ensure!(native? == "of the guest" && node == "of the guest", "the node has {node:?}");
    Ok(())
}

fn a_pod_that_wants_users_of_its_own_is_refused(scene: &Scene<'_>) -> Outcome {
    scene.create(&scene.pod("mapped", &["/rust-0.2.wasm"]).spec("hostUsers", json!(false)))?;
    scene.kubectl.event("FailedCreatePodSandBox", "user namespaces")
}

fn settings_of_the_kernel_are_those_of_the_pod(scene: &Scene<'_>) -> Outcome {
    let with = |name: &str, value: &str| json!({"sysctls": [{"name": name, "value": value}]});
    let own = with("net.ipv4.ip_local_port_range", "4000 4999");
    scene.ready(&two(scene, "own").spec("securityContext", own))?;
    for container in ["--container=main", "--container=native"] {
        let read = ["/bin/cat", "/proc/sys/net/ipv4/ip_local_port_range"];
        let seen = scene.kubectl.run(&[&["exec", "own", container, "--"], &read[..]].concat())?;
        ensure!(seen.split_whitespace().eq(["4000", "4999"]), "{container}: {seen}");
    }
    // kubelet lets a pod have only those that it was told are safe.
    let unsafe_one = two(scene, "unsafe").spec("securityContext", with("kernel.msgmax", "8192"));
    scene.create(&unsafe_one)?;
    scene.kubectl.event("SysctlForbidden", "kernel.msgmax")
}
