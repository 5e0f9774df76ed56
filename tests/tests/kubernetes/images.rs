//! Images, as kubelet has them pulled.

use anyhow::ensure;
use serde_json::json;
use wisp_tests::kube::scene::{Scene, ended_with};
use wisp_tests::kube::suite::{Case, NODES};
use wisp_tests::{Outcome, kube_cases};

pub(crate) const CASES: &[&[Case]] = &[kube_cases![Node, NODES;
    an_image_is_pulled_as_the_policy_says,
    an_image_that_is_not_there_is_told_of,
]];

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
