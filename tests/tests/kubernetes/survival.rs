//! What ends beside a pod, and what the pod makes of it.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use wisp_tests::kube::PATIENCE;
use wisp_tests::kube::cluster::is_ready;
use wisp_tests::kube::eventually;
use wisp_tests::kube::node::Service;
use wisp_tests::kube::scene::{Scene, container_id, terminated};
use wisp_tests::kube::suite::{Case, EVERYWHERE, NODES, UML};
use wisp_tests::{Outcome, kube_cases};

pub(crate) const CASES: &[&[Case]] = &[
    kube_cases![Alone, EVERYWHERE;
        pods_run_on_while_containerd_is_killed,
        pods_run_on_while_containerd_is_restarted,
    ],
    // Neither is noticed by the pods of others.
    kube_cases![Node, EVERYWHERE;
        pods_run_on_while_wisp_is_replaced,
        a_pod_whose_shim_is_killed_comes_back,
    ],
    // Those that others create meanwhile wait a little for the node.
    kube_cases![Node, NODES; a_node_is_drained],
    kube_cases![Alone, NODES; pods_run_on_while_kubelet_is_restarted],
    kube_cases![Alone, UML;
        pods_come_back_when_their_node_is_rebooted,
        pods_end_in_good_time_when_their_node_shuts_down,
    ],
];

/// A service and a command that run on, and the ids of their containers.
pub(crate) fn running(scene: &Scene<'_>) -> Result<Vec<(&'static str, String)>> {
    let service = scene.service("serves").spec("restartPolicy", json!("Always"));
    let command = scene.pod("sleeps", &["/rust-0.2.wasm", "sleep", "3600"]);
    let command = command.spec("restartPolicy", json!("Always"));
    let pods = [("serves", service), ("sleeps", command)];
    pods.into_iter().map(|(name, pod)| Ok((name, container_id(&scene.ready(&pod)?)?.to_owned()))).collect()
}

/// The same containers run, and can be worked with; and one that ends is restarted in place.
pub(crate) fn run_on(scene: &Scene<'_>, pods: &[(&'static str, String)]) -> Outcome {
    for (name, id) in pods {
        let pod = scene.until(name, "ready", is_ready)?;
        ensure!(container_id(&pod)? == id, "{name} was started anew: {}", pod["status"]);
        // kubelet takes a moment until it serves again, and nothing tells of it.
        eventually("exec works", || Ok(scene.exec(name, &["/native", "hello"]).ok().map(drop)))?;
    }
    ensure!(scene.fetch("serves", "/hello")?.starts_with("hello"));
    ensure!(scene.exec("sleeps", &["/rust-0.1.wasm", "hello"])?.starts_with("hello"));
    scene.kubectl.finish(&["exec", "sleeps", "--", "/bin/kill", "-TERM", "1"])?;
    let restarts = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"].as_i64();
    scene.until("sleeps", "restarted in place", |pod| restarts(pod) == Some(1) && is_ready(pod))?;
    scene.delete("sleeps", PATIENCE)
}

fn while_stopped(scene: &Scene<'_>, service: Service, signal: Signal) -> Outcome {
    let mut pods = running(scene)?;
    // Process 1 of its namespace has no ear for SIGTERM.
    let native = scene.pod("native", &["/bin/sleep", "3600"]).spec("terminationGracePeriodSeconds", json!(1));
    pods.push(("native", container_id(&scene.ready(&native)?)?.to_owned()));
    let node = scene.node()?;
    node.stop(service, signal)?;
    node.start(service)?;
    run_on(scene, &pods)?;
    // Else the case that powers the node off may find it still there, and systemd waits 90 seconds for it.
    scene.delete("native", PATIENCE)
}

fn pods_run_on_while_kubelet_is_restarted(scene: &Scene<'_>) -> Outcome {
    while_stopped(scene, Service::Kubelet, Signal::SIGTERM)
}

fn pods_run_on_while_containerd_is_restarted(scene: &Scene<'_>) -> Outcome {
    while_stopped(scene, Service::Containerd, Signal::SIGTERM)
}

fn pods_run_on_while_containerd_is_killed(scene: &Scene<'_>) -> Outcome {
    while_stopped(scene, Service::Containerd, Signal::SIGKILL)
}

/// Puts every program of Wisp in its place again, as an upgrade does; another case may do the same meanwhile.
const REPLACE: &str = r#"bin=$(dirname "$(command -v wisp)") new=$bin/../new.$$
for file in "$bin"/wisp "$bin"/wisp-runtime "$bin"/containerd-shim-wisp-v1 "$bin"/../libexec/wisp/*; do
    cp "$file" "$new" && mv "$new" "$file" || exit 1
done"#;

fn pods_run_on_while_wisp_is_replaced(scene: &Scene<'_>) -> Outcome {
    let pods = running(scene)?;
    scene.node()?.shell(REPLACE)?.success()?;
    run_on(scene, &pods)
}

fn a_pod_whose_shim_is_killed_comes_back(scene: &Scene<'_>) -> Outcome {
    let pod = scene.ready(&scene.service("serves").spec("restartPolicy", json!("Always")))?;
    let id = container_id(&pod)?.to_owned();
    let groups = scene.control_groups(&id)?;
    let group = groups.first().context("a container without a control group")?;
    // The guest's parent is its shim.
    let kill = format!("kill -9 $(ps -o ppid= -p $(head -n1 {group}/cgroup.procs))");
    scene.node()?.shell(&kill)?.success()?;
    scene.until("serves", "back", |pod| is_ready(pod) && container_id(pod).is_ok_and(|now| now != id))?;
    ensure!(scene.fetch("serves", "/hello")?.starts_with("hello"));
    eventually("the control groups of the dead container gone", || {
        Ok(scene.control_groups(&id)?.is_empty().then_some(()))
    })
}

fn a_node_is_drained(scene: &Scene<'_>) -> Outcome {
    scene.ready(&scene.service("serves").label("app", "drained"))?;
    scene.ready(&scene.pod("sleeps", &["/rust-0.2.wasm", "sleep", "3600"]).label("app", "drained"))?;
    let name = scene.node()?.name();
    let drained =
        scene.kubectl.run(&["drain", name, "--force", "--pod-selector=app=drained", "--timeout=100s"]);
    scene.kubectl.run(&["uncordon", name])?;
    drained?;
    let left = scene.kubectl.run(&["get", "pods", "--output=name"])?;
    ensure!(left.is_empty(), "{left}");
    Ok(())
}

fn pods_come_back_when_their_node_is_rebooted(scene: &Scene<'_>) -> Outcome {
    let pods = running(scene)?;
    scene.node()?.reboot()?;
    for (name, id) in &pods {
        scene.until(name, "back", |pod| is_ready(pod) && container_id(pod).is_ok_and(|now| now != id))?;
        ensure!(scene.exec(name, &["/rust-0.1.wasm", "hello"])?.starts_with("hello"));
    }
    Ok(())
}

fn pods_end_in_good_time_when_their_node_shuts_down(scene: &Scene<'_>) -> Outcome {
    configure_kubelet(scene, "sed -i.before '1s/{/{\"shutdownGracePeriod\": \"60s\",/' /host/kubelet.yaml")?;
    let ended = shut_down(scene);
    ended.and(configure_kubelet(scene, "mv /host/kubelet.yaml.before /host/kubelet.yaml"))
}

fn configure_kubelet(scene: &Scene<'_>, script: &str) -> Outcome {
    let node = scene.node()?;
    node.stop(Service::Kubelet, Signal::SIGTERM)?;
    node.shell(script)?.success()?;
    node.start(Service::Kubelet)
}

/// Boots the node anew under two pods: kubelet has ended both by then, each with the exit code of an orderly end.
fn shut_down(scene: &Scene<'_>) -> Outcome {
    let node = scene.node()?;
    eventually("kubelet delays shutdowns", || {
        let inhibitors = node.shell("systemd-inhibit --list --no-pager")?;
        Ok(inhibitors.stdout.contains("kubelet").then_some(()))
    })?;
    running(scene)?;
    node.reboot()?;
    for (name, phase, code) in [("serves", "Succeeded", 0), ("sleeps", "Failed", 143)] {
        let pod = scene.until(name, phase, |pod| pod["status"]["phase"] == phase)?;
        ensure!(terminated(&pod)?["exitCode"] == code, "{name} did not end with {code}: {}", pod["status"]);
        let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        let by_kubelet = conditions.any(|condition| condition["reason"] == "TerminationByKubelet");
        ensure!(by_kubelet, "it was not kubelet that ended {name}: {}", pod["status"]);
    }
    scene.kubectl.until(&format!("node/{}", node.name()), "ready", PATIENCE, is_ready).map(drop)
}
