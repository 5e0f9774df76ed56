//! The installer's DaemonSet on a node whose containerd is a unit of systemd.

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use wisp_tests::image::Image;
use wisp_tests::kube::PATIENCE;
use wisp_tests::kube::registry;
use wisp_tests::kube::scene::{Scene, ended_with};
use wisp_tests::kube::suite::{Case, UML};
use wisp_tests::kube::world::world;
use wisp_tests::{Outcome, kube_cases, site};

pub(crate) const CASES: &[&[Case]] =
    &[kube_cases![Alone, UML; a_daemon_set_installs_wisp_and_another_takes_it_back]];

const IMAGE: &str = "registry.test/wisp-installer:1";
/// A handler that the node does not have: it has Wisp already for the other cases.
const HANDLER: &str = "wisp-installed";
const CONFIG: &str = "/host/containerd.toml";

/// The image as `make installer-image` lays it out.
fn image() -> anyhow::Result<Image> {
    let mut image = Image::new(IMAGE).config("Entrypoint", json!(["/usr/local/bin/wisp"]));
    for name in ["containerd-shim-wisp-v1", "wisp-runtime", "wisp"] {
        image = image.file_of(&format!("/usr/local/bin/{name}"), site::binary(name)?);
    }
    for name in ["wisp-guest", "wisp-compiler", "wisp-artifact"] {
        image = image.file_of(&format!("/usr/local/libexec/wisp/{name}"), site::binary(name)?);
    }
    Ok(image)
}

/// Applies a folder of `k8s/` with this image and handler, and waits until its pod on the node is as `reached` wants.
fn apply(scene: &Scene<'_>, folder: &str) -> Outcome {
    let text = scene
        .kubectl
        .run(&["kustomize", &site::checkout().join("k8s").join(folder).display().to_string()])?;
    let text = text.replace("wisp-installer:0.1.0", IMAGE);
    // The first is the container's arguments, the second its probe's.
    let handler = format!("- --root=/proc/1/root\n        - --handler={HANDLER}\n");
    let text = text.replacen("- --root=/proc/1/root\n", &handler, 1);
    ensure!(text.contains("--handler"), "{text}");
    let copy = site::run_folder()?.join(format!("{folder}.yaml"));
    std::fs::write(&copy, text.replace("kubernetes.io/os: linux", "kubernetes.io/hostname: uml"))?;
    let system = scene.kubectl.within("wisp-system");
    system.run(&["apply", "--filename", &copy.display().to_string()]).map(drop)
}

fn is_labelled(node: &Value) -> bool {
    node["metadata"]["labels"]["wisp.dev/installed"] == "true"
}

fn a_daemon_set_installs_wisp_and_another_takes_it_back(scene: &Scene<'_>) -> Outcome {
    let cluster = world()?.cluster.as_ref().context("no cluster of the tests' own")?;
    registry::push(cluster, &image()?)?;
    scene.kubectl.run(&["label", "node/uml", "wisp.dev/installed-"])?;
    let outcome = there_and_back(scene);
    let system = scene.kubectl.within("wisp-system");
    let logs =
        |name: &str| system.run(&["logs", &format!("daemonset/{name}"), "--tail=5"]).unwrap_or_default();
    let said = format!("{}{}", logs("wisp-installer"), logs("wisp-uninstaller"));
    system.run(&["delete", "namespace", "wisp-system", "--wait=true", "--timeout=120s"])?;
    for kind in ["clusterrole", "clusterrolebinding"] {
        system.run(&["delete", kind, "wisp-installer"])?;
    }
    scene.kubectl.run(&["delete", "--ignore-not-found", "runtimeclass", HANDLER])?;
    scene.kubectl.run(&["label", "--overwrite", "node/uml", "wisp.dev/installed=true"])?;
    outcome.with_context(|| format!("the pods said: {said}"))
}

fn there_and_back(scene: &Scene<'_>) -> Outcome {
    let node = scene.node()?;
    let before = node.shell(&format!("cat {CONFIG}"))?.success()?;
    apply(scene, "installer")?;
    scene.kubectl.until("node/uml", "labelled", 3 * PATIENCE, is_labelled)?;
    // It is ready when `wisp doctor` finds the node well.
    let system = scene.kubectl.within("wisp-system");
    system
        .until("daemonset/wisp-installer", "ready", 3 * PATIENCE, |set| set["status"]["numberReady"] == 1)?;
    // As docs/kubernetes.md has it.
    let status = ["--namespace", "wisp-system", "rollout", "status", "daemonset/wisp-installer"];
    scene.kubectl.run(&status)?;
    let with = node.shell(&format!("cat {CONFIG}"))?.success()?;
    ensure!(with.starts_with(&before) && with.contains(&format!("runtimes.{HANDLER}]")), "{with}");
    scene.kubectl.apply(&json!({
        "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
        "metadata": {"name": HANDLER}, "handler": HANDLER,
    }))?;
    let pod = scene.pod("under-it", &["/rust-0.1.wasm", "hello"]).spec("runtimeClassName", json!(HANDLER));
    ended_with(&scene.ended(&pod)?, "Completed", 0)?;
    scene.delete("under-it", PATIENCE)?;

    system.run(&["delete", "daemonset", "wisp-installer", "--timeout=120s"])?;
    // Pods of other cases have gone, but their shims may take a while.
    apply(scene, "uninstaller")?;
    scene.kubectl.until("node/uml", "no longer labelled", 3 * PATIENCE, |node| !is_labelled(node))?;
    wisp_tests::bed::eventually("the configuration is as it was", 3 * PATIENCE, || {
        Ok((node.shell(&format!("cat {CONFIG}"))?.success()? == before).then_some(()))
    })
}
