//! Deployments of an HTTP service: updated under load, scaled, and many pods at once.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use wisp_tests::kube::PATIENCE;
use wisp_tests::kube::eventually;
use wisp_tests::kube::load::Load;
use wisp_tests::kube::scene::Scene;
use wisp_tests::kube::suite::{Case, HOST};
use wisp_tests::kube::world::world;
use wisp_tests::net::Connection;
use wisp_tests::space::Space;
use wisp_tests::{Outcome, kube_cases};

pub(crate) const CASES: &[&[Case]] = &[kube_cases![Alone, HOST;
    a_rolling_update_under_load_loses_no_request,
    a_deployment_is_scaled_up_and_down,
    many_pods_at_once_are_ready_answer_and_go,
]];

/// How many pods at once, where `WISP_TESTS_PODS` does not say.
const PODS: usize = 200;
/// How many a Deployment is scaled to.
const REPLICAS: usize = 100;

/// The space of the tests' own cluster.
fn space() -> Result<Space> {
    Ok(world()?.cluster.as_ref().context("no cluster of the tests' own")?.space.clone())
}

/// A Deployment called `web` of so many replicas, and its Service; the Service's address once it answers.
fn deploy(scene: &Scene<'_>, replicas: usize) -> Result<SocketAddr> {
    let pod = scene.service("web").label("app", "web").spec("restartPolicy", json!("Always"));
    scene.kubectl.apply(&json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": pod.template(),
        },
    }))?;
    rolled_out(scene)?;
    scene.kubectl.run(&["expose", "deployment", "web", "--port=80", "--target-port=8080"])?;
    let service = scene.kubectl.get(&["service", "web"])?;
    let address: IpAddr =
        service["spec"]["clusterIP"].as_str().context("a Service without an address")?.parse()?;
    let address = SocketAddr::new(address, 80);
    let space = space()?;
    eventually("the Service answers", || {
        let asked = space.inside(move || Connection::to(address)?.get("/hello"));
        Ok(asked.ok().filter(|answer| answer.status == 200).map(drop))
    })?;
    Ok(address)
}

fn rolled_out(scene: &Scene<'_>) -> Outcome {
    scene.kubectl.run(&["rollout", "status", "deployment/web", "--timeout=240s"]).map(drop)
}

fn a_rolling_update_under_load_loses_no_request(scene: &Scene<'_>) -> Outcome {
    let address = deploy(scene, 3)?;
    let load = Load::start(&space()?, address, "/hello");
    for version in ["VERSION=2", "VERSION=3"] {
        scene.kubectl.run(&["set", "env", "deployment/web", version])?;
        rolled_out(scene)?;
        until_pods(scene, 3)?;
    }
    let tally = load.stop()?;
    ensure!(tally.answered > 500, "only {} requests were answered", tally.answered);
    ensure!(
        tally.failures.is_empty(),
        "{} of {} requests failed: {}",
        tally.failures.len(),
        tally.answered,
        tally.failures[..tally.failures.len().min(10)].join("; ")
    );
    Ok(())
}

/// Waits until there are so many pods, those that go being gone.
fn until_pods(scene: &Scene<'_>, count: usize) -> Outcome {
    eventually("the other pods are gone", || {
        let pods = scene.kubectl.run(&["get", "pods", "--output=name"])?;
        Ok((pods.lines().count() == count).then_some(()))
    })
}

fn a_deployment_is_scaled_up_and_down(scene: &Scene<'_>) -> Outcome {
    let address = deploy(scene, 1)?;
    let load = Load::start(&space()?, address, "/hello");
    scene.kubectl.run(&["scale", "deployment/web", &format!("--replicas={REPLICAS}")])?;
    rolled_out(scene)?;
    scene.kubectl.run(&["scale", "deployment/web", "--replicas=1"])?;
    rolled_out(scene)?;
    until_pods(scene, 1)?;
    let tally = load.stop()?;
    ensure!(tally.failures.is_empty(), "{} requests failed: {}", tally.failures.len(), tally.failures[0]);
    Ok(())
}

fn many_pods_at_once_are_ready_answer_and_go(scene: &Scene<'_>) -> Outcome {
    let count = std::env::var("WISP_TESTS_PODS").ok().and_then(|count| count.parse().ok()).unwrap_or(PODS);
    let pods: Vec<_> =
        (0..count).map(|number| scene.service(&format!("pod-{number}")).manifest().clone()).collect();
    scene.kubectl.apply(&json!({"apiVersion": "v1", "kind": "List", "items": pods}))?;
    let mut wait =
        scene.kubectl.command(&["wait", "--for=condition=Ready", "pods", "--all", "--timeout=400s"]);
    wisp_tests::process::run(&mut wait, 4 * PATIENCE)?.success()?;
    let list = scene.kubectl.get(&["pods"])?;
    let addresses =
        list["items"].as_array().context("no list")?.iter().map(address).collect::<Result<Vec<_>>>()?;
    ensure!(addresses.len() == count, "{} of {count} pods", addresses.len());
    space()?.inside(move || {
        for address in addresses {
            let answer = Connection::to(address)?.get("/hello")?;
            ensure!(answer.status == 200, "{address} answers {}", answer.status);
        }
        Ok(())
    })?;
    let mut delete = scene.kubectl.command(&["delete", "pods", "--all", "--timeout=400s"]);
    wisp_tests::process::run(&mut delete, 4 * PATIENCE)?.success().map(drop)
}

fn address(pod: &Value) -> Result<SocketAddr> {
    Ok(SocketAddr::new(pod["status"]["podIP"].as_str().context("a pod without an address")?.parse()?, 8080))
}
