//! The commands, in the order in which a container manager gives them and in others.

use std::fs;
use std::io::{BufRead, BufReader, IoSliceMut, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::{Value, json};
use wisp_tests::bed::{LIMIT, eventually};
use wisp_tests::bundle::Bundle;
use wisp_tests::suite::Case;
use wisp_tests::{Outcome, cases, process, site};

pub(crate) const CASES: &[Case] = cases![Once:
    a_container_is_created_started_stopped_and_deleted,
    a_guest_that_was_started_by_its_control_socket_is_running,
    run_prints_what_the_guest_prints_and_exits_as_it_does,
    the_state_is_that_of_the_oci_specification,
    signals_are_sent_by_name_and_number,
    a_running_container_is_deleted_only_by_force,
    commands_at_the_wrong_moment_say_what_is_wrong,
    an_id_that_is_no_file_name_is_refused,
    processes_are_listed_as_a_table_and_as_json,
    a_container_is_paused_and_resumed,
    limits_are_updated_by_flags_and_from_a_file,
    limits_go_up_and_down_and_away,
    events_give_the_figures_of_runc,
    features_are_json,
    containers_are_listed_as_a_table_and_as_json,
    a_written_spec_runs_a_guest,
    exec_runs_wasm_and_native_programs,
    exec_detaches_and_writes_its_pid,
    a_terminal_is_sent_to_the_console_socket,
    errors_go_to_the_log_as_json,
    a_command_dies_with_the_parent_that_it_is_told,
];

/// A container whose guest has printed a line and goes on until it is told.
fn running() -> Result<Bundle> {
    let bundle = Bundle::new(&["/rust-0.1.wasm", "loop"])?;
    bundle.create()?;
    bundle.runtime(&["start", &bundle.id])?.success()?;
    bundle.until("looping")?;
    Ok(bundle)
}

fn a_container_is_created_started_stopped_and_deleted() -> Outcome {
    let bundle = Bundle::new(&["/rust-0.1.wasm", "hello"])?;
    bundle.create()?;
    ensure!(bundle.status()? == "created");
    ensure!(bundle.output().is_empty(), "a created container has printed {:?}", bundle.output());
    bundle.runtime(&["start", &bundle.id])?.success()?;
    bundle.until_stopped()?;
    ensure!(bundle.output() == "hello from Rust, WASI 0.1\n", "{:?}", bundle.output());
    bundle.runtime(&["delete", &bundle.id])?.success()?;
    let state = bundle.runtime(&["state", &bundle.id])?;
    ensure!(state.code != 0 && state.stderr.contains(&bundle.id), "{state:?}");
    let root = bundle.space.inside(|| Ok(fs::read_dir("/run/wisp/tests")?.count()))?;
    ensure!(root == 0, "{root} entries are left in the runtime's state");
    Ok(())
}

/// So the shim starts it.
fn a_guest_that_was_started_by_its_control_socket_is_running() -> Outcome {
    let bundle = Bundle::new(&["/rust-0.1.wasm", "loop"])?;
    bundle.create()?;
    let socket = format!("/run/wisp/tests/{}/control.sock", bundle.id);
    let answer = bundle.space.inside(move || {
        let mut stream = UnixStream::connect(&socket).with_context(|| socket)?;
        stream.write_all(b"\"start\"\n")?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        Ok(answer)
    })?;
    ensure!(answer == "\"done\"\n", "{answer:?}");
    bundle.until("looping")?;
    ensure!(bundle.status()? == "running");
    let again = bundle.runtime(&["start", &bundle.id])?;
    ensure!(again.stderr.contains("cannot start an already running container"), "{again:?}");
    Ok(())
}

fn run_prints_what_the_guest_prints_and_exits_as_it_does() -> Outcome {
    let ended = Bundle::new(&["/rust-0.1.wasm", "both"])?.run()?;
    ensure!(ended.code == 0 && ended.stdout == "to stdout\n" && ended.stderr == "to stderr\n", "{ended:?}");
    for (args, code) in
        [(&["/rust-0.1.wasm", "exit", "7"][..], 7), (&["/rust-0.1.wasm", "trap", "unreachable"], 134)]
    {
        let ended = Bundle::new(args)?.run()?;
        ensure!(ended.code == code, "{ended:?}");
    }
    Ok(())
}

fn the_state_is_that_of_the_oci_specification() -> Outcome {
    let mut bundle = Bundle::new(&["/rust-0.1.wasm", "loop"])?;
    bundle.spec["annotations"] = json!({"org.example.note": "kept"});
    bundle.create()?;
    let state = bundle.state()?;
    ensure!(state["ociVersion"].is_string() && state["id"] == bundle.id.as_str(), "{state}");
    ensure!(state["bundle"] == bundle.folder.display().to_string().as_str(), "{state}");
    ensure!(state["annotations"]["org.example.note"] == "kept", "{state}");
    ensure!(state["pid"].as_u64().is_some_and(|pid| pid > 1), "{state}");
    Ok(())
}

fn signals_are_sent_by_name_and_number() -> Outcome {
    for signal in ["SIGTERM", "TERM", "15"] {
        let bundle = running()?;
        bundle.runtime(&["kill", &bundle.id, signal])?.success().context(signal)?;
        bundle.until_stopped().context(signal)?;
    }
    let bundle = running()?;
    let ended = bundle.runtime(&["kill", &bundle.id, "SIGNOTHING"])?;
    ensure!(ended.code != 0 && ended.stderr.contains("SIGNOTHING"), "{ended:?}");
    bundle.runtime(&["kill", "--all", &bundle.id, "KILL"])?.success()?;
    bundle.until_stopped()?;
    let late = bundle.runtime(&["kill", &bundle.id, "KILL"])?;
    ensure!(late.code != 0 && late.stderr.contains("not running"), "{late:?}"); // go-runc looks for these words
    Ok(())
}

fn a_running_container_is_deleted_only_by_force() -> Outcome {
    let bundle = running()?;
    let refused = bundle.runtime(&["delete", &bundle.id])?;
    ensure!(refused.code != 0 && !refused.stderr.is_empty(), "{refused:?}");
    ensure!(bundle.status()? == "running");
    bundle.runtime(&["delete", "--force", &bundle.id])?.success()?;
    bundle.runtime(&["delete", "--force", &bundle.id])?.success()?; // what is not there is deleted
    ensure!(bundle.runtime(&["delete", &bundle.id])?.code != 0);
    Ok(())
}

fn commands_at_the_wrong_moment_say_what_is_wrong() -> Outcome {
    let bundle = running()?;
    let folder = bundle.folder.display().to_string();
    for args in [
        &["create", "--bundle", &folder, &bundle.id][..],
        &["start", &bundle.id],
        &["start", "no-such-container"],
        &["pause", "no-such-container"],
        &["resume", &bundle.id],
        &["exec", "no-such-container", "/rust-0.1.wasm"],
        &["create", "--bundle", "/no/such/folder", "other"],
    ] {
        let ended = bundle.runtime(args)?;
        ensure!(ended.code != 0 && ended.stderr.trim().lines().count() == 1, "{args:?}: {ended:?}");
    }
    ensure!(bundle.status()? == "running");
    Ok(())
}

fn an_id_that_is_no_file_name_is_refused() -> Outcome {
    let bundle = Bundle::new(&["/rust-0.1.wasm"])?;
    bundle.create()?;
    let folder = bundle.folder.display().to_string();
    for id in ["../escape", "a/b", "..", ""] {
        let ended = bundle.runtime(&["create", "--bundle", &folder, id])?;
        ensure!(ended.code != 0, "the id {id:?} was taken");
        ensure!(bundle.runtime(&["delete", "--force", id])?.code != 0, "the id {id:?} was deleted");
    }
    ensure!(bundle.status()? == "created");
    Ok(())
}

fn processes_are_listed_as_a_table_and_as_json() -> Outcome {
    let bundle = running()?;
    let pid = bundle.state()?["pid"].clone();
    let listed: Value =
        serde_json::from_str(&bundle.runtime(&["ps", "--format", "json", &bundle.id])?.success()?)?;
    ensure!(listed == json!([pid]), "{listed}");
    let table = bundle.runtime(&["ps", &bundle.id])?.success()?;
    ensure!(table.contains("PID") && table.contains(&pid.to_string()), "{table}");
    Ok(())
}

fn a_container_is_paused_and_resumed() -> Outcome {
    let bundle = running()?;
    bundle.runtime(&["pause", &bundle.id])?.success()?;
    ensure!(bundle.status()? == "paused");
    bundle.runtime(&["resume", &bundle.id])?.success()?;
    ensure!(bundle.status()? == "running");
    bundle.runtime(&["pause", &bundle.id])?.success()?;
    bundle.runtime(&["delete", "--force", &bundle.id])?.success()?; // a paused container too
    Ok(())
}

fn limit(bundle: &Bundle) -> Result<String> {
    let id = &bundle.id;
    let v1 = format!("/sys/fs/cgroup/memory/{id}/{id}/memory.limit_in_bytes");
    let v2 = format!("/sys/fs/cgroup/{id}/{id}/memory.max");
    Ok(fs::read_to_string(v1).or_else(|_| fs::read_to_string(v2))?.trim().to_owned())
}

fn limits_are_updated_by_flags_and_from_a_file() -> Outcome {
    let bundle = running()?;
    bundle.runtime(&["update", "--memory", "134217728", &bundle.id])?.success()?;
    ensure!(limit(&bundle)? == "134217728", "{}", limit(&bundle)?);
    let file = bundle.path("resources.json");
    fs::write(&file, json!({"memory": {"limit": 268_435_456u64}}).to_string())?;
    bundle.runtime(&["update", "--resources", &file.display().to_string(), &bundle.id])?.success()?;
    ensure!(limit(&bundle)? == "268435456", "{}", limit(&bundle)?);
    Ok(())
}

fn quota(bundle: &Bundle) -> Result<String> {
    let id = &bundle.id;
    let v1 = format!("/sys/fs/cgroup/cpu/{id}/{id}/cpu.cfs_quota_us");
    let v2 = format!("/sys/fs/cgroup/{id}/{id}/cpu.max");
    let text = fs::read_to_string(v1).or_else(|_| fs::read_to_string(v2))?;
    Ok(text.split_whitespace().next().unwrap_or_default().to_owned())
}

fn limits_go_up_and_down_and_away() -> Outcome {
    let bundle = running()?;
    let file = bundle.path("resources.json");
    let update = |resources: Value| -> Result<()> {
        fs::write(&file, resources.to_string())?;
        bundle.runtime(&["update", "--resources", &file.display().to_string(), &bundle.id])?.success()?;
        Ok(())
    };
    for mebibytes in [128_u64, 512, 96, 1 << 30, 64] {
        let bytes = mebibytes << 20;
        // Swap, where there is any to limit, is limited with it: what goes up goes first.
        update(json!({"memory": {"limit": bytes, "swap": bytes}}))?;
        ensure!(limit(&bundle)? == bytes.to_string(), "{} is not {bytes}", limit(&bundle)?);
    }
    update(json!({"memory": {"limit": 0}, "cpu": {"shares": 512}}))?;
    ensure!(
        limit(&bundle)? == (64 << 20).to_string(),
        "0 is no limit that was asked for: {}",
        limit(&bundle)?
    );
    update(json!({"memory": {"limit": -1}}))?;
    ensure!(limit(&bundle)? == "max" || limit(&bundle)?.parse::<u64>()? > 1 << 60, "{}", limit(&bundle)?);
    for (quota_asked, period) in [(50_000, 100_000), (400_000, 100_000), (10_000, 10_000), (200_000, 200_000)]
    {
        update(json!({"cpu": {"quota": quota_asked, "period": period}}))?;
        ensure!(quota(&bundle)? == quota_asked.to_string(), "{}", quota(&bundle)?);
    }
    update(json!({"cpu": {"quota": -1, "period": 100_000}}))?;
    ensure!(["-1", "max"].contains(&quota(&bundle)?.as_str()), "{}", quota(&bundle)?);
    Ok(())
}

fn events_give_the_figures_of_runc() -> Outcome {
    let bundle = running()?;
    let event: Value = serde_json::from_str(&bundle.runtime(&["events", "--stats", &bundle.id])?.success()?)?;
    ensure!(event["type"] == "stats" && event["id"] == bundle.id.as_str(), "{event}");
    let data = &event["data"];
    ensure!(data["memory"]["usage"]["usage"].as_u64().is_some_and(|bytes| bytes > 0), "{event}");
    ensure!(data["cpu"]["usage"]["total"].as_u64().is_some_and(|time| time > 0), "{event}");
    ensure!(data["pids"]["current"].as_u64().is_some_and(|count| count > 0), "{event}");
    Ok(())
}

fn features_are_json() -> Outcome {
    let bundle = Bundle::new(&[])?;
    let features: Value = serde_json::from_str(&bundle.runtime(&["features"])?.success()?)?;
    ensure!(features["ociVersionMin"].is_string() && features["ociVersionMax"].is_string(), "{features}");
    ensure!(
        features["linux"]["namespaces"].as_array().is_some_and(|all| all.contains(&json!("network"))),
        "{features}"
    );
    Ok(())
}

fn containers_are_listed_as_a_table_and_as_json() -> Outcome {
    let bundle = running()?;
    let listed: Value = serde_json::from_str(&bundle.runtime(&["list", "--format", "json"])?.success()?)?;
    ensure!(listed[0]["id"] == bundle.id.as_str() && listed[0]["status"] == "running", "{listed}");
    ensure!(bundle.runtime(&["list", "--quiet"])?.success()?.trim() == bundle.id);
    ensure!(bundle.runtime(&["list"])?.success()?.contains(&bundle.id));
    Ok(())
}

fn a_written_spec_runs_a_guest() -> Outcome {
    let bundle = Bundle::new(&["/rust-0.1.wasm"])?;
    let folder = bundle.folder.display().to_string();
    bundle.runtime(&["spec", "--bundle", &folder])?.success()?;
    let mut spec: Value = serde_json::from_slice(&fs::read(bundle.path("config.json"))?)?;
    spec["process"]["args"] = json!(["/rust-0.1.wasm", "hello"]);
    spec["process"]["terminal"] = json!(false);
    spec["linux"]["cgroupsPath"] = json!(format!("/{0}/{0}", bundle.id));
    fs::write(bundle.path("config.json"), spec.to_string())?;
    let ended = bundle.runtime(&["run", "--bundle", &folder, &bundle.id])?;
    ensure!(ended.code == 0 && ended.stdout == "hello from Rust, WASI 0.1\n", "{ended:?}");
    Ok(())
}

fn exec_runs_wasm_and_native_programs() -> Outcome {
    let bundle = running()?;
    bundle.file("/native", &fs::read(wisp_tests::site::guest("native")?)?)?;
    for (program, greeting) in
        [("/rust-0.1.wasm", "hello from Rust, WASI 0.1\n"), ("/native", "hello from Rust, native\n")]
    {
        let ended = bundle.runtime(&["exec", &bundle.id, program, "hello"])?;
        ensure!(ended.code == 0 && ended.stdout == greeting, "{ended:?}");
        ensure!(bundle.runtime(&["exec", &bundle.id, program, "exit", "3"])?.code == 3);
        let env = bundle.runtime(&["exec", "--env", "GIVEN=x", &bundle.id, program, "env", "GIVEN"])?;
        ensure!(env.stdout == "x\n", "{env:?}");
    }
    Ok(())
}

fn exec_detaches_and_writes_its_pid() -> Outcome {
    let bundle = running()?;
    let pid_file = bundle.path("exec.pid");
    let process = bundle.path("process.json");
    let spec =
        json!({"args": ["/rust-0.1.wasm", "loop"], "cwd": "/", "env": [], "user": {"uid": 0, "gid": 0}});
    fs::write(&process, spec.to_string())?;
    let (pid_path, process) = (pid_file.display().to_string(), process.display().to_string());
    // Its outputs are the command's own, which must not be waited for.
    let output = fs::File::create(bundle.path("exec-output"))?;
    let mut command =
        bundle.command(&["exec", "--detach", "--pid-file", &pid_path, "--process", &process, &bundle.id])?;
    let status = command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).status()?;
    ensure!(status.success(), "{}", fs::read_to_string(bundle.path("exec-output"))?);
    let pid: i32 = fs::read_to_string(&pid_file)?.trim().parse()?;
    let listed = bundle.runtime(&["ps", "--format", "json", &bundle.id])?.success()?;
    ensure!(listed.contains(&pid.to_string()), "{pid} is not in {listed}");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM)?;
    ensure!(process::gone(pid, LIMIT)?, "the exec runs on");
    Ok(())
}

fn a_terminal_is_sent_to_the_console_socket() -> Outcome {
    let mut bundle = Bundle::new(&["/rust-0.1.wasm", "echo"])?;
    bundle.spec["process"]["terminal"] = json!(true);
    let socket = bundle.path("console.sock");
    let listener = UnixListener::bind(&socket)?;
    let receiver = std::thread::spawn(move || -> Result<OwnedFd> {
        let (stream, _) = listener.accept()?;
        let (mut byte, mut space) = ([0; 4096], cmsg_space!([i32; 1]));
        let mut parts = [IoSliceMut::new(&mut byte)];
        let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty())?;
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(descriptors) = control {
                // SAFETY: the kernel has just made this descriptor for this process, and nobody else owns it.
                return Ok(unsafe { OwnedFd::from_raw_fd(descriptors[0]) });
            }
        }
        anyhow::bail!("no descriptor came")
    });
    bundle.create_with(&["--console-socket", &socket.display().to_string()])?;
    let terminal = fs::File::from(receiver.join().map_err(|_| anyhow::anyhow!("panicked"))??);
    bundle.runtime(&["start", &bundle.id])?.success()?;
    read_until(&terminal, "reading")?;
    std::io::Write::write_all(&mut &terminal, b"typed\n\x04")?;
    read_until(&terminal, "read 6 bytes")?;
    bundle.until_stopped()
}

fn read_until(mut terminal: &fs::File, text: &str) -> Outcome {
    let mut seen = String::new();
    eventually(text, LIMIT, || {
        let mut buffer = [0; 4096];
        let read = std::io::Read::read(&mut terminal, &mut buffer).with_context(|| seen.clone())?;
        seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
        Ok(seen.contains(text).then_some(()))
    })
}

fn errors_go_to_the_log_as_json() -> Outcome {
    let bundle = Bundle::new(&["/no-such.wasm"])?;
    fs::write(bundle.path("config.json"), bundle.spec.to_string())?;
    let (log, folder) = (bundle.path("log.json"), bundle.folder.display().to_string());
    let log_path = log.display().to_string();
    let args = ["--log", &log_path, "--log-format", "json", "create", "--bundle", &folder, &bundle.id];
    ensure!(bundle.runtime(&args)?.code != 0);
    let text = fs::read_to_string(&log)?;
    let last: Value = serde_json::from_str(text.lines().last().context("an empty log")?)?;
    ensure!(
        last["level"] == "error" && last["msg"].as_str().is_some_and(|text| text.contains("/no-such.wasm")),
        "{last}"
    );
    Ok(())
}

/// The shim's commands end with it.
fn a_command_dies_with_the_parent_that_it_is_told() -> Outcome {
    let bundle = running()?;
    let stranger = bundle.runtime(&["--die-with-parent", "1", "state", &bundle.id])?;
    ensure!(stranger.code != 0 && stranger.stderr.contains("does not run this command"), "{stranger:?}");
    // It prints figures every five seconds, for as long as the guest runs.
    let script = r#""$0" --root /run/wisp/tests --die-with-parent $$ events "$1" & echo $!; wait"#;
    let mut command = bundle.space.command("/bin/sh");
    command.args(["-c", script]).arg(site::binary("wisp-runtime")?).arg(&bundle.id);
    command.env("WISP_TESTS_BED", &bundle.id);
    let mut parent = process::dies_with_us(&mut command).stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(parent.stdout.take().context("no stdout")?).lines();
    let (mut pid, mut has_begun) = (None, false);
    while pid.is_none() || !has_begun {
        let line = lines.next().context("the command ended")??;
        has_begun |= line.contains("stats");
        pid = pid.or(line.parse().ok());
    }
    parent.kill()?;
    parent.wait()?;
    ensure!(process::gone(pid.unwrap_or_default(), LIMIT)?, "the command outlives its parent");
    Ok(())
}
