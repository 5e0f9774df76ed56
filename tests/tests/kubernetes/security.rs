//! Identity and privileges.

use anyhow::ensure;
use serde_json::{Value, json};
use wisp_tests::kube::scene::{Scene, ended_with};
use wisp_tests::kube::suite::{Case, NODES};
use wisp_tests::{Outcome, kube_cases};

pub(crate) const CASES: &[&[Case]] = &[
    kube_cases![Pods, NODES;
        a_guest_runs_as_the_user_and_groups_of_the_pod,
        a_pod_that_must_not_be_root_is_refused_as_root,
        capabilities_are_dropped_and_privileges_not_regained,
        an_unmasked_proc_is_refused_with_the_users_that_it_wants,
    ],
    kube_cases![Node, NODES; a_profile_of_the_node_says_what_a_container_may_call],
];

fn a_guest_runs_as_the_user_and_groups_of_the_pod(scene: &Scene<'_>) -> Outcome {
    let identity = json!({
        "runAsUser": 1234,
        "runAsGroup": 2345,
        "fsGroup": 3456,
        "supplementalGroups": [4567],
        "supplementalGroupsPolicy": "Strict",
    });
    let pod = scene.pod("user", &["/rust-0.2.wasm", "sleep", "3600"]);
    let pod = pod.spec("securityContext", identity);
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

fn capabilities_are_dropped_and_privileges_not_regained(scene: &Scene<'_>) -> Outcome {
    let context = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    let mut native = scene.container("native", &["/bin/sleep", "3600"]);
    native["securityContext"] = context.clone();
    let pod = scene.pod("bare", &["/rust-0.2.wasm", "sleep", "3600"]).main("securityContext", context);
    // Process 1 of its namespace has no ear for SIGTERM.
    scene.ready(&pod.beside(native).spec("terminationGracePeriodSeconds", json!(1)))?;
    for container in ["--container=main", "--container=native"] {
        let status =
            scene.kubectl.run(&["exec", "bare", container, "--", "/bin/cat", "/proc/self/status"])?;
        for (key, value) in [
            ("CapEff", "0000000000000000"),
            ("CapBnd", "0000000000000000"),
            ("NoNewPrivs", "1"),
            ("Seccomp", "2"),
        ] {
            let line = format!("{key}:\t{value}\n");
            ensure!(status.contains(&line), "{container}: not {line:?} in {status}");
        }
    }
    Ok(())
}

/// kubelet gives a pod an unmasked proc only together with users of its own, which Wisp does not make.
fn an_unmasked_proc_is_refused_with_the_users_that_it_wants(scene: &Scene<'_>) -> Outcome {
    let pod = scene.pod("unmasked", &["/rust-0.2.wasm"]);
    let pod = pod.main("securityContext", json!({"procMount": "Unmasked"}));
    let Err(refused) = scene.create(&pod) else { anyhow::bail!("the API server takes it") };
    ensure!(format!("{refused:#}").contains("hostUsers"), "{refused:#}");
    scene.create(&pod.spec("hostUsers", json!(false)))?;
    scene.kubectl.event("FailedCreatePodSandBox", "user namespaces")
}

fn a_profile_of_the_node_says_what_a_container_may_call(scene: &Scene<'_>) -> Outcome {
    let no_sockets = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
    });
    let name = format!("{}.json", scene.kubectl.namespace);
    let folder = "/var/lib/kubelet/seccomp";
    let write = format!("mkdir -p {folder} && cat >{folder}/{name} <<'END'\n{no_sockets}\nEND\n");
    scene.node()?.shell(&write)?.success()?;
    let denied = denies_sockets(scene, &json!({"type": "Localhost", "localhostProfile": name}));
    scene.node()?.shell(&format!("rm {folder}/{name}"))?.success()?;
    denied
}

/// A guest and a native program make no socket under this profile, and do under containerd's.
fn denies_sockets(scene: &Scene<'_>, profile: &Value) -> Outcome {
    for (number, program) in ["/rust-0.2.wasm", "/native"].into_iter().enumerate() {
        for (name, profile, makes) in
            [("denied", profile, false), ("default", &json!({"type": "RuntimeDefault"}), true)]
        {
            let pod = scene.pod(&format!("{name}-{number}"), &[program, "connect", "127.0.0.1:9", "text"]);
            let pod = pod.spec("securityContext", json!({"seccompProfile": profile}));
            ended_with(&scene.ended(&pod)?, "Error", 1)?;
            let said = scene.logs(pod.name())?;
            ensure!(said.contains("refused") == makes, "{program} under {profile}: {said}");
        }
    }
    Ok(())
}
