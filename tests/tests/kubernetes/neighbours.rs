//! Pods of several containers, Wasm and native in any order.

use anyhow::ensure;
use serde_json::json;
use wisp_tests::kube::scene::{Scene, ended_with};
use wisp_tests::kube::suite::{Case, EVERYWHERE};
use wisp_tests::{Outcome, kube_cases};

pub(crate) const CASES: &[&[Case]] = &[kube_cases![Pods, EVERYWHERE;
    init_containers_and_sidecars_of_both_kinds_work_together,
    containers_share_network_and_volumes,
    shared_processes_are_seen_by_a_native_neighbour,
]];

fn init_containers_and_sidecars_of_both_kinds_work_together(scene: &Scene<'_>) -> Outcome {
    let mount = json!([{"name": "shared", "mountPath": "/shared"}]);
    let mut wasm_first =
        scene.container("wasm-first", &["/rust-0.2.wasm", "write", "/shared/one", "of Wasm, "]);
    let mut native_first =
        scene.container("native-first", &["/native", "write", "/shared/two", "then native"]);
    let mut sidecar = scene.container("sidecar", &["/http-0.2.wasm"]);
    sidecar["restartPolicy"] = json!("Always");
    sidecar["startupProbe"] =
        json!({"httpGet": {"path": "/hello", "port": 8080}, "periodSeconds": 1, "failureThreshold": 60});
    for container in [&mut wasm_first, &mut native_first, &mut sidecar] {
        container["volumeMounts"] = mount.clone();
    }
    // It finds what those before it have left, by the service beside it.
    let pod = scene.pod("main", &["/rust-0.2.wasm", "fetch", "http://127.0.0.1:8080/file?/shared/one"]);
    let native = scene.container("native", &["/bin/wget", "-qO-", "http://127.0.0.1:8080/file?/shared/two"]);
    let pod = pod.first(wasm_first).first(native_first).first(sidecar).beside(native);
    let pod = pod.volume("shared", json!({"emptyDir": {}}), "/shared");
    let pod = scene.ended(&pod)?;
    ended_with(&pod, "Completed", 0)?;
    let seen = scene.kubectl.run(&["logs", "main", "--container=main"])?
        + &scene.kubectl.run(&["logs", "main", "--container=native"])?;
    ensure!(seen == "200\nof Wasm, then native", "{seen}");
    Ok(())
}

fn containers_share_network_and_volumes(scene: &Scene<'_>) -> Outcome {
    let pod = scene.service("both").volume("shared", json!({"emptyDir": {"medium": "Memory"}}), "/shared");
    let mut native = scene.container("native", &["/bin/sleep", "3600"]);
    native["volumeMounts"] = json!([{"name": "shared", "mountPath": "/shared"}]);
    // Process 1 of its namespace has no ear for SIGTERM.
    scene.ready(&pod.beside(native).spec("terminationGracePeriodSeconds", json!(1)))?;
    let native = |command: &[&str]| {
        scene.kubectl.run(&[&["exec", "both", "--container=native", "--"], command].concat())
    };
    native(&["/bin/sh", "-c", "echo from native >/shared/file"])?;
    let seen = native(&["/bin/wget", "-qO-", "http://127.0.0.1:8080/file?/shared/file"])?;
    ensure!(seen == "from native\n", "{seen}");
    Ok(())
}

fn shared_processes_are_seen_by_a_native_neighbour(scene: &Scene<'_>) -> Outcome {
    let pod =
        scene.pod("shared", &["/rust-0.2.wasm", "sleep", "3600"]).spec("shareProcessNamespace", json!(true));
    let pod = pod.spec("terminationGracePeriodSeconds", json!(1));
    scene.ready(&pod.beside(scene.container("native", &["/bin/sleep", "3600"])))?;
    let seen = scene.kubectl.run(&["exec", "shared", "--container=native", "--", "/bin/ps"])?;
    ensure!(seen.contains("rust-0.2.wasm"), "the guest's process is not seen: {seen}");
    Ok(())
}
