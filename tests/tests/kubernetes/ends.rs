//! How pods end, and what a person is told of it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use wisp_tests::kube::pod::Pod;
use wisp_tests::kube::scene::{Scene, ended_with, has_ended, terminated};
use wisp_tests::kube::suite::{Case, EVERYWHERE, NODES};
use wisp_tests::{Outcome, kube_cases};

pub(crate) const CASES: &[&[Case]] = &[
    kube_cases![Pods, EVERYWHERE;
        a_command_completes_and_its_logs_are_there,
        an_exit_code_is_an_error_with_that_code,
        memory_beyond_the_limit_is_oomkilled,
        a_command_ends_on_sigterm_at_once,
        a_service_ends_on_sigterm_with_exit_code_0,
        a_termination_message_is_the_guests_own,
    ],
    kube_cases![Pods, NODES;
        a_trap_explains_itself_in_describe,
        what_cannot_run_fails_with_one_sentence,
    ],
    // Wants a gate of the API server and of kubelet.
    kube_cases![Node, NODES; a_pod_names_the_signal_that_stops_it],
];

const WASM: &[&str] = &["/rust-0.1.wasm", "/rust-0.2.wasm", "/rust-0.3.wasm"];

fn a_command_completes_and_its_logs_are_there(scene: &Scene<'_>) -> Outcome {
    let names: Vec<_> = (1..=WASM.len()).map(|number| format!("hello-{number}")).collect();
    for (name, program) in names.iter().zip(WASM) {
        scene.create(&scene.pod(name, &[program, "hello"]))?;
    }
    for name in &names {
        let pod = scene.until(name, "ended", has_ended)?;
        ended_with(&pod, "Completed", 0)?;
        let logs = scene.logs(name)?;
        ensure!(logs.starts_with("hello from "), "{logs}");
    }
    Ok(())
}

fn an_exit_code_is_an_error_with_that_code(scene: &Scene<'_>) -> Outcome {
    let pod = scene.ended(&scene.pod("fails", &["/rust-0.1.wasm", "exit", "42"]))?;
    ended_with(&pod, "Error", 42)
}

fn a_trap_explains_itself_in_describe(scene: &Scene<'_>) -> Outcome {
    let pod = scene.pod("traps", &["/rust-0.2.wasm", "trap", "divide"]);
    let pod = pod.main("terminationMessagePolicy", json!("FallbackToLogsOnError"));
    ended_with(&scene.ended(&pod)?, "Error", 134)?;
    let described = scene.kubectl.run(&["describe", "pod", "traps"])?;
    ensure!(described.contains("integer divide by zero"), "{described}");
    ensure!(described.contains("command::traps::divide"), "no function is named: {described}");
    Ok(())
}

fn memory_beyond_the_limit_is_oomkilled(scene: &Scene<'_>) -> Outcome {
    // Page cache and tmpfs count too, and a guest that writes a file there is not asked first.
    let pod = scene.pod("eats", &["/rust-0.2.wasm", "fill-file", "/memory/file", "200"]);
    let pod = pod.volume("memory", json!({"emptyDir": {"medium": "Memory"}}), "/memory");
    let pod = pod.main("resources", json!({"limits": {"memory": "48Mi"}}));
    ended_with(&scene.ended(&pod)?, "OOMKilled", 137)
}

fn what_cannot_run_fails_with_one_sentence(scene: &Scene<'_>) -> Outcome {
    let missing = scene.pod("missing", &["/no-such.wasm"]);
    scene.create(&missing)?;
    let pod = scene.until("missing", "refused", |pod| !waiting(pod).is_null())?;
    let message = waiting(&pod)["message"].as_str().unwrap_or_default();
    ensure!(message.contains("/no-such.wasm"), "{}", waiting(&pod));
    ensure!(message.trim().lines().count() == 1, "more than a sentence: {message}");
    Ok(())
}

/// Why a pod's first container waits, where that is not that it is on its way.
fn waiting(pod: &Value) -> &Value {
    let state = &pod["status"]["containerStatuses"][0]["state"];
    match state["waiting"]["reason"].as_str() {
        Some("ContainerCreating" | "PodInitializing") => &Value::Null,
        Some(_) => &state["waiting"],
        None => &state["terminated"],
    }
}

/// How long a pod takes from `kubectl delete` until it is gone.
fn time_to_delete(scene: &Scene<'_>, pod: &str) -> Result<Duration> {
    let start = Instant::now();
    scene.delete(pod, Duration::from_secs(100))?;
    Ok(start.elapsed())
}

fn a_command_ends_on_sigterm_at_once(scene: &Scene<'_>) -> Outcome {
    let pod =
        scene.pod("loops", &["/rust-0.2.wasm", "loop"]).spec("terminationGracePeriodSeconds", json!(90));
    scene.ready(&pod)?;
    let took = time_to_delete(scene, "loops")?;
    // Far below the grace period, however busy the machine.
    ensure!(took < Duration::from_secs(45), "it took {took:?} of a grace period of 90 s");
    Ok(())
}

fn a_service_ends_on_sigterm_with_exit_code_0(scene: &Scene<'_>) -> Outcome {
    let pod = scene.service("serves").spec("terminationGracePeriodSeconds", json!(90));
    let pod = pod.spec("restartPolicy", json!("Always"));
    scene.ready(&pod)?;
    ensure!(scene.fetch("serves", "/hello")?.starts_with("hello"));
    ended_with(&deleted(scene, "serves")?, "Completed", 0)
}

fn a_pod_names_the_signal_that_stops_it(scene: &Scene<'_>) -> Outcome {
    let stopped_by = |pod: Pod, signal: &str| {
        let pod = pod.spec("os", json!({"name": "linux"})).spec("terminationGracePeriodSeconds", json!(90));
        scene.ready(
            &pod.spec("restartPolicy", json!("Always")).main("lifecycle", json!({"stopSignal": signal})),
        )
    };
    stopped_by(scene.pod("loops", &["/rust-0.2.wasm", "loop"]), "SIGUSR1")?;
    ended_with(&deleted(scene, "loops")?, "Error", 138)?;
    stopped_by(scene.service("serves"), "SIGQUIT")?;
    ended_with(&deleted(scene, "serves")?, "Completed", 0)
}

/// Deletes a pod that has [time](time_to_delete) until its container is killed; the pod as it was when its container had ended, which is
/// seen by whoever watches while it goes.
fn deleted(scene: &Scene<'_>, pod: &'static str) -> Result<Value> {
    let watching = scene.kubectl.clone();
    let ended = std::thread::spawn(move || {
        watching
            .until(&format!("pod/{pod}"), "ended", wisp_tests::kube::PATIENCE, |pod| terminated(pod).is_ok())
    });
    let took = time_to_delete(scene, pod)?;
    ensure!(took < Duration::from_secs(45), "it took {took:?} of a grace period of 90 s");
    ended.join().map_err(|_| anyhow::anyhow!("the watch panicked"))?
}

fn a_termination_message_is_the_guests_own(scene: &Scene<'_>) -> Outcome {
    let pod = scene.pod("says", &["/rust-0.2.wasm", "write", "/dev/termination-log", "all is said"]);
    let pod = scene.ended(&pod)?;
    let message = terminated(&pod)?["message"].as_str().context("no message")?;
    ensure!(message == "all is said", "{message}");
    Ok(())
}
