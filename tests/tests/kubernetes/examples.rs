//! The examples of `k8s/examples`, as they are but for their image, class and node.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use wisp_tests::kube::PATIENCE;
use wisp_tests::kube::cluster::is_ready;
use wisp_tests::kube::scene::{Scene, ended_with};
use wisp_tests::kube::suite::{Case, HOST, NODES, UML};
use wisp_tests::{Outcome, kube_cases, pages, site};

pub(crate) const CASES: &[&[Case]] = &[
    kube_cases![Pods, NODES;
        the_example_of_a_cron_job_runs,
        the_example_of_a_command_runs,
        the_example_of_a_service_serves,
        the_example_of_a_sidecar_runs,
        the_example_of_configuration_runs,
        the_example_of_probes_gets_ready,
    ],
    kube_cases![Alone, UML; the_example_of_a_compile_leaves_nothing_to_compile],
    kube_cases![Pods, HOST; every_manifest_is_one_that_the_api_server_takes],
];

/// Applies an example for this scene's node.
fn apply(scene: &Scene<'_>, name: &str) -> Outcome {
    let path = site::checkout().join("k8s/examples").join(format!("{name}.yaml"));
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    ensure!(text.contains("image: wisp-examples:1"), "{name} has another image");
    let text = text.replace("wisp-examples:1", &scene.image);
    let class = format!("runtimeClassName: {}", scene.place.class());
    let text: String = text
        .lines()
        .map(|line| match line.strip_suffix("runtimeClassName: wisp") {
            Some(indent) => format!("{indent}{class}\n{}", on_the_node(scene, indent)),
            None => format!("{line}\n"),
        })
        .collect();
    let copy = site::run_folder()?.join(format!("{}-{name}.yaml", scene.kubectl.namespace));
    std::fs::write(&copy, text)?;
    scene.kubectl.run(&["apply", "--filename", &copy.display().to_string()]).map(drop)
}

/// The line of a pod's `spec` that keeps it on the scene's node, where the tests have one.
fn on_the_node(scene: &Scene<'_>, indent: &str) -> String {
    let line = |name| format!("{indent}nodeSelector: {{kubernetes.io/hostname: {name}}}\n");
    scene.node().map(|node| line(node.name())).unwrap_or_default()
}

fn the_example_of_a_command_runs(scene: &Scene<'_>) -> Outcome {
    apply(scene, "command")?;
    scene.kubectl.run(&["wait", "--for=condition=Complete", "job/command", "--timeout=120s"])?;
    let logs = scene.kubectl.run(&["logs", "job/command"])?;
    ensure!(logs == "one\ntwo\n", "{logs}");
    Ok(())
}

fn the_example_of_a_service_serves(scene: &Scene<'_>) -> Outcome {
    apply(scene, "http-service")?;
    scene.kubectl.run(&["rollout", "status", "deployment/http-service", "--timeout=120s"])?;
    let path = format!("/api/v1/namespaces/{}/services/http-service:80/proxy/hello", scene.kubectl.namespace);
    let answer = scene.kubectl.raw(&path)?;
    ensure!(answer.starts_with("hello"), "{answer}");
    Ok(())
}

fn the_example_of_a_cron_job_runs(scene: &Scene<'_>) -> Outcome {
    apply(scene, "cron")?;
    scene
        .kubectl
        .until("cronjob/cron", "run", 2 * PATIENCE, |job| job["status"]["lastSuccessfulTime"].is_string())
        .map(drop)
}

fn the_example_of_a_sidecar_runs(scene: &Scene<'_>) -> Outcome {
    apply(scene, "sidecar")?;
    scene.until("sidecar", "ready", is_ready)?;
    let news =
        scene.kubectl.run(&["exec", "sidecar", "--container=native", "--", "/bin/cat", "/shared/news"])?;
    ensure!(news == "from the sidecar\n", "{news}");
    let fetch =
        ["exec", "sidecar", "--container=service", "--", "/bin/wget", "-qO-", "http://127.0.0.1:8080/hello"];
    let answer = scene.kubectl.run(&fetch)?;
    ensure!(answer.starts_with("hello"), "{answer}");
    Ok(())
}

fn the_example_of_configuration_runs(scene: &Scene<'_>) -> Outcome {
    apply(scene, "config-and-secret")?;
    let pod = scene.until("config-and-secret", "ended", |pod| {
        pod["status"]["phase"] == "Succeeded" || pod["status"]["phase"] == "Failed"
    })?;
    ensure!(pod["status"]["phase"] == "Succeeded", "{}", pod["status"]);
    let log = |container: &str| -> Result<String> {
        scene.kubectl.run(&["logs", "config-and-secret", &format!("--container={container}")])
    };
    ensure!(log("greeting")? == "good morning\n" && log("token")?.trim_end() == "not very secret");
    Ok(())
}

fn the_example_of_probes_gets_ready(scene: &Scene<'_>) -> Outcome {
    apply(scene, "exec-probe")?;
    scene.until("exec-probe", "ready", is_ready).map(drop)
}

/// On the node whose first process is its own.
fn the_example_of_a_compile_leaves_nothing_to_compile(scene: &Scene<'_>) -> Outcome {
    let node = scene.node()?;
    // Where `wisp install` puts it.
    node.shell("ln -s $(command -v wisp) /usr/local/bin/wisp && rm -rf /var/cache/wisp/*")?.success()?;
    let outcome = compiled_before(scene);
    node.shell("rm /usr/local/bin/wisp")?.success()?;
    outcome
}

fn compiled_before(scene: &Scene<'_>) -> Outcome {
    // With the time of each, which another compile would change.
    let list = "find /var/cache -path '/var/cache/wisp/*.code' -exec stat -c '%n %y' {} +";
    let code = || -> Result<String> { scene.node()?.shell(list)?.success() };
    ensure!(code()?.is_empty(), "the cache was to be empty: {}", code()?);
    apply(scene, "compile")?;
    scene.kubectl.run(&["rollout", "status", "daemonset/compile", "--timeout=180s"])?;
    let said = scene.kubectl.run(&["logs", "daemonset/compile", "--container=compile"])?;
    ensure!(said.starts_with("-: WASI 0.1 command, ") && said.lines().count() == 1, "{said}");
    let compiled = code()?;
    ensure!(compiled.lines().count() == 1, "one program was to be compiled: {compiled}");
    ended_with(&scene.ended(&scene.pod("after", &["/rust-0.1.wasm", "hello"]))?, "Completed", 0)?;
    ensure!(code()? == compiled, "it was compiled again: {}, before {compiled}", code()?);
    Ok(())
}

/// What `kubectl apply --kustomize` would send, checked by the server and not kept.
fn every_manifest_is_one_that_the_api_server_takes(scene: &Scene<'_>) -> Outcome {
    let folder = site::checkout().join("k8s");
    for (name, kinds) in [
        ("", &["RuntimeClass", "Namespace", "DaemonSet"][..]),
        ("uninstaller", &["DaemonSet", "ClusterRole"]),
        ("examples", &["Deployment", "CronJob", "Pod"]),
    ] {
        let path = folder.join(name).display().to_string();
        let text = scene.kubectl.run(&["kustomize", &path])?;
        for kind in kinds {
            ensure!(text.contains(&format!("kind: {kind}\n")), "{name} has no {kind}");
        }
        // A namespace that is only tried does not exist for what comes into it.
        let text = text.replace("namespace: wisp-system", "namespace: default");
        let text = text.replace("namespace: wisp-examples", "namespace: default");
        let copy = site::run_folder()?.join(format!("manifests-{name}.yaml"));
        std::fs::write(&copy, text)?;
        let copy = copy.display().to_string();
        scene.kubectl.within("default").run(&["apply", "--dry-run=server", "--filename", &copy])?;
    }
    for object in objects_of_pages()? {
        scene.kubectl.within("default").run(&["apply", "--dry-run=server", "--filename", &object])?;
    }
    let class = scene.kubectl.get(&["runtimeclass", "wisp"])?;
    ensure!(class["scheduling"]["nodeSelector"]["wisp.dev/installed"] == json!("true"), "{class}");
    Ok(())
}

/// The whole objects that the documentation has, each in a file.
fn objects_of_pages() -> Result<Vec<String>> {
    let mut files = Vec::new();
    for page in pages::all()? {
        for object in page.blocks("yaml").filter(|text| text.starts_with("apiVersion:")) {
            let file = site::run_folder()?.join(format!("object-{}.yaml", files.len()));
            std::fs::write(&file, object)?;
            files.push(file.display().to_string());
        }
    }
    ensure!(files.len() >= 2, "{files:?}");
    Ok(files)
}
