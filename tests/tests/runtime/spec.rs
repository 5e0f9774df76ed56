//! What a spec asks for, and what it must not.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use wisp_tests::bundle::Bundle;
use wisp_tests::suite::Case;
use wisp_tests::{Outcome, cases};

pub(crate) const CASES: &[Case] = cases![Once:
    limits_of_the_process_are_set,
    the_oom_score_is_set,
    the_hostname_is_the_specs,
    sysctls_of_the_containers_own_namespaces_are_set,
    hooks_run_in_their_order_with_the_state_on_stdin,
    a_hook_that_fails_fails_create,
    a_hook_that_hangs_ends_at_its_time_out,
    a_pid_file_names_the_process,
    namespaces_are_joined_by_path,
    a_trap_is_told_in_the_termination_log_too,
    masked_and_read_only_paths_are_so_for_a_guest,
    a_spec_that_cannot_be_read_is_refused_with_a_sentence,
    a_systemd_cgroup_without_systemd_is_made_by_hand_or_refused_with_a_sentence,
    a_control_group_that_others_are_in_is_refused_and_they_run_on,
];

/// A started container, and the pid of its process.
fn started(bundle: &Bundle) -> Result<u64> {
    bundle.create()?;
    bundle.runtime(&["start", &bundle.id])?.success()?;
    bundle.until("looping")?;
    bundle.state()?["pid"].as_u64().context("no pid")
}

fn looping() -> Result<Bundle> {
    Bundle::new(&["/rust-0.1.wasm", "loop"])
}

fn limits_of_the_process_are_set() -> Outcome {
    let mut bundle = looping()?;
    bundle.spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 321, "hard": 654}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]);
    let pid = started(&bundle)?;
    let limits = fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let open =
        limits.lines().find(|line| line.starts_with("Max open files")).context("no limit of open files")?;
    ensure!(open.contains("654"), "{open}");
    Ok(())
}

fn the_oom_score_is_set() -> Outcome {
    let mut bundle = looping()?;
    bundle.spec["process"]["oomScoreAdj"] = json!(500);
    let pid = started(&bundle)?;
    ensure!(fs::read_to_string(format!("/proc/{pid}/oom_score_adj"))?.trim() == "500");
    Ok(())
}

fn the_hostname_is_the_specs() -> Outcome {
    let mut bundle = looping()?;
    bundle.spec["hostname"] = json!("wisp-guest-7");
    let pid = started(&bundle)?;
    let mut command = std::process::Command::new("nsenter");
    command.arg(format!("--uts=/proc/{pid}/ns/uts")).arg("hostname");
    let said = wisp_tests::process::run(&mut command, wisp_tests::bed::LIMIT)?.success()?;
    ensure!(said.trim() == "wisp-guest-7", "{said}");
    Ok(())
}

fn sysctls_of_the_containers_own_namespaces_are_set() -> Outcome {
    let mut bundle = looping()?;
    bundle.spec["linux"]["sysctl"] = json!({"net.ipv4.ip_unprivileged_port_start": "0"});
    let pid = started(&bundle)?;
    let mut command = std::process::Command::new("nsenter");
    command
        .arg(format!("--net=/proc/{pid}/ns/net"))
        .args(["cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start"]);
    let said = wisp_tests::process::run(&mut command, wisp_tests::bed::LIMIT)?.success()?;
    ensure!(said.trim() == "0", "{said}");

    let mut bundle = looping()?;
    bundle.spec["linux"]["sysctl"] = json!({"kernel.panic": "1"});
    let error = bundle.create().err().context("a sysctl of the whole machine was taken")?;
    ensure!(format!("{error:#}").contains("kernel.panic"), "{error:#}");
    Ok(())
}

/// A hook that notes its name and what it reads.
fn hook(bundle: &Bundle, name: &str, more: &str) -> Result<serde_json::Value> {
    let path = bundle.path(&format!("hook-{name}"));
    let folder = bundle.folder.display();
    fs::write(
        &path,
        format!("#!/bin/sh\necho {name} >>{folder}/hooks\ncat >{folder}/stdin-of-{name}\n{more}\n"),
    )?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(json!({"path": path, "args": ["hook", name], "env": ["PATH=/usr/bin:/bin"], "timeout": 2}))
}

fn hooks_run_in_their_order_with_the_state_on_stdin() -> Outcome {
    let mut bundle = Bundle::new(&["/rust-0.1.wasm", "hello"])?;
    let names = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    let mut hooks = json!({});
    for name in names {
        // Two of them run inside the container, where the machine's files are not.
        if !matches!(name, "createContainer" | "startContainer") {
            hooks[name] = json!([hook(&bundle, name, "")?]);
        }
    }
    bundle.spec["hooks"] = hooks;
    bundle.create()?;
    let noted = || fs::read_to_string(bundle.path("hooks")).unwrap_or_default();
    ensure!(noted() == "prestart\ncreateRuntime\n", "{:?}", noted());
    bundle.runtime(&["start", &bundle.id])?.success()?;
    bundle.until_stopped()?;
    ensure!(noted() == "prestart\ncreateRuntime\npoststart\n", "{:?}", noted());
    bundle.runtime(&["delete", &bundle.id])?.success()?;
    ensure!(noted() == "prestart\ncreateRuntime\npoststart\npoststop\n", "{:?}", noted());
    let state: serde_json::Value = serde_json::from_slice(&fs::read(bundle.path("stdin-of-createRuntime"))?)?;
    ensure!(state["id"] == bundle.id.as_str() && state["pid"].as_u64().is_some(), "{state}");
    Ok(())
}

fn a_hook_that_fails_fails_create() -> Outcome {
    let mut bundle = Bundle::new(&["/rust-0.1.wasm", "hello"])?;
    bundle.spec["hooks"] =
        json!({"createRuntime": [hook(&bundle, "broken", "echo because of this >&2; exit 3")?]});
    let error = format!("{:#}", bundle.create().err().context("a failing hook was ignored")?);
    ensure!(error.contains("hook-broken"), "{error}");
    ensure!(bundle.runtime(&["state", &bundle.id])?.code != 0, "a container is left");
    Ok(())
}

fn a_hook_that_hangs_ends_at_its_time_out() -> Outcome {
    let mut bundle = Bundle::new(&["/rust-0.1.wasm", "hello"])?;
    bundle.spec["hooks"] = json!({"createRuntime": [hook(&bundle, "slow", "exec sleep 600")?]});
    let error = format!("{:#}", bundle.create().err().context("a hanging hook was ignored")?);
    ensure!(error.contains("hook-slow"), "{error}");
    Ok(())
}

fn a_pid_file_names_the_process() -> Outcome {
    let bundle = looping()?;
    let file = bundle.path("pid");
    bundle.create_with(&["--pid-file", &file.display().to_string()])?;
    let pid: u64 = fs::read_to_string(&file)?.parse()?; // digits and nothing else, as runc writes them
    ensure!(bundle.state()?["pid"] == pid);
    Ok(())
}

fn a_trap_is_told_in_the_termination_log_too() -> Outcome {
    // As a kubelet has it: a file that everyone may write, which only the form of its path tells from others.
    for (source, destination) in
        [("pods/0b9f/containers/app/1a2b3c4d", "/last-words"), ("log", "/dev/termination-log")]
    {
        let mut bundle = Bundle::new(&["/rust-0.1.wasm", "trap", "divide"])?;
        let log = bundle.path(source);
        fs::create_dir_all(log.parent().context("a folder")?)?;
        fs::write(&log, "")?;
        fs::set_permissions(&log, fs::Permissions::from_mode(0o666))?;
        bundle.spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        bundle.mount(
            json!({"destination": destination, "type": "bind", "source": log, "options": ["rbind", "rw"]}),
        );
        let ended = bundle.run()?;
        let told = fs::read_to_string(&log)?;
        ensure!(ended.code == 134 && told.contains("integer divide by zero"), "{told:?} {ended:?}");
        ensure!(ended.stderr.contains("integer divide by zero"), "{ended:?}");
    }
    Ok(())
}

fn masked_and_read_only_paths_are_so_for_a_guest() -> Outcome {
    let ended = |args: &[&str]| {
        let mut bundle = Bundle::new(&[&["/rust-0.1.wasm"], args].concat())?;
        for file in ["/data/secret", "/data/plain", "/hidden/secret", "/fixed/file"] {
            bundle.file(file, b"content\n")?;
        }
        let volume = bundle.path("volume");
        fs::create_dir_all(&volume)?;
        fs::write(volume.join("secret"), "content\n")?;
        bundle.mount(
            json!({"destination": "/volume", "type": "bind", "source": volume, "options": ["rbind", "rw"]}),
        );
        bundle.spec["linux"]["maskedPaths"] =
            json!(["/data/secret", "/hidden", "/volume", "/none", "/proc/kcore"]);
        bundle.spec["linux"]["readonlyPaths"] = json!(["/fixed", "/proc/sys"]);
        bundle.run()
    };
    for (args, output) in [
        (["cat", "/data/plain"], "content\n"),
        (["cat", "/data/secret"], ""),
        (["cat", "/fixed/file"], "content\n"),
        (["ls", "/hidden"], ""),
        (["ls", "/volume"], ""),
    ] {
        let ended = ended(&args)?;
        ensure!(ended.code == 0 && ended.stdout == output, "{args:?}: {ended:?}");
    }
    for (path, writable) in
        [("/data/new", true), ("/fixed/new", false), ("/hidden/new", false), ("/volume/new", false)]
    {
        let ended = ended(&["fill-file", path, "1"])?;
        ensure!((ended.code == 0) == writable, "{path}: {ended:?}");
    }
    Ok(())
}

fn namespaces_are_joined_by_path() -> Outcome {
    let other = looping()?;
    let pid = started(&other)?;
    let mut bundle = looping()?;
    let namespaces = ["network", "ipc", "uts"].map(|kind| {
        let file = if kind == "network" { "net" } else { kind };
        json!({"type": kind, "path": format!("/proc/{pid}/ns/{file}")})
    });
    let mut all = namespaces.to_vec();
    all.extend([json!({"type": "mount"}), json!({"type": "pid"})]);
    bundle.spec["linux"]["namespaces"] = json!(all);
    let own = started(&bundle)?;
    for namespace in ["net", "ipc", "uts"] {
        let link = |pid: u64| fs::read_link(format!("/proc/{pid}/ns/{namespace}"));
        ensure!(link(own)? == link(pid)?, "the {namespace} namespace was not joined");
    }
    Ok(())
}

fn a_spec_that_cannot_be_read_is_refused_with_a_sentence() -> Outcome {
    let with = |key: &str, value: serde_json::Value| -> Result<String> {
        let mut spec = Bundle::new(&["/x"])?.spec.clone();
        *spec.pointer_mut(key).context("no such key")? = value;
        Ok(spec.to_string())
    };
    for (text, word) in [
        (String::new(), "config.json"),
        ("{".to_owned(), "config.json"),
        ("[]".to_owned(), "config.json"),
        (with("/process", json!(null))?, "process"),
        (with("/ociVersion", json!("9.0.0"))?, "9.0.0"),
        (with("/process/args", json!([]))?, "args"),
        (with("/process/cwd", json!("relative"))?, "relative"),
        (with("/root/path", json!("nowhere"))?, "nowhere"),
    ] {
        let bundle = Bundle::new(&[])?;
        fs::write(bundle.path("config.json"), &text)?;
        let ended =
            bundle.runtime(&["create", "--bundle", &bundle.folder.display().to_string(), &bundle.id])?;
        ensure!(ended.code != 0 && ended.stderr.contains(word), "{text:?} without {word:?}: {ended:?}");
        ensure!(ended.stderr.trim().lines().count() == 1, "{text:?}: {ended:?}");
    }
    Ok(())
}

fn a_systemd_cgroup_without_systemd_is_made_by_hand_or_refused_with_a_sentence() -> Outcome {
    let mut bundle = looping()?;
    let slice = format!("{}.slice", bundle.id.replace('-', ""));
    bundle.spec["linux"]["cgroupsPath"] = json!(format!("{slice}:wisp:{}", bundle.id));
    // A space has a `/run` without systemd's socket.
    match started(&bundle) {
        Ok(pid) => {
            let groups = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
            ensure!(groups.contains(&format!("/{slice}/wisp-{}.scope", bundle.id)), "{groups}");
        }
        Err(error) => ensure!(format!("{error:#}").contains("systemd"), "{error:#}"),
    }
    drop(bundle);
    for hierarchy in fs::read_dir("/sys/fs/cgroup")?.flatten() {
        let left = hierarchy.path().join(&slice);
        ensure!(!left.exists() || fs::remove_dir(&left).is_ok(), "{} is not empty", left.display());
    }
    Ok(())
}

fn a_control_group_that_others_are_in_is_refused_and_they_run_on() -> Outcome {
    let (first, mut second) = (looping()?, looping()?);
    started(&first)?;
    let taken = first.spec["linux"]["cgroupsPath"].clone();
    for path in [taken, json!(format!("/{}", first.id))] {
        second.spec["linux"]["cgroupsPath"] = path.clone();
        let refused = second.run()?;
        ensure!(refused.code != 0 && refused.stderr.contains("not empty"), "{path}: {refused:?}");
        ensure!(refused.stderr.trim().lines().count() == 1, "{refused:?}");
        second.runtime(&["delete", "--force", &second.id])?;
        ensure!(first.status()? == "running", "{path}: the first is {}", first.status()?);
    }
    Ok(())
}
