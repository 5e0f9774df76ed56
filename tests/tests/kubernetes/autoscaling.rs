//! `kubectl top` and the HorizontalPodAutoscaler, as a cluster with metrics-server has them.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use wisp_tests::kube::load::Load;
use wisp_tests::kube::scene::{Scene, container_id};
use wisp_tests::kube::suite::{Case, NODES};
use wisp_tests::kube::world::world;
use wisp_tests::kube::{PATIENCE, eventually, metrics};
use wisp_tests::{Outcome, kube_cases};

pub(crate) const CASES: &[&[Case]] = &[kube_cases![Node, NODES;
    top_agrees_with_the_control_group_and_with_wisp_top,
    an_autoscaler_follows_the_load_of_a_service,
]];

/// What one processor is in the figures, and how far they may be from each other: each is of a time of its own.
const PROCESSOR: f64 = 1000.0;
const ROOM: f64 = 0.2;

/// Limits that a busy guest reaches, and requests that a percentage is of.
fn resources() -> Value {
    json!({"requests": {"cpu": "100m", "memory": "16Mi"}, "limits": {"cpu": "200m", "memory": "128Mi"}})
}

/// The processor time that a container has had, in nanoseconds.
fn used(scene: &Scene<'_>, container: &str) -> Result<f64> {
    let nanoseconds = scene.control(container, &["cpuacct.usage"])?;
    if let Some(first) = nanoseconds.lines().next() {
        return Ok(first.parse()?);
    }
    let stat = scene.control(container, &["cpu.stat"])?;
    let microseconds = stat.lines().find_map(|line| line.strip_prefix("usage_usec "));
    Ok(1000.0 * microseconds.context("a control group without a processor time")?.parse::<f64>()?)
}

/// What metrics-server says that a pod uses, in thousandths of a processor, and when that was: the first after `last`.
fn told(scene: &Scene<'_>, pod: &str, last: &Value) -> Result<(f64, Value)> {
    let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{}/pods/{pod}", scene.kubectl.namespace);
    let figures: Value = eventually("metrics-server knows more of the pod", || {
        // It says that there is no such pod until it has its first figures.
        let asked = scene.kubectl.raw(&path).ok();
        let figures: Option<Value> = asked.map(|text| serde_json::from_str(&text)).transpose()?;
        Ok(figures.filter(|figures| figures["timestamp"] != *last))
    })?;
    Ok((millis(&figures["containers"][0]["usage"]["cpu"])?, figures["timestamp"].clone()))
}

/// A quantity of processors in thousandths of one.
fn millis(quantity: &Value) -> Result<f64> {
    let text = quantity.as_str().unwrap_or_default();
    let digits = text.trim_end_matches(|unit: char| unit.is_alphabetic());
    let unit = match &text[digits.len()..] {
        "n" => 1e-6,
        "u" => 1e-3,
        "m" => 1.0,
        "" => PROCESSOR,
        _ => f64::NAN,
    };
    Ok(unit * digits.parse::<f64>().with_context(|| format!("no quantity of processors: {quantity}"))?)
}

/// What a busy pod uses, by metrics-server and by its control group, which must agree. Each figure is of the time from one to the
/// next, in which the machine may have had other things to do.
fn agreed(scene: &Scene<'_>, pod: &Value) -> Result<f64> {
    let (id, name) = (container_id(pod)?, pod["metadata"]["name"].as_str().unwrap_or_default());
    let (_, mut last) = told(scene, name, &Value::Null)?;
    let mut difference = String::new();
    eventually("both agree", || {
        let (before, start) = (used(scene, id)?, Instant::now());
        let (told, now) = told(scene, name, &last)?;
        let used = (used(scene, id)? - before) / start.elapsed().as_nanos() as f64 * PROCESSOR;
        last = now;
        let agreed = close(told, used);
        difference = format!("{agreed:?}");
        Ok(agreed.is_ok().then_some(told))
    })
    .with_context(|| difference.clone())
}

/// Requires that two figures are no further apart than [`ROOM`].
fn close(told: f64, used: f64) -> Outcome {
    ensure!((told - used).abs() <= ROOM * used, "{told:.0}m are told, {used:.0}m in the control group");
    Ok(())
}

fn top_agrees_with_the_control_group_and_with_wisp_top(scene: &Scene<'_>) -> Outcome {
    metrics::serve(world()?.cluster.as_ref().context("no cluster of the tests' own")?)?;
    let pod = scene.pod("busy", &["/rust-0.2.wasm", "loop"]).main("resources", resources());
    let pod = scene.ready(&pod)?;
    let used = agreed(scene, &pod)?;
    let shown = scene.kubectl.run(&["top", "pod", "busy", "--no-headers"])?;
    let mut columns = shown.split_whitespace().skip(1).map(str::to_owned);
    close(millis(&columns.next().into())?, used)?;
    let memory: u64 = columns.next().context(shown)?.trim_end_matches("Mi").parse()?;
    let current = scene.control(container_id(&pod)?, &["memory.current", "memory.usage_in_bytes"])?;
    let current = current.trim().parse::<u64>()? >> 20;
    ensure!(memory > 0 && memory <= current + 1, "{memory} MiB are shown, {current} in the control group");
    wisp_top_agrees(scene, container_id(&pod)?, memory)
}

/// Requires that `wisp top` has processor time of just now, and the memory that `kubectl top` has, in mebibytes.
fn wisp_top_agrees(scene: &Scene<'_>, container: &str, memory: u64) -> Outcome {
    let before = used(scene, container)?;
    let shown = scene.wisp_top("busy")?;
    let after = used(scene, container)?;
    let nanoseconds = shown["cpu_ns"].as_f64().context("no processor time")?;
    ensure!((before..=after).contains(&nanoseconds), "not from {before} to {after}: {shown}");
    let bytes = shown["memory_bytes"].as_u64().context("no memory")?;
    ensure!((bytes >> 20).abs_diff(memory) <= 1, "kubectl shows {memory} MiB: {shown}");
    Ok(())
}

/// How much of its request a pod may use before there are to be more, in percent: what the limit allows is for four of them.
const TARGET: f64 = 55.0;

fn an_autoscaler_follows_the_load_of_a_service(scene: &Scene<'_>) -> Outcome {
    let cluster = world()?.cluster.as_ref().context("no cluster of the tests' own")?;
    metrics::serve(cluster)?;
    let pod = scene.service("busy").label("app", "busy").spec("restartPolicy", json!("Always"));
    scene.kubectl.apply(&json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "busy"},
        "spec": {"selector": {"matchLabels": {"app": "busy"}}, "template": pod.main("resources", resources()).template()},
    }))?;
    rolled_out(scene)?;
    let pod = scene.kubectl.get(&["pods"])?["items"][0].clone();
    let address = SocketAddr::new(pod["status"]["podIP"].as_str().context("no address")?.parse()?, 8080);
    // All on the first, so that how many are wanted depends on nothing but what that one uses.
    let load = Load::start(&cluster.space, address, "/compute?1000000");
    let used = agreed(scene, &pod)?;
    let target = format!("--cpu={TARGET}%");
    scene.kubectl.run(&["autoscale", "deployment", "busy", &target, "--min=1", "--max=9"])?;
    let status = scene.kubectl.until("hpa/busy", "scaled up", PATIENCE, |scaler| {
        scaler["status"]["desiredReplicas"].as_u64() > Some(1)
    })?["status"]
        .clone();
    let current = &status["currentMetrics"][0]["resource"]["current"];
    close(millis(&current["averageValue"])?, used)?;
    let percent = current["averageUtilization"].as_f64().context("no utilization")?;
    let wanted = (percent / TARGET).ceil();
    ensure!(status["desiredReplicas"].as_f64() == Some(wanted), "{wanted} are wanted: {status}");
    rolled_out(scene)?;
    let tally = load.stop()?;
    ensure!(tally.failures.is_empty(), "{} requests failed: {}", tally.failures.len(), tally.failures[0]);
    Ok(())
}

fn rolled_out(scene: &Scene<'_>) -> Outcome {
    scene.kubectl.run(&["rollout", "status", "deployment/busy", "--timeout=120s"]).map(drop)
}
