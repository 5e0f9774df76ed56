//! Volumes.

use std::thread;
use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use wisp_tests::bed;
use wisp_tests::kube::pod::Pod;
use wisp_tests::kube::scene::{Scene, ended_with};
use wisp_tests::kube::suite::{Case, EVERYWHERE, NODES};
use wisp_tests::kube::{PATIENCE, eventually};
use wisp_tests::{Outcome, kube_cases};

pub(crate) const CASES: &[&[Case]] = &[
    kube_cases![Pods, NODES; configuration_secrets_and_facts_of_the_pod_are_files],
    kube_cases![Pods, EVERYWHERE;
        a_changed_config_map_is_seen,
        a_sub_path_is_all_that_is_seen,
        a_read_only_root_and_mount_are_not_written,
    ],
    kube_cases![Pods, NODES; an_image_is_a_volume, what_is_read_only_may_be_so_to_its_depth],
    kube_cases![Node, NODES; a_claimed_volume_outlives_its_pod],
    kube_cases![OnRequest, NODES; a_token_is_renewed_under_a_running_guest],
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

/// kubelet renews a token after four fifths of its time, which is ten minutes at least.
fn a_token_is_renewed_under_a_running_guest(scene: &Scene<'_>) -> Outcome {
    let token = json!({"serviceAccountToken": {"path": "token", "expirationSeconds": 600}});
    let pod = scene.service("reads").volume("token", json!({"projected": {"sources": [token]}}), "/token");
    scene.ready(&pod)?;
    let read = || scene.fetch("reads", "/file?/token/token");
    let first = read()?;
    ensure!(first.split('.').count() == 3, "no token: {first:?}");
    bed::eventually("the token is another", 6 * PATIENCE, || {
        // Nothing tells of it but the file, each look is an exec, and there are eight minutes of them.
        thread::sleep(Duration::from_secs(5));
        Ok((read()? != first).then_some(()))
    })
}

fn a_sub_path_is_all_that_is_seen(scene: &Scene<'_>) -> Outcome {
    config_map(scene, "one")?;
    let pod = idle(scene, "reads").volume("scratch", json!({"emptyDir": {}}), "/scratch");
    let pod = pod.volume("settings", json!({"configMap": {"name": "settings"}}), "/all");
    let pod = pod.mount(json!({"name": "settings", "mountPath": "/data/key.txt", "subPath": "key"}));
    let name = json!([{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]);
    let own = json!({"name": "scratch", "mountPath": "/own", "subPathExpr": "of/$(POD)"});
    let pod = pod.main("env", name).mount(own);
    scene.ready(&pod.mount(json!({"name": "scratch", "mountPath": "/part", "subPath": "a/b"})))?;
    ensure!(cat(scene, "reads", "/data/key.txt")? == "one");
    scene.exec("reads", &["/rust-0.2.wasm", "write", "/part/file", "deep"])?;
    ensure!(cat(scene, "reads", "/scratch/a/b/file")? == "deep");
    scene.exec("reads", &["/rust-0.2.wasm", "write", "/own/file", "its own"])?;
    ensure!(cat(scene, "reads", "/scratch/of/reads/file")? == "its own");
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

/// Requires that neither a guest nor a native program can write a file.
fn unwritable(scene: &Scene<'_>, pod: &str, path: &str) -> Outcome {
    for program in ["/rust-0.2.wasm", "/native"] {
        let written = scene.kubectl.finish(&["exec", pod, "--", program, "write", path, "text"])?;
        ensure!(written.code == 1, "{program} writes {path}: {written:?}");
    }
    Ok(())
}

fn an_image_is_a_volume(scene: &Scene<'_>) -> Outcome {
    let image = json!({"image": {"reference": scene.image}});
    scene.ready(&idle(scene, "reads").volume("image", image, "/image"))?;
    let seen = cat(scene, "reads", "/image/data/greeting.txt")?;
    ensure!(seen == "a file of the image\n", "{seen}");
    unwritable(scene, "reads", "/image/data/file")
}

fn what_is_read_only_may_be_so_to_its_depth(scene: &Scene<'_>) -> Outcome {
    let pod = idle(scene, "fixed").volume("scratch", json!({"emptyDir": {}}), "/scratch");
    let fixed =
        json!({"name": "scratch", "mountPath": "/fixed", "readOnly": true, "recursiveReadOnly": "Enabled"});
    let pod = scene.ready(&pod.mount(fixed))?;
    let mounts = &pod["status"]["containerStatuses"][0]["volumeMounts"];
    let mut mounts = mounts.as_array().into_iter().flatten();
    let so = mounts.any(|mount| mount["mountPath"] == "/fixed" && mount["recursiveReadOnly"] == "Enabled");
    ensure!(so, "kubelet does not say that it is: {}", pod["status"]);
    unwritable(scene, "fixed", "/fixed/file")
}

fn a_claimed_volume_outlives_its_pod(scene: &Scene<'_>) -> Outcome {
    let name = scene.kubectl.namespace.clone();
    let folder = format!("/var/tmp/{name}");
    let size = json!({"storage": "1Mi"});
    scene.kubectl.apply(&json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": size,
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "",
            "hostPath": {"path": folder, "type": "DirectoryOrCreate"},
        },
    }))?;
    let claimed = claim(scene, &name, &size);
    scene.kubectl.run(&["delete", "persistentvolume", &name, "--wait=false"])?;
    scene.node()?.shell(&format!("rm -rf {folder}"))?.success()?;
    claimed
}

/// One pod writes to a volume, and the next one reads what it wrote.
fn claim(scene: &Scene<'_>, volume: &str, size: &Value) -> Outcome {
    scene.kubectl.apply(&json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "claim"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "",
            "volumeName": volume,
            "resources": {"requests": size},
        },
    }))?;
    for (pod, verb) in [("writes", &["write", "/kept/file", "kept"][..]), ("reads", &["cat", "/kept/file"])] {
        let pod = scene.pod(pod, &[&["/rust-0.2.wasm"], verb].concat());
        let claim = json!({"persistentVolumeClaim": {"claimName": "claim"}});
        let pod = pod.volume("claim", claim, "/kept");
        ended_with(&scene.ended(&pod)?, "Completed", 0)?;
        ensure!(pod.name() == "writes" || scene.logs("reads")? == "kept");
        scene.kubectl.run(&["delete", "pod", pod.name(), "--timeout=100s"])?;
    }
    Ok(())
}
