//! What a person looks into a running pod with: logs, exec, attach, cp, port-forward, debug and top.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use wisp_tests::kube::PATIENCE;
use wisp_tests::kube::eventually;
use wisp_tests::kube::scene::{Scene, container_id};
use wisp_tests::kube::suite::{Case, EVERYWHERE, NODES};
use wisp_tests::process;
use wisp_tests::{Outcome, kube_cases};

pub(crate) const CASES: &[&[Case]] = &[
    kube_cases![Pods, EVERYWHERE;
        exec_runs_wasm_exports_and_native_programs,
        exec_gives_exit_codes_and_input,
        a_terminal_follows_the_size_of_ones_own,
        attach_speaks_with_the_guest,
        files_are_copied_both_ways,
    ],
    kube_cases![Pods, NODES;
        logs_are_followed_to_the_end,
        a_port_is_forwarded,
        a_debug_container_sees_the_guests_process,
    ],
    kube_cases![Node, NODES;
        logs_are_rotated_under_the_writer,
    ],
    kube_cases![Node, EVERYWHERE;
        the_summary_agrees_with_the_control_group,
    ],
];

/// A pod with a guest that does nothing for a long time.
fn idle(scene: &Scene<'_>, name: &str) -> Result<Value> {
    scene.ready(&scene.pod(name, &["/rust-0.2.wasm", "sleep", "3600"]))
}

fn exec_runs_wasm_exports_and_native_programs(scene: &Scene<'_>) -> Outcome {
    idle(scene, "idle")?;
    let hello = scene.exec("idle", &["/rust-0.1.wasm", "hello"])?;
    ensure!(hello == "hello from Rust, WASI 0.1\n", "{hello}");
    let sum = scene.exec("idle", &["/lib.wasm#add", "2", "40"])?;
    ensure!(sum == "42\n", "{sum}");
    let native = scene.exec("idle", &["/native", "hello"])?;
    ensure!(native == "hello from Rust, native\n", "{native}");
    Ok(())
}

fn exec_gives_exit_codes_and_input(scene: &Scene<'_>) -> Outcome {
    idle(scene, "idle")?;
    let failed = scene.kubectl.finish(&["exec", "idle", "--", "/rust-0.1.wasm", "exit", "7"])?;
    ensure!(failed.code == 7, "{failed:?}");
    let input = scene.kubectl.input("of the person\n")?;
    let mut exec = scene.kubectl.command(&["exec", "--stdin", "idle", "--", "/rust-0.2.wasm", "echo"]);
    let answered = process::run_from(&mut exec, input, PATIENCE)?.success()?;
    ensure!(answered == "reading\nof the person\nread 14 bytes\n", "{answered}");
    Ok(())
}

/// Says of each size that its terminal has it, once it has.
const WATCH_SIZE: &str = r#"for size in "41 133" "50 140"; do until test "$(stty size)" = "$size"; do sleep 0.2; done; echo "is $size"; done"#;

/// Runs `kubectl` under a terminal that becomes larger once the other end has seen its first size.
fn resized(scene: &Scene<'_>, args: &[&str], command: &str) -> Outcome {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("seen").display().to_string();
    // The log begins with this command, which the pattern must not find.
    let typed = format!(
        "stty rows 41 cols 133; \
         (until grep -q 'is 41[ ]133' {log}; do sleep 0.2; done; stty rows 50 cols 140 </dev/tty) & \
         {} {command}",
        process::shown(&scene.kubectl.command(args))
    );
    let mut script = scene.kubectl.beside("script");
    script.args(["--quiet", "--flush", "--return", "--command", &typed, &log]);
    let ended = process::run(&mut script, PATIENCE);
    let seen = ended.with_context(|| std::fs::read_to_string(&log).unwrap_or_default())?.success()?;
    ensure!(seen.contains("is 41 133") && seen.contains("is 50 140"), "{seen:?}");
    Ok(())
}

fn a_terminal_follows_the_size_of_ones_own(scene: &Scene<'_>) -> Outcome {
    idle(scene, "idle")?;
    resized(scene, &["exec", "--stdin", "--tty", "idle"], &format!("-- /bin/sh -c '{WATCH_SIZE}'"))?;
    let pod = scene.pod("watches", &["/bin/sh", "-c", WATCH_SIZE]);
    scene.ready(&pod.main("stdin", json!(true)).main("tty", json!(true)))?;
    resized(scene, &["attach", "--stdin", "--tty", "watches"], "")
}

fn logs_are_followed_to_the_end(scene: &Scene<'_>) -> Outcome {
    let pod = scene.pod("speaks", &["/rust-0.2.wasm", "sleep", "4"]);
    scene.ready(&pod)?;
    let followed = scene.kubectl.run(&["logs", "--follow", "speaks"])?;
    ensure!(followed == "sleeping\n", "{followed:?}");
    Ok(())
}

fn attach_speaks_with_the_guest(scene: &Scene<'_>) -> Outcome {
    let pod = scene.pod("listens", &["/rust-0.2.wasm", "echo"]);
    scene.ready(&pod.main("stdin", json!(true)).main("stdinOnce", json!(true)))?;
    let input = scene.kubectl.input("to the guest\n")?;
    let mut attach = scene.kubectl.command(&["attach", "--stdin", "listens"]);
    let answered = process::run_from(&mut attach, input, PATIENCE)?.success()?;
    ensure!(answered.contains("to the guest\n"), "{answered:?}");
    scene.until("listens", "completed", |pod| pod["status"]["phase"] == "Succeeded").map(drop)
}

fn files_are_copied_both_ways(scene: &Scene<'_>) -> Outcome {
    idle(scene, "idle")?;
    let folder = tempfile::tempdir()?;
    let (there, back) = (folder.path().join("there"), folder.path().join("back"));
    std::fs::write(&there, "carried\n")?;
    scene.kubectl.run(&["cp", &there.display().to_string(), "idle:/tmp/carried"])?;
    let seen = scene.exec("idle", &["/rust-0.2.wasm", "cat", "/tmp/carried"])?;
    ensure!(seen == "carried\n", "{seen}");
    scene.kubectl.run(&["cp", "idle:/data/greeting.txt", &back.display().to_string()])?;
    let copied = std::fs::read_to_string(&back)?;
    ensure!(copied == "a file of the image\n", "{copied}");
    Ok(())
}

fn a_port_is_forwarded(scene: &Scene<'_>) -> Outcome {
    scene.ready(&scene.service("serves"))?;
    let forward = scene.kubectl.lines(&["port-forward", "pod/serves", ":8080"])?;
    let line = forward.next(PATIENCE)?;
    let port = line.split(':').nth(1).and_then(|rest| rest.split(' ').next()).context(line.clone())?;
    let mut curl = scene.kubectl.beside("curl");
    curl.args(["--silent", "--show-error", &format!("http://127.0.0.1:{port}/hello")]);
    let answer = process::run(&mut curl, PATIENCE)?.success()?;
    ensure!(answer.starts_with("hello"), "{answer}");
    Ok(())
}

fn a_debug_container_sees_the_guests_process(scene: &Scene<'_>) -> Outcome {
    idle(scene, "idle")?;
    let image = format!("--image={}", scene.image);
    let debug = [
        "debug",
        "idle",
        &image,
        "--target=main",
        "--container=debug",
        "--attach=false",
        "--profile=general",
    ];
    scene.kubectl.run(&[&debug as &[&str], &["--", "/bin/ps"]].concat())?;
    scene.until("idle", "looked into", |pod| {
        pod["status"]["ephemeralContainerStatuses"][0]["state"]["terminated"].is_object()
    })?;
    let seen = scene.kubectl.run(&["logs", "idle", "--container=debug"])?;
    ensure!(seen.contains("rust-0.2.wasm"), "the guest's process is not seen: {seen}");
    Ok(())
}

fn logs_are_rotated_under_the_writer(scene: &Scene<'_>) -> Outcome {
    // Two mebibytes, where the node rotates after one.
    let pod = scene.pod("writes", &["/rust-0.2.wasm", "tick", "0"]);
    scene.ready(&pod)?;
    let folder = format!("/var/log/pods/{}_writes_*/main", scene.kubectl.namespace);
    eventually("a second log", || {
        let files = scene.node()?.shell(&format!("ls {folder} | wc -l"))?.success()?;
        Ok((files.trim().parse::<u32>()? > 1).then_some(()))
    })?;
    // What is written from then on is in the new file.
    let tail = || scene.kubectl.run(&["logs", "writes", "--tail=1"]);
    let first = tail()?;
    eventually("a new line", || Ok((tail()? != first).then_some(())))
}

fn the_summary_agrees_with_the_control_group(scene: &Scene<'_>) -> Outcome {
    let pod = scene.pod("weighs", &["/rust-0.2.wasm", "touch", "64"]).main("stdin", json!(true));
    let pod = scene.ready(&pod)?;
    let id = container_id(&pod)?;
    eventually("the guest has its memory", || Ok(scene.logs("weighs")?.contains("touched").then_some(())))?;
    let path = format!("/api/v1/nodes/{}/proxy/stats/summary", scene.node()?.name());
    let stats = eventually("the summary has the container's memory", || {
        let summary: Value = serde_json::from_str(&scene.kubectl.raw(&path)?)?;
        let pods = summary["pods"].as_array().cloned().unwrap_or_default();
        let ours = |pod: &Value| pod["podRef"]["namespace"] == scene.kubectl.namespace.as_str();
        let pod = pods.into_iter().find(ours);
        Ok(pod.filter(|pod| pod["containers"][0]["memory"]["workingSetBytes"].as_u64() > Some(60 << 20)))
    })?;
    let container = &stats["containers"][0];
    let shown = container["memory"]["workingSetBytes"].as_u64().context("no working set")?;
    let current = scene.control(id, &["memory.current", "memory.usage_in_bytes"])?;
    let current: u64 =
        current.trim().parse().with_context(|| format!("the control group says {current:?}"))?;
    ensure!(
        shown <= current + (8 << 20) && shown + (16 << 20) > current,
        "{shown} bytes shown, {current} in the control group"
    );
    ensure!(container["cpu"]["usageCoreNanoSeconds"].as_u64() > Some(0), "no processor time: {container}");
    ensure!(stats["network"]["rxBytes"].as_u64().is_some(), "no figures of the pod's network: {stats}");
    // What `kubectl top` and a HorizontalPodAutoscaler are told.
    let path = format!("/api/v1/nodes/{}/proxy/metrics/resource", scene.node()?.name());
    let metrics = scene.kubectl.raw(&path)?;
    for name in [
        "container_cpu_usage_seconds_total",
        "container_memory_working_set_bytes",
        "pod_memory_working_set_bytes",
    ] {
        let ours =
            |line: &str| line.starts_with(name) && line.contains(&format!("\"{}\"", scene.kubectl.namespace));
        ensure!(metrics.lines().any(ours), "no {name} of the pod");
    }
    Ok(())
}
