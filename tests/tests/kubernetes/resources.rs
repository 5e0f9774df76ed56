//! Limits, quality of service, and their change while a pod runs.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use wisp_tests::kube::cluster::is_ready;
use wisp_tests::kube::scene::{Scene, container_id};
use wisp_tests::kube::suite::{Case, EVERYWHERE, NODES};
use wisp_tests::{Outcome, kube_cases};

pub(crate) const CASES: &[&[Case]] = &[
    kube_cases![Node, NODES;
        limits_are_those_of_the_control_group,
        limits_are_changed_up_and_down_while_a_pod_runs,
        a_change_of_limits_may_want_a_container_started_anew,
        limits_of_a_whole_pod_hold_its_guests,
        huge_limits_are_as_good_as_none,
        a_guest_that_fills_its_storage_is_evicted,
    ],
    kube_cases![Node, EVERYWHERE; each_quality_of_service_has_its_control_group],
];

const MIB: u64 = 1 << 20;
/// What kubelet takes at most to tell of a change of limits, where it does not forget it.
const SEEN_SOON: Duration = Duration::from_secs(45);

/// A service with a memory limit, ready.
fn limited(scene: &Scene<'_>, name: &str, memory: &str, cpu: &str) -> Result<Value> {
    let resources =
        json!({"limits": {"memory": memory, "cpu": cpu}, "requests": {"memory": "16Mi", "cpu": "10m"}});
    scene.ready(&scene.service(name).main("resources", resources))
}

/// The memory limit and the quota of a container's processor time, in bytes and in milliseconds of a tenth of a second.
fn limits(scene: &Scene<'_>, pod: &Value) -> Result<(u64, u64)> {
    let id = container_id(pod)?;
    let memory = scene.control(id, &["memory.max", "memory.limit_in_bytes"])?;
    let quota = scene.control(id, &["cpu.max", "cpu.cfs_quota_us"])?;
    let number = |text: &str| {
        let first = text.split_whitespace().next().unwrap_or_default();
        first.parse::<u64>().with_context(|| format!("the control group says {text:?}"))
    };
    Ok((number(&memory)?, number(&quota)? / 1000))
}

fn limits_are_those_of_the_control_group(scene: &Scene<'_>) -> Outcome {
    let pod = limited(scene, "limited", "64Mi", "500m")?;
    let found = limits(scene, &pod)?;
    ensure!(found == (64 * MIB, 50), "{found:?}");
    Ok(())
}

fn limits_are_changed_up_and_down_while_a_pod_runs(scene: &Scene<'_>) -> Outcome {
    let pod = limited(scene, "resized", "64Mi", "500m")?;
    let id = container_id(&pod)?.to_owned();
    ensure!(scene.fetch("resized", "/alloc?100").is_err(), "a guest has more than its limit");
    resize(scene, "192Mi", "900m")?;
    ensure!(limits(scene, &pod)? == (192 * MIB, 90), "{:?}", limits(scene, &pod)?);
    ensure!(
        scene.fetch("resized", "/alloc?100")?.trim() == "100",
        "the guest does not get what it may have now"
    );
    resize(scene, "96Mi", "300m")?;
    ensure!(limits(scene, &pod)? == (96 * MIB, 30), "{:?}", limits(scene, &pod)?);
    ensure!(scene.fetch("resized", "/alloc?100").is_err(), "a guest has more than its lowered limit");
    let pod = scene.kubectl.get(&["pod", "resized"])?;
    ensure!(container_id(&pod)? == id, "the container was started anew");
    Ok(())
}

fn a_change_of_limits_may_want_a_container_started_anew(scene: &Scene<'_>) -> Outcome {
    let resources =
        json!({"limits": {"memory": "64Mi", "cpu": "500m"}, "requests": {"memory": "16Mi", "cpu": "10m"}});
    let policy = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    let pod = scene.service("resized").main("resources", resources).main("resizePolicy", policy);
    let pod = pod.spec("restartPolicy", json!("Always"));
    let before = scene.ready(&pod)?;
    resize(scene, "192Mi", "500m")?;
    let after = scene.until("resized", "started anew", |pod| {
        is_ready(pod) && container_id(pod).ok() != container_id(&before).ok()
    })?;
    ensure!(limits(scene, &after)? == (192 * MIB, 50), "{:?}", limits(scene, &after)?);
    ensure!(scene.fetch("resized", "/alloc?100")?.trim() == "100");
    Ok(())
}

/// Changes the limits in place, and waits until kubelet says that they are and that it has done with it. kubelet 1.37 changes them,
/// but now and then keeps the old ones in the pod's status until it changes something again: then it is asked for another request.
fn resize(scene: &Scene<'_>, memory: &str, cpu: &str) -> Outcome {
    let change = |resources: Value| {
        let patch = json!({"spec": {"containers": [{"name": "main", "resources": resources}]}});
        let asks = ["patch", "pod", "resized", "--subresource=resize", "--patch", &patch.to_string()];
        scene.kubectl.run(&asks).map(drop)
    };
    change(json!({"limits": {"memory": memory, "cpu": cpu}}))?;
    for request in ["11m", "12m"] {
        let seen =
            scene.kubectl.until("pod/resized", "resized", SEEN_SOON, |pod| is_resized(pod, memory, cpu));
        if seen.is_ok() {
            return Ok(());
        }
        change(json!({"requests": {"cpu": request}}))?;
    }
    scene.until("resized", "resized", |pod| is_resized(pod, memory, cpu)).map(drop)
}

fn is_resized(pod: &Value, memory: &str, cpu: &str) -> bool {
    let status = &pod["status"];
    let limits = &status["containerStatuses"][0]["resources"]["limits"];
    let is_of_resizing = |condition: &Value| condition["type"] == "PodResizeInProgress";
    let is_done = !status["conditions"].as_array().into_iter().flatten().any(is_of_resizing);
    limits["memory"] == memory && limits["cpu"] == cpu && is_done
}

fn limits_of_a_whole_pod_hold_its_guests(scene: &Scene<'_>) -> Outcome {
    let limits = json!({"limits": {"memory": "64Mi", "cpu": "500m"}});
    let pod = scene.ready(&scene.service("whole").spec("resources", limits))?;
    ensure!(scene.fetch("whole", "/alloc?100").is_err(), "a guest has more than its pod may have");
    ensure!(scene.fetch("whole", "/alloc?20")?.trim() == "20", "a guest does not get what its pod may have");
    let groups = scene.control_groups(container_id(&pod)?)?;
    let files = groups.iter().map(|group| format!("{group}/../memory.max {group}/../memory.limit_in_bytes"));
    let read = format!("cat {} 2>/dev/null", files.collect::<Vec<_>>().join(" "));
    let limit = scene.node()?.shell(&read)?.stdout;
    // The shim's share is the RuntimeClass's to say.
    let class = scene.kubectl.get(&["runtimeclass", scene.place.class()])?;
    ensure!(class["overhead"]["podFixed"]["memory"] == "4Mi", "{class}");
    ensure!(limit.trim() == (68 * MIB).to_string(), "the pod's control group says {limit:?}");
    Ok(())
}

fn huge_limits_are_as_good_as_none(scene: &Scene<'_>) -> Outcome {
    let limits =
        json!({"limits": {"memory": "4Ti", "cpu": "1000"}, "requests": {"memory": "1Mi", "cpu": "1m"}});
    for (name, resources) in [("huge", limits), ("none", json!({}))] {
        scene.ready(&scene.service(name).main("resources", resources))?;
        ensure!(scene.fetch(name, "/alloc?100")?.trim() == "100", "{name}");
    }
    Ok(())
}

fn each_quality_of_service_has_its_control_group(scene: &Scene<'_>) -> Outcome {
    let same = json!({"cpu": "100m", "memory": "64Mi"});
    let classes = [
        ("guaranteed", json!({"limits": same, "requests": same}), "Guaranteed"),
        ("burstable", json!({"requests": same}), "Burstable"),
        ("besteffort", json!({}), "BestEffort"),
    ];
    for (name, resources, class) in classes {
        let pod = scene.pod(name, &["/rust-0.2.wasm", "sleep", "3600"]).main("resources", resources);
        let pod = scene.ready(&pod)?;
        ensure!(pod["status"]["qosClass"] == class, "{}", pod["status"]);
        let groups = scene.control_groups(container_id(&pod)?)?;
        let elsewhere = |path: &&String| path.contains(name) == (name == "guaranteed");
        ensure!(!groups.is_empty() && !groups.iter().any(|path| elsewhere(&path)), "{name}: {groups:?}");
    }
    Ok(())
}

fn a_guest_that_fills_its_storage_is_evicted(scene: &Scene<'_>) -> Outcome {
    let idle = scene.pod("volume", &["/rust-0.2.wasm", "sleep", "3600"]);
    let limits = json!({"limits": {"ephemeral-storage": "8Mi"}});
    let pods = [
        (
            idle.clone().called("root").main("resources", limits),
            "/tmp/file",
            "Pod ephemeral local storage usage exceeds the total limit of containers 8Mi",
        ),
        (
            idle.volume("scratch", json!({"emptyDir": {"sizeLimit": "8Mi"}}), "/scratch"),
            "/scratch/file",
            "Usage of EmptyDir volume \"scratch\" exceeds the limit \"8Mi\"",
        ),
    ];
    for (pod, file, _) in &pods {
        scene.ready(pod)?;
        scene.exec(pod.name(), &["/rust-0.2.wasm", "fill-file", file, "16"])?;
    }
    for (pod, _, message) in &pods {
        let ended = scene.until(pod.name(), "evicted", |pod| pod["status"]["reason"] == "Evicted")?;
        let said = ended["status"]["message"].as_str().unwrap_or_default();
        ensure!(said.contains(message), "not {message:?}: {}", ended["status"]);
    }
    Ok(())
}
