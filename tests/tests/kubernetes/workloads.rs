//! What controllers make of pods of Wasm.

use anyhow::ensure;
use serde_json::{Value, json};
use wisp_tests::kube::scene::Scene;
use wisp_tests::kube::suite::{Case, NODES, Place};
use wisp_tests::kube::{PATIENCE, eventually};
use wisp_tests::{Outcome, kube_cases};

pub(crate) const CASES: &[&[Case]] = &[
    kube_cases![Pods, NODES;
        a_cron_job_runs,
        a_job_is_completed,
        a_jobs_failure_policy_sees_exit_codes,
        a_stateful_set_counts_up,
        a_daemon_set_is_on_its_nodes,
    ],
    kube_cases![Node, NODES; a_static_pod_runs],
    kube_cases![Alone, NODES; completed_pods_that_are_kept_hold_nothing],
];

/// An object that makes pods, in the group of Deployments or Jobs.
fn maker(kind: &str, name: &str, spec: Value) -> Value {
    let group = if kind.ends_with("Job") { "batch/v1" } else { "apps/v1" };
    json!({"apiVersion": group, "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn a_job_is_completed(scene: &Scene<'_>) -> Outcome {
    let pod = scene.pod("once", &["/rust-0.1.wasm", "hello"]);
    scene.kubectl.apply(&maker(
        "Job",
        "twice",
        json!({"completions": 2, "parallelism": 2, "template": pod.template()}),
    ))?;
    scene.kubectl.run(&["wait", "--for=condition=Complete", "job/twice", "--timeout=120s"])?;
    let logs = scene.kubectl.run(&["logs", "job/twice"])?;
    ensure!(logs.contains("hello from Rust"), "{logs}");
    Ok(())
}

/// What a pod that has run to its end may still have on its node are files: its logs, and what containerd knows of it.
fn completed_pods_that_are_kept_hold_nothing(scene: &Scene<'_>) -> Outcome {
    let node = scene.node()?;
    let before = node.inventory()?;
    // The other node has one processor.
    let count = if scene.place == Place::Uml { 20 } else { 100 };
    let pod = scene.pod("once", &["/rust-0.1.wasm", "hello"]);
    let spec = json!({"completions": count, "parallelism": 20, "template": pod.template()});
    scene.kubectl.apply(&maker("Job", "kept", spec))?;
    scene.kubectl.until("job/kept", "completed", 3 * PATIENCE, |job| job["status"]["succeeded"] == count)?;
    let mut held = Vec::new();
    let nothing = eventually("completed pods hold nothing", || {
        let new: Vec<_> = node.inventory()?.difference(&before).cloned().collect();
        held = new.into_iter().filter(|line| is_held(line)).collect();
        Ok(held.is_empty().then_some(()))
    });
    ensure!(nothing.is_ok(), "they hold:\n{}", held.join("\n"));
    let kept = scene.kubectl.get(&["pods", "--selector=job-name=kept"])?;
    ensure!(kept["items"].as_array().map(Vec::len) == Some(count), "pods were removed");
    Ok(())
}

/// Whether a line of an inventory is of more than a file.
fn is_held(line: &str) -> bool {
    let kinds = ["control group ", "mount ", "link ", "/run/netns/", "/var/lib/cni/"];
    kinds.iter().any(|kind| line.starts_with(kind)) || line.contains("wisp-guest")
}

fn a_jobs_failure_policy_sees_exit_codes(scene: &Scene<'_>) -> Outcome {
    let pod = scene.pod("fails", &["/rust-0.1.wasm", "exit", "42"]);
    let rule = json!({"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}});
    let spec = json!({"backoffLimit": 6, "podFailurePolicy": {"rules": [rule]}, "template": pod.template()});
    scene.kubectl.apply(&maker("Job", "fails", spec))?;
    let failed = scene.kubectl.until("job/fails", "failed", PATIENCE, |job| {
        let conditions = job["status"]["conditions"].as_array();
        conditions
            .into_iter()
            .flatten()
            .any(|condition| condition["type"] == "Failed" && condition["reason"] == "PodFailurePolicy")
    })?;
    ensure!(failed["status"]["failed"] == 1, "it was tried again: {}", failed["status"]);
    Ok(())
}

fn a_cron_job_runs(scene: &Scene<'_>) -> Outcome {
    let pod = scene.pod("now", &["/rust-0.1.wasm", "clock"]);
    let job = json!({"spec": {"template": pod.template()}});
    scene.kubectl.apply(&maker(
        "CronJob",
        "minutely",
        json!({"schedule": "* * * * *", "jobTemplate": job}),
    ))?;
    scene
        .kubectl
        .until("cronjob/minutely", "run", 2 * PATIENCE, |job| job["status"]["lastSuccessfulTime"].is_string())
        .map(drop)
}

fn a_stateful_set_counts_up(scene: &Scene<'_>) -> Outcome {
    let pod = scene.service("counted").label("app", "counted").spec("restartPolicy", json!("Always"));
    let spec = json!({"replicas": 2, "serviceName": "counted", "selector": {"matchLabels": {"app": "counted"}}, "template": pod.template()});
    scene.kubectl.apply(&maker("StatefulSet", "counted", spec))?;
    scene.kubectl.run(&["rollout", "status", "statefulset/counted", "--timeout=120s"])?;
    for name in ["counted-0", "counted-1"] {
        ensure!(scene.fetch(name, "/hello")?.starts_with("hello"));
        let seen = scene.exec(name, &["/bin/cat", "/etc/hostname"])?;
        ensure!(seen.trim() == name, "{name} is called {seen}");
    }
    Ok(())
}

fn a_daemon_set_is_on_its_nodes(scene: &Scene<'_>) -> Outcome {
    let pod = scene.service("everywhere").label("app", "everywhere").spec("restartPolicy", json!("Always"));
    let spec = json!({"selector": {"matchLabels": {"app": "everywhere"}}, "template": pod.template()});
    scene.kubectl.apply(&maker("DaemonSet", "everywhere", spec))?;
    scene.kubectl.run(&["rollout", "status", "daemonset/everywhere", "--timeout=120s"]).map(drop)
}

fn a_static_pod_runs(scene: &Scene<'_>) -> Outcome {
    let mut pod = scene.service("of-the-node").manifest().clone();
    pod["metadata"]["namespace"] = json!(scene.kubectl.namespace);
    let path = "/var/lib/kubelet/manifests/of-the-node.json";
    scene.node()?.shell(&format!("cat >{path} <<'END'\n{pod}\nEND\n"))?.success()?;
    let name = format!("of-the-node-{}", scene.node()?.name());
    let ready = scene
        .kubectl
        .run(&["wait", "--for=create", &format!("pod/{name}"), "--timeout=120s"])
        .and_then(|_| scene.until(&name, "ready", wisp_tests::kube::cluster::is_ready));
    scene.node()?.shell(&format!("rm {path}"))?.success()?;
    ready?;
    scene.kubectl.run(&["wait", "--for=delete", &format!("pod/{name}"), "--timeout=120s"]).map(drop)
}
