//! A node that gets a newer containerd and a newer Wisp under its pods.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use wisp_tests::kube::cluster::{Cluster, is_ready};
use wisp_tests::kube::eventually;
use wisp_tests::kube::host::Host;
use wisp_tests::kube::load::Load;
use wisp_tests::kube::node::Node;
use wisp_tests::kube::scene::Scene;
use wisp_tests::kube::suite::{Case, HOST};
use wisp_tests::kube::upgraded::Upgraded;
use wisp_tests::kube::world::world;
use wisp_tests::{Outcome, kube_cases};

use crate::survival::{run_on, running};

pub(crate) const CASES: &[&[Case]] =
    &[kube_cases![Node, HOST; pods_run_on_while_containerd_1_7_becomes_2_4_and_wisp_is_replaced]];

fn pods_run_on_while_containerd_1_7_becomes_2_4_and_wisp_is_replaced(scene: &Scene<'_>) -> Outcome {
    let cluster = world()?.cluster.as_ref().context("no cluster of the tests' own")?;
    let mut upgraded = Upgraded::join(Arc::clone(cluster))?;
    let outcome = upgrade(scene, cluster, &mut upgraded);
    // What has failed leaves pods behind that nobody would end once their node is gone.
    scene.kubectl.run(&["delete", "deployments,pods", "--all", "--grace-period=0", "--force"])?;
    outcome
}

fn upgrade(scene: &Scene<'_>, cluster: &Cluster, upgraded: &mut Upgraded) -> Outcome {
    let node = upgraded.node.clone();
    let scene = scene.on(&node);
    ensure!(version(&scene)?.starts_with("containerd://1.7"), "{}", version(&scene)?);
    let before = node.inventory()?;
    let pods = running(&scene)?;
    let (mixed, deployed) = (mixed(&scene)?, deployed(&scene)?);

    let load = Load::start(&cluster.space, address(&deployed)?, "/hello");
    upgraded.upgrade_containerd()?;
    eventually("kubelet has heard of the newer containerd", || {
        Ok(version(&scene)?.starts_with("containerd://2.4").then_some(()))
    })?;
    let tally = load.stop()?;
    ensure!(tally.failures.is_empty(), "{} requests failed: {}", tally.failures.len(), tally.failures[0]);

    run_on(&scene, &pods)?;
    runs_on(&scene, &mixed, &deployed)?;
    upgraded.upgrade_wisp()?;
    runs_on(&scene, &mixed, &deployed)?;
    is_restarted_in_place(&scene, &mixed)?;
    // From now on a new pod's shim is its sandbox.
    let pauses = pauses(&node);
    scene.kubectl.run(&["rollout", "restart", "deployment/deployed"])?;
    scene.kubectl.run(&["rollout", "status", "deployment/deployed", "--timeout=120s"])?;
    eventually("the old pod's pause container is gone, and no new one has come", || {
        Ok((self::pauses(&node) == pauses - 1).then_some(()))
    })?;
    scene.kubectl.run(&["delete", "deployments,pods", "--all", "--timeout=100s"])?;
    node.nothing_new(&before)
}

/// The containerd of the node, as kubelet tells it.
fn version(scene: &Scene<'_>) -> Result<String> {
    let node = scene.kubectl.get(&["node", scene.node()?.name()])?;
    let version = &node["status"]["nodeInfo"]["containerRuntimeVersion"];
    Ok(version.as_str().context("a node without a containerd")?.to_owned())
}

/// A pod of a service with a native neighbour.
fn mixed(scene: &Scene<'_>) -> Result<Value> {
    let native = scene.container("native", &["/bin/sh", "-c", "echo before; exec sleep 3600"]);
    // Process 1 of its namespace has no ear for SIGTERM.
    let pod = scene
        .service("mixed")
        .spec("restartPolicy", json!("Always"))
        .beside(native)
        .spec("terminationGracePeriodSeconds", json!(1));
    scene.ready(&pod)
}

/// The one pod of a Deployment.
fn deployed(scene: &Scene<'_>) -> Result<Value> {
    let pod = scene.service("deployed").label("app", "deployed").spec("restartPolicy", json!("Always"));
    scene.kubectl.apply(&json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "deployed"},
        "spec": {"selector": {"matchLabels": {"app": "deployed"}}, "template": pod.template()},
    }))?;
    scene.kubectl.run(&["rollout", "status", "deployment/deployed", "--timeout=120s"])?;
    Ok(scene.kubectl.get(&["pods", "--selector=app=deployed"])?["items"][0].clone())
}

/// Where a pod's service is.
fn address(pod: &Value) -> Result<SocketAddr> {
    Ok(SocketAddr::new(pod["status"]["podIP"].as_str().context("no address")?.parse()?, 8080))
}

/// Both pods are as they were, and can be worked with.
fn runs_on(scene: &Scene<'_>, mixed: &Value, deployed: &Value) -> Outcome {
    is_as_it_was(scene, mixed)?;
    is_as_it_was(scene, deployed)?;
    for (container, program) in [("main", "/rust-0.1.wasm"), ("native", "/native")] {
        let said = scene.kubectl.run(&["exec", "mixed", "--container", container, "--", program, "hello"])?;
        ensure!(said.starts_with("hello"), "{container}: {said}");
    }
    ensure!(scene.fetch("mixed", "/hello")?.starts_with("hello"));
    let logs = scene.kubectl.run(&["logs", "mixed", "--container=native"])?;
    ensure!(logs.starts_with("before"), "{logs}");
    Ok(())
}

/// A service that ends is started again beside its neighbour.
fn is_restarted_in_place(scene: &Scene<'_>, pod: &Value) -> Outcome {
    scene.kubectl.finish(&["exec", "mixed", "--container=main", "--", "/bin/kill", "-TERM", "1"])?;
    let status = |pod: &Value, name: &str| {
        let all = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
        all.filter(|one| one["name"] == name)
            .map(|one| (one["restartCount"].clone(), one["containerID"].clone()))
            .next()
    };
    let now = scene.until("mixed", "restarted in place", |now| {
        status(now, "main").is_some_and(|(restarts, _)| restarts == 1) && is_ready(now)
    })?;
    ensure!(status(&now, "native") == status(pod, "native"), "its neighbour too: {}", now["status"]);
    Ok(())
}

/// Requires that the same containers of a pod run.
fn is_as_it_was(scene: &Scene<'_>, pod: &Value) -> Outcome {
    let name = pod["metadata"]["name"].as_str().context("a pod without a name")?;
    let now = scene.until(name, "ready", is_ready)?;
    let (before, now) = (&pod["status"]["containerStatuses"], &now["status"]["containerStatuses"]);
    let same = |index: usize| {
        ["containerID", "restartCount"].iter().all(|key| before[index][key] == now[index][key])
    };
    let count = before.as_array().map_or(0, Vec::len);
    ensure!(count > 0 && (0..count).all(same), "{name} was started anew: {before} became {now}");
    Ok(())
}

/// How many pause containers run on the node.
fn pauses(node: &Host) -> usize {
    node.processes().iter().filter(|process| process.command == "/pause").count()
}
