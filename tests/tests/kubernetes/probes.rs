//! Probes and hooks.

use anyhow::{Context, ensure};
use serde_json::json;
use wisp_tests::kube::scene::Scene;
use wisp_tests::kube::suite::{Case, EVERYWHERE, NODES};
use wisp_tests::{Outcome, kube_cases};

pub(crate) const CASES: &[&[Case]] = &[
    kube_cases![Pods, NODES;
        probes_of_every_kind_find_a_service_ready,
        a_looping_guest_is_found_and_restarted,
    ],
    kube_cases![Pods, EVERYWHERE;
        a_failing_readiness_probe_keeps_a_pod_out,
        a_hook_runs_after_the_start,
    ],
    kube_cases![Pods, NODES; a_hook_may_be_to_sleep],
    kube_cases![Node, NODES; a_hook_runs_before_the_stop, hooks_ask_by_http_with_the_headers_that_they_are_told],
];

fn probes_of_every_kind_find_a_service_ready(scene: &Scene<'_>) -> Outcome {
    let probes = [
        ("http", json!({"httpGet": {"path": "/hello", "port": 8080}})),
        ("tcp", json!({"tcpSocket": {"port": 8080}})),
        ("exec", json!({"exec": {"command": ["/rust-0.2.wasm", "hello"]}})),
        ("grpc", json!({"grpc": {"port": 8080}})),
    ];
    for (name, probe) in &probes {
        let mut startup = probe.clone();
        startup["failureThreshold"] = json!(60);
        startup["periodSeconds"] = json!(1);
        let pod = scene.service(name).main("startupProbe", startup);
        scene.create(&pod.main("readinessProbe", probe.clone()).main("livenessProbe", probe.clone()))?;
    }
    for (name, _) in &probes {
        scene.until(name, "ready", wisp_tests::kube::cluster::is_ready)?;
    }
    Ok(())
}

fn a_failing_readiness_probe_keeps_a_pod_out(scene: &Scene<'_>) -> Outcome {
    let probe = json!({"httpGet": {"path": "/not-there", "port": 8080}, "periodSeconds": 1});
    scene.create(&scene.service("unready").main("readinessProbe", probe))?;
    // Before the service listens the probe fails for another reason.
    scene.kubectl.event("Unhealthy", "statuscode: 404")?;
    let pod = scene.kubectl.get(&["pod", "unready"])?;
    ensure!(!wisp_tests::kube::cluster::is_ready(&pod), "{}", pod["status"]);
    Ok(())
}

fn a_looping_guest_is_found_and_restarted(scene: &Scene<'_>) -> Outcome {
    let probe = json!({"exec": {"command": ["/rust-0.2.wasm", "cat", "/not-there"]}, "periodSeconds": 1, "failureThreshold": 1});
    let pod = scene.pod("loops", &["/rust-0.2.wasm", "loop"]).spec("restartPolicy", json!("Always"));
    scene.create(&pod.main("livenessProbe", probe))?;
    let pod = scene.until("loops", "restarted", |pod| {
        pod["status"]["containerStatuses"][0]["restartCount"].as_i64() > Some(0)
    })?;
    let before = &pod["status"]["containerStatuses"][0]["lastState"]["terminated"];
    ensure!(before["exitCode"] == 143, "{before}");
    Ok(())
}

fn a_hook_runs_after_the_start(scene: &Scene<'_>) -> Outcome {
    let hook =
        json!({"postStart": {"exec": {"command": ["/rust-0.2.wasm", "write", "/tmp/started", "yes"]}}});
    scene.ready(&scene.pod("hooked", &["/rust-0.2.wasm", "sleep", "3600"]).main("lifecycle", hook))?;
    let seen = scene.exec("hooked", &["/rust-0.2.wasm", "cat", "/tmp/started"])?;
    ensure!(seen == "yes", "{seen}");
    Ok(())
}

fn a_hook_runs_before_the_stop(scene: &Scene<'_>) -> Outcome {
    let folder = format!("/var/tmp/{}", scene.kubectl.namespace);
    let hooks =
        json!({"preStop": {"exec": {"command": ["/rust-0.2.wasm", "write", "/host/stopped", "yes"]}}});
    let volume = json!({"hostPath": {"path": folder, "type": "DirectoryOrCreate"}});
    let pod = scene.service("hooked").volume("host", volume, "/host").main("lifecycle", hooks);
    scene.ready(&pod)?;
    scene.delete("hooked", wisp_tests::kube::PATIENCE)?;
    let seen = scene.node()?.shell(&format!("cat {folder}/stopped && rm -r {folder}"))?.success();
    ensure!(seen.context("the hook has written nothing")? == "yes");
    Ok(())
}

/// Notes what it is asked, with the headers, and answers.
const NOTE: &str = r#"while read line; do echo "$line" >>/host/asked; test ${#line} -gt 1 || break; done
printf 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'"#;

fn hooks_ask_by_http_with_the_headers_that_they_are_told(scene: &Scene<'_>) -> Outcome {
    let folder = format!("/var/tmp/{}", scene.kubectl.namespace);
    let mut notes = scene.container("notes", &["/bin/nc", "-ll", "-p", "9000", "-e", "/bin/sh", "-c", NOTE]);
    notes["restartPolicy"] = json!("Always");
    notes["startupProbe"] = json!({"tcpSocket": {"port": 9000}, "periodSeconds": 1, "failureThreshold": 60});
    notes["volumeMounts"] = json!([{"name": "host", "mountPath": "/host"}]);
    let hook = |path: &str| {
        let headers = json!([{"name": "X-Hook", "value": path}]);
        json!({"httpGet": {"path": format!("/{path}"), "port": 9000, "httpHeaders": headers}})
    };
    let hooks = json!({"postStart": hook("started"), "preStop": hook("stopping")});
    let volume = json!({"hostPath": {"path": folder, "type": "DirectoryOrCreate"}});
    let pod = scene.pod("hooked", &["/rust-0.2.wasm", "sleep", "3600"]).first(notes);
    scene.ready(&pod.volume("host", volume, "/host").main("lifecycle", hooks))?;
    scene.delete("hooked", wisp_tests::kube::PATIENCE)?;
    let seen = scene.node()?.shell(&format!("cat {folder}/asked; rm -r {folder}"))?.success()?;
    for line in ["GET /started", "X-Hook: started", "GET /stopping", "X-Hook: stopping"] {
        ensure!(seen.contains(line), "no {line:?}: {seen}");
    }
    Ok(())
}

fn a_hook_may_be_to_sleep(scene: &Scene<'_>) -> Outcome {
    // Far longer than it takes to ask.
    let hooks = json!({"preStop": {"sleep": {"seconds": 20}}});
    let pod = scene.service("sleeps").spec("terminationGracePeriodSeconds", json!(60));
    scene.ready(&pod.main("lifecycle", hooks))?;
    scene.kubectl.run(&["delete", "pod", "sleeps", "--wait=false"])?;
    scene.kubectl.event("Killing", "Stopping container main")?;
    ensure!(scene.fetch("sleeps", "/hello")?.starts_with("hello"));
    scene.kubectl.run(&["wait", "--for=delete", "pod/sleeps", "--timeout=100s"]).map(drop)
}
