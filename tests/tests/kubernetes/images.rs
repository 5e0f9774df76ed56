//! Images, as kubelet has them pulled.

use std::fs;

use anyhow::{Context, ensure};
use serde_json::json;
use wisp_tests::image::Image;
use wisp_tests::kube::pod::Pod;
use wisp_tests::kube::private::{self, PASSWORD, USER};
use wisp_tests::kube::registry;
use wisp_tests::kube::scene::{Scene, ended_with};
use wisp_tests::kube::suite::{Case, NODES, UML};
use wisp_tests::kube::world::world;
use wisp_tests::{Outcome, artifact, kube_cases, site};

pub(crate) const CASES: &[&[Case]] = &[
    kube_cases![Node, NODES;
        an_image_is_pulled_as_the_policy_says,
        an_image_that_is_not_there_is_told_of,
        an_image_behind_a_password_is_pulled_with_the_pods_secret,
        an_artifact_that_oras_pushed_is_pulled_with_the_accounts_secret,
        an_image_that_ctr_pushed_is_pulled,
    ],
    // Whose containerd unpacks them all.
    kube_cases![Node, UML; an_image_for_any_platform_is_pulled_and_runs],
    kube_cases![OnRequest, NODES; an_artifact_that_wkg_pushed_is_pulled],
];

fn an_image_is_pulled_as_the_policy_says(scene: &Scene<'_>) -> Outcome {
    let policies = [
        ("Always", "Successfully pulled image"),
        ("IfNotPresent", "already present on machine"),
        ("Never", "already present on machine"),
    ];
    for (policy, event) in policies {
        let name = policy.to_lowercase();
        let pod = scene.pod(&name, &["/rust-0.1.wasm", "hello"]).main("imagePullPolicy", json!(policy));
        ended_with(&scene.ended(&pod)?, "Completed", 0)?;
        let described = scene.kubectl.run(&["describe", "pod", &name])?;
        ensure!(described.contains(event), "{described}");
    }
    Ok(())
}

fn an_image_for_any_platform_is_pulled_and_runs(scene: &Scene<'_>) -> Outcome {
    let cluster = world()?.cluster.as_ref().context("no cluster of the tests' own")?;
    for (os, architecture) in
        [("linux", "amd64"), ("wasi", "wasm"), ("wasi", "wasm32"), ("wasip1", "wasm"), ("wasip2", "wasm")]
    {
        let platform = format!("{os}-{architecture}");
        let image = Image::new(&format!("{}/{platform}:1", registry::NAME)).platform(os, architecture);
        // A layer that was unpacked for another image need not be unpacked again.
        let image = image.file("/platform", &*platform).file_of("/app.wasm", site::guest("rust-0.2.wasm")?);
        registry::push(cluster, &image)?;
        let pod = scene.pod(&platform, &["/app.wasm", "cat", "/platform"]);
        ended_with(&scene.ended(&pod.main("image", json!(image.name())))?, "Completed", 0)?;
        let said = scene.logs(&platform)?;
        ensure!(said == platform, "{said}");
    }
    Ok(())
}

fn an_image_that_is_not_there_is_told_of(scene: &Scene<'_>) -> Outcome {
    for (policy, reason) in [("Never", "ErrImageNeverPull"), ("Always", "ImagePullBackOff")] {
        let name = policy.to_lowercase();
        let pod = scene.pod(&name, &["/rust-0.1.wasm"]).main("imagePullPolicy", json!(policy));
        scene.create(&pod.main("image", json!("registry.test/no-such:1")))?;
        let pod = scene.until(&name, reason, |pod| {
            pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == reason
        })?;
        let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
        let message = waiting["message"].as_str().unwrap_or_default();
        ensure!(message.contains("registry.test/no-such:1"), "{waiting}");
    }
    Ok(())
}

/// A pod of an image behind the password, which pulls it in any case.
fn pulling(scene: &Scene<'_>, name: &str, image: &str) -> Pod {
    let pod = scene.pod(name, &["/app.wasm", "hello"]);
    pod.main("image", json!(image)).main("imagePullPolicy", json!("Always"))
}

fn make_secret(scene: &Scene<'_>, name: &str, password: &str) -> Outcome {
    let server = format!("--docker-server={}", private::server());
    let (user, password) = (format!("--docker-username={USER}"), format!("--docker-password={password}"));
    scene.kubectl.run(&["create", "secret", "docker-registry", name, &server, &user, &password]).map(drop)
}

/// Requires that a pod waits for its image and says this, as `ErrImagePull` and as `ImagePullBackOff` do.
fn refused(scene: &Scene<'_>, pod: &Pod, message: &str) -> Outcome {
    scene.create(pod)?;
    scene.until(pod.name(), "refused its image", |pod| {
        let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
        waiting["message"].as_str().unwrap_or_default().contains(message)
    })?;
    scene.kubectl.run(&["delete", "pod", pod.name(), "--wait=false"]).map(drop)
}

fn an_image_behind_a_password_is_pulled_with_the_pods_secret(scene: &Scene<'_>) -> Outcome {
    let name = private::image(&format!("image-{}", scene.place.name()));
    let image = Image::new(&name).file_of("/app.wasm", site::guest("rust-0.1.wasm")?);
    let cluster = world()?.cluster.as_ref().context("no cluster of the tests' own")?;
    private::push(cluster, &image)?;
    make_secret(scene, "right", PASSWORD)?;
    make_secret(scene, "wrong", "not the password")?;

    let none = pulling(scene, "none", &name);
    let with = |secret: &str| none.clone().called(secret).spec("imagePullSecrets", json!([{"name": secret}]));
    refused(scene, &none, "no basic auth credentials")?;
    refused(scene, &with("wrong"), "401 Unauthorized")?;
    ended_with(&scene.ended(&with("right"))?, "Completed", 0)?;
    ensure!(scene.logs("right")?.starts_with("hello"), "{}", scene.logs("right")?);
    // That another pod could pull it gives this one no right to it.
    let present = none.called("present").main("imagePullPolicy", json!("IfNotPresent"));
    refused(scene, &present, "no basic auth credentials")
}

fn an_artifact_that_oras_pushed_is_pulled_with_the_accounts_secret(scene: &Scene<'_>) -> Outcome {
    let name = private::image(&format!("artifact-{}", scene.place.name()));
    let cluster = world()?.cluster.as_ref().context("no cluster of the tests' own")?;
    let folder = site::run_folder()?.join(format!("oras-{}", scene.place.name()));
    fs::create_dir_all(&folder)?;
    fs::copy(site::guest("rust-0.2.wasm")?, folder.join("app.wasm"))?;
    fs::write(folder.join("config.json"), json!({"architecture": "wasm", "os": "wasip2"}).to_string())?;
    let config = format!("config.json:{}", artifact::CONFIG);
    let push = ["push", "--plain-http", "--username", USER, "--password", PASSWORD, "--config", &config];
    private::oras(cluster, &folder, &[&push[..], &[&name, "app.wasm:application/wasm"]].concat())?;

    make_secret(scene, "right", PASSWORD)?;
    scene.kubectl.apply(&json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "puller"},
        "imagePullSecrets": [{"name": "right"}],
    }))?;
    let pod = pulling(scene, "artifact", &name).spec("serviceAccountName", json!("puller"));
    ended_with(&scene.ended(&pod)?, "Completed", 0)
}

fn an_artifact_that_wkg_pushed_is_pulled(scene: &Scene<'_>) -> Outcome {
    let name = private::image(&format!("wkg-{}", scene.place.name()));
    let cluster = world()?.cluster.as_ref().context("no cluster of the tests' own")?;
    let folder = site::run_folder()?.join(format!("wkg-{}", scene.place.name()));
    fs::create_dir_all(&folder)?;
    fs::copy(site::guest("rust-0.2.wasm")?, folder.join("app.wasm"))?;
    let server = private::server();
    let push = ["oci", "push", "--insecure", &server, "-u", USER, "-p", PASSWORD, &name, "app.wasm"];
    private::wkg(cluster, &folder, &push)?;

    make_secret(scene, "right", PASSWORD)?;
    let pod = pulling(scene, "wkg", &name).spec("imagePullSecrets", json!([{"name": "right"}]));
    ended_with(&scene.ended(&pod)?, "Completed", 0)?;
    ensure!(scene.logs("wkg")?.starts_with("hello"), "{}", scene.logs("wkg")?);
    Ok(())
}

fn an_image_that_ctr_pushed_is_pulled(scene: &Scene<'_>) -> Outcome {
    let open = format!("{}/guests:1", registry::url().trim_start_matches("http://"));
    let name = private::image(&format!("ctr-{}", scene.place.name()));
    // In a namespace of its own, so that kubelet has none of it.
    let ctr = "ctr --namespace pushing";
    let push = format!("{ctr} images push --plain-http --user '{USER}:{PASSWORD}' {name} {open}");
    let script = format!("{ctr} content fetch --plain-http {open} && {push} && {ctr} images remove {open}");
    scene.node()?.shell(&script)?.success()?;
    make_secret(scene, "right", PASSWORD)?;
    let pod = pulling(scene, "ctr", &name).main("command", json!(["/rust-0.1.wasm", "hello"]));
    let pod = pod.spec("imagePullSecrets", json!([{"name": "right"}]));
    ended_with(&scene.ended(&pod)?, "Completed", 0)
}
