//! Volumes and identity.

use anyhow::ensure;
use serde_json::json;
use wisp_tests::kube::eventually;
use wisp_tests::kube::pod::Pod;
use wisp_tests::kube::scene::{Scene, ended_with};
use wisp_tests::kube::suite::{BOTH_SANDBOXES, Case, HOST, NODES};
use wisp_tests::{Outcome, kube_cases};

pub(crate) const CASES: &[&[Case]] = &[
    kube_cases![Pods, NODES; configuration_secrets_and_facts_of_the_pod_are_files],
    kube_cases![Pods, BOTH_SANDBOXES;
        a_changed_config_map_is_seen,
        a_sub_path_is_all_that_is_seen,
        a_read_only_root_and_mount_are_not_written,
    ],
    kube_cases![Pods, HOST;
        a_guest_runs_as_the_user_and_groups_of_the_pod,
        a_pod_that_must_not_be_root_is_refused_as_root,
    ],
];

/// What a guest prints of a file.
fn cat(scene: &Scene<'_>, pod: &str, path: &str) -> anyhow::Result<String> {
    scene.exec(pod, &["/rust-0.2.wasm", "cat", path])
}

fn idle(scene: &Scene<'_>, name: &str) -> Pod {
    scene.pod(name, &["/rust-0.2.wasm", "sleep", "3600"])
}

fn config_map(scene: &Scene<'_>, value: &str) -> Outcome {
    scene.kubectl.apply(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"key": value, "other": "other"}}))
}

fn configuration_secrets_and_facts_of_the_pod_are_files(scene: &Scene<'_>) -> Outcome {
    config_map(scene, "one")?;
    scene.kubectl.apply(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hidden"}, "stringData": {"word": "sesame"}}))?;
    let facts =
        json!({"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}});
    let token =
        json!({"projected": {"sources": [{"serviceAccountToken": {"path": "token", "audience": "tests"}}]}});
    let environment = json!([
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "hidden", "key": "word"}}},
    ]);
    let pod = idle(scene, "reads").label("colour", "green").main("env", environment);
    let pod = pod.volume("settings", json!({"configMap": {"name": "settings"}}), "/settings");
    let pod = pod.volume("hidden", json!({"secret": {"secretName": "hidden"}}), "/hidden");
    scene.ready(&pod.volume("facts", facts, "/facts").volume("token", token, "/token"))?;
    for (path, wanted) in
        [("/settings/key", "one"), ("/hidden/word", "sesame"), ("/facts/labels", "colour=\"green\"")]
    {
        let seen = cat(scene, "reads", path)?;
        ensure!(seen.trim() == wanted, "{path} is {seen:?}");
    }
    let token = cat(scene, "reads", "/token/token")?;
    ensure!(token.split('.').count() == 3, "no token: {token:?}");
    let account = cat(scene, "reads", "/var/run/secrets/kubernetes.io/serviceaccount/namespace")?;
    ensure!(account == scene.kubectl.namespace, "{account}");
    let environment = scene.exec("reads", &["/rust-0.2.wasm", "env"])?;
    ensure!(environment.contains("POD=reads\n") && environment.contains("WORD=sesame\n"), "{environment}");
    Ok(())
}

fn a_changed_config_map_is_seen(scene: &Scene<'_>) -> Outcome {
    config_map(scene, "one")?;
    // A running guest sees it, and not only one that is started after the change.
    let pod = scene.service("reads");
    scene.ready(&pod.volume("settings", json!({"configMap": {"name": "settings"}}), "/settings"))?;
    ensure!(scene.fetch("reads", "/file?/settings/key")? == "one");
    config_map(scene, "two")?;
    eventually("the change is seen", || {
        Ok((scene.fetch("reads", "/file?/settings/key")? == "two").then_some(()))
    })
}

fn a_sub_path_is_all_that_is_seen(scene: &Scene<'_>) -> Outcome {
    config_map(scene, "one")?;
    let pod = idle(scene, "reads").volume("scratch", json!({"emptyDir": {}}), "/scratch");
    let pod = pod.volume("settings", json!({"configMap": {"name": "settings"}}), "/all");
    let pod = pod.mount(json!({"name": "settings", "mountPath": "/data/key.txt", "subPath": "key"}));
    scene.ready(&pod.mount(json!({"name": "scratch", "mountPath": "/part", "subPath": "a/b"})))?;
    ensure!(cat(scene, "reads", "/data/key.txt")? == "one");
    scene.exec("reads", &["/rust-0.2.wasm", "write", "/part/file", "deep"])?;
    ensure!(cat(scene, "reads", "/scratch/a/b/file")? == "deep");
    Ok(())
}

fn a_read_only_root_and_mount_are_not_written(scene: &Scene<'_>) -> Outcome {
    config_map(scene, "one")?;
    let pod = idle(scene, "fixed").main("securityContext", json!({"readOnlyRootFilesystem": true}));
    let pod = pod.volume("scratch", json!({"emptyDir": {}}), "/scratch");
    scene.ready(&pod.mount(json!({"name": "scratch", "mountPath": "/fixed", "readOnly": true})))?;
    for (path, code) in [("/tmp/file", 1), ("/fixed/file", 1), ("/scratch/file", 0)] {
        let write = ["exec", "fixed", "--", "/rust-0.2.wasm", "write", path, "text"];
        let ended = scene.kubectl.finish(&write)?;
        ensure!(ended.code == code, "writing {path}: {ended:?}");
    }
    Ok(())
}

fn a_guest_runs_as_the_user_and_groups_of_the_pod(scene: &Scene<'_>) -> Outcome {
    let pod = scene.pod("user", &["/rust-0.2.wasm", "sleep", "3600"]);
    let pod = pod.spec("securityContext", json!({"runAsUser": 1234, "runAsGroup": 2345, "fsGroup": 3456}));
    scene.ready(&pod.volume("scratch", json!({"emptyDir": {}}), "/scratch"))?;
    // Only by its group may it write there.
    scene.exec("user", &["/rust-0.2.wasm", "write", "/scratch/file", "text"])?;
    let identity = scene.exec("user", &["/bin/id"])?;
    ensure!(
        identity.contains("uid=1234") && identity.contains("gid=2345") && identity.contains("3456"),
        "{identity}"
    );
    let owner = scene.exec("user", &["/bin/ls", "-ln", "/scratch/file"])?;
    ensure!(owner.contains(" 1234 ") && owner.contains(" 3456 "), "{owner}");
    Ok(())
}

fn a_pod_that_must_not_be_root_is_refused_as_root(scene: &Scene<'_>) -> Outcome {
    let pod = scene.pod("root", &["/rust-0.2.wasm"]).spec("securityContext", json!({"runAsNonRoot": true}));
    scene.create(&pod)?;
    let pod = scene.until("root", "refused", |pod| {
        pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "CreateContainerConfigError"
    });
    pod?;
    let pod = scene
        .pod("other", &["/rust-0.2.wasm"])
        .spec("securityContext", json!({"runAsNonRoot": true, "runAsUser": 7}));
    ended_with(&scene.ended(&pod)?, "Completed", 0)
}
