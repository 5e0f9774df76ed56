//! When a container that has ended is started again.

use anyhow::ensure;
use serde_json::{Value, json};
use wisp_tests::kube::cluster::is_ready;
use wisp_tests::kube::eventually;
use wisp_tests::kube::scene::{Scene, has_ended};
use wisp_tests::kube::suite::{Case, EVERYWHERE, NODES};
use wisp_tests::{Outcome, kube_cases};

pub(crate) const CASES: &[&[Case]] = &[
    kube_cases![Pods, EVERYWHERE;
        a_pod_is_restarted_as_its_policy_says,
        the_log_of_the_run_before_is_kept,
        a_container_that_keeps_failing_is_restarted_ever_later,
    ],
    kube_cases![Pods, NODES;
        a_container_is_restarted_by_the_rules_for_its_exit_code,
    ],
    kube_cases![Node, NODES;
        wisp_top_counts_restarts_as_kubelet_does,
    ],
];

/// The status of a pod's first container.
fn container(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]
}

fn restart_count(pod: &Value) -> i64 {
    container(pod)["restartCount"].as_i64().unwrap_or_default()
}

fn a_pod_is_restarted_as_its_policy_says(scene: &Scene<'_>) -> Outcome {
    let policies = [("Never", "0", 0), ("OnFailure", "0", 0), ("OnFailure", "3", 1), ("Always", "0", 1)];
    for (index, (policy, code, _)) in policies.iter().enumerate() {
        let pod = scene.pod(&format!("pod-{index}"), &["/rust-0.1.wasm", "exit", code]);
        scene.create(&pod.spec("restartPolicy", json!(policy)))?;
    }
    for (index, (policy, code, restarts)) in policies.iter().enumerate() {
        let pod = scene.until(&format!("pod-{index}"), "through", |pod| {
            restart_count(pod) >= *restarts && (*restarts > 0 || has_ended(pod))
        })?;
        ensure!(*restarts > 0 || restart_count(&pod) == 0, "{policy} restarted exit code {code}");
    }
    Ok(())
}

fn a_container_is_restarted_by_the_rules_for_its_exit_code(scene: &Scene<'_>) -> Outcome {
    let rules = json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]);
    let pod = |name: &str, code: &str| {
        let pod = scene.pod(name, &["/rust-0.1.wasm", "exit", code]);
        pod.main("restartPolicy", json!("Never")).main("restartPolicyRules", rules.clone())
    };
    scene.create(&pod("again", "42"))?;
    let ended = scene.ended(&pod("for-good", "41"))?;
    ensure!(restart_count(&ended) == 0, "{}", ended["status"]);
    scene.until("again", "restarted", |pod| restart_count(pod) > 0).map(drop)
}

fn the_log_of_the_run_before_is_kept(scene: &Scene<'_>) -> Outcome {
    let pod = scene.pod("again", &["/rust-0.1.wasm", "exit", "5"]).spec("restartPolicy", json!("Always"));
    // The one that fails says why on stderr.
    let pod = pod.main("command", json!(["/rust-0.1.wasm", "cat", "/not-there"]));
    scene.create(&pod)?;
    scene.until("again", "restarted", |pod| restart_count(pod) > 0)?;
    // Kubelet may just have removed it for a later run, whose log is asked for next.
    eventually("the log of the run before", || {
        let before = scene.kubectl.finish(&["logs", "again", "--previous"])?;
        Ok(before.stdout.contains("/not-there").then_some(()))
    })
}

/// For how many seconds kubelet waits before it starts a pod's first container again, where that is in a loop of crashes.
fn back_off(pod: &Value) -> Option<u64> {
    let waiting = &container(pod)["state"]["waiting"];
    let message = waiting["message"].as_str().filter(|_| waiting["reason"] == "CrashLoopBackOff")?;
    // `back-off 10s restarting failed container=main …`
    message.strip_prefix("back-off ")?.split_whitespace().next()?.strip_suffix('s')?.parse().ok()
}

fn a_container_that_keeps_failing_is_restarted_ever_later(scene: &Scene<'_>) -> Outcome {
    let pod = scene.pod("fails", &["/rust-0.1.wasm", "exit", "9"]).spec("restartPolicy", json!("Always"));
    scene.create(&pod)?;
    let first = back_off(&scene.until("fails", "in a loop of crashes", |pod| back_off(pod).is_some())?);
    let pod = scene.until("fails", "longer in it", |pod| back_off(pod) > first)?;
    let ended = &container(&pod)["lastState"]["terminated"];
    ensure!(ended["exitCode"] == 9 && ended["reason"] == "Error", "{ended}");
    ensure!(restart_count(&pod) > 1, "{}", container(&pod));
    scene.kubectl.event("BackOff", "Back-off restarting failed container main")
}

fn wisp_top_counts_restarts_as_kubelet_does(scene: &Scene<'_>) -> Outcome {
    scene.ready(&scene.service("serves").spec("restartPolicy", json!("Always")))?;
    for restarts in 0..2 {
        let pod =
            scene.until("serves", "restarted", |pod| restart_count(pod) == restarts && is_ready(pod))?;
        let shown = scene.wisp_top("serves")?;
        ensure!(shown["pod"]["restarts"] == restarts, "{shown}");
        let id = container(&pod)["containerID"].as_str().unwrap_or_default();
        ensure!(shown["id"].as_str() == id.strip_prefix("containerd://"), "{id} is not that of {shown}");
        // The container ends under it.
        scene.kubectl.finish(&["exec", "serves", "--", "/bin/kill", "-TERM", "1"])?;
    }
    Ok(())
}
