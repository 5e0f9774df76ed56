//! The rest of containerd's task service: exec, processes, pause, limits, figures, events, and the codes of its errors.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use containerd_client::tonic::Code;
use nix::sys::signal::Signal;
use serde_json::json;
use wisp_tests::bed::{Bed, LIMIT, eventually};
use wisp_tests::client::code;
use wisp_tests::suite::Case;
use wisp_tests::task::{Container, RUNC, Task, WISP};
use wisp_tests::{Outcome, cases, leaks};

pub(crate) const CASES: &[Case] = cases![Shared:
    an_exec_of_wasm_runs_beside_the_guest,
    an_exec_of_a_native_program_runs_beside_the_guest,
    an_exec_in_a_native_container_is_runcs,
    an_exec_ends_on_its_own_signal,
    an_exec_has_a_terminal_of_its_own,
    an_exec_that_cannot_start_says_why,
    the_processes_of_a_task_are_listed,
    a_paused_guest_stands_still_and_runs_on,
    a_paused_guest_can_be_killed,
    limits_change_while_the_guest_runs,
    figures_are_containerds_own,
    events_come_in_the_order_of_runcs_shim,
    errors_have_the_codes_of_runcs_shim,
    the_containers_of_a_pod_share_one_shim,
    the_shim_logs_into_containerds_log,
];

/// A guest that waits for its input, and so for as long as the test likes.
fn waiting<'a>(bed: &'a Bed, runtime: &'static str, flags: &[&str]) -> Result<Task<'a>> {
    let task =
        Container::new(bed, &["/rust-0.2.wasm", "echo"])?.runtime(runtime).flags(flags).stdin().start()?;
    task.until("reading")?;
    Ok(task)
}

fn an_exec_of_wasm_runs_beside_the_guest(bed: &Bed) -> Outcome {
    let task = waiting(bed, WISP, &[])?;
    let said = task.exec(&[], &["/rust-0.1.wasm", "hello"])?.success()?;
    ensure!(said == "hello from Rust, WASI 0.1\n", "{said:?}");
    let ended = task.exec(&["--cwd", "/data"], &["/rust-0.2.wasm", "cwd"])?;
    ensure!(ended.success()? == "/data\n");
    for code in [0, 3] {
        let ended = task.exec(&[], &["/rust-0.1.wasm", "exit", &code.to_string()])?;
        ensure!(ended.code == code, "{ended:?}");
    }
    let ended = task.exec(&[], &["/rust-0.2.wasm", "trap", "unreachable"])?;
    ensure!(ended.code == 134 && ended.stderr.contains("reach_the_unreachable"), "{ended:?}");
    task.wait()?.code(0)?;
    Ok(())
}

fn an_exec_of_a_native_program_runs_beside_the_guest(bed: &Bed) -> Outcome {
    let task = waiting(bed, WISP, &[])?;
    let said = task.exec(&[], &["/native", "hello"])?.success()?;
    ensure!(said == "hello from Rust, native\n", "{said:?}");
    ensure!(task.exec(&[], &["/native", "exit", "5"])?.code == 5);
    task.wait()?.code(0)?;
    Ok(())
}

fn an_exec_in_a_native_container_is_runcs(bed: &Bed) -> Outcome {
    let task = Container::new(bed, &["/native", "echo"])?.stdin().start()?;
    task.until("reading")?;
    ensure!(task.exec(&[], &["/native", "exit", "5"])?.code == 5);
    task.wait()?.code(0)?;
    Ok(())
}

fn an_exec_ends_on_its_own_signal(bed: &Bed) -> Outcome {
    let task = waiting(bed, WISP, &[])?;
    let client = task.client()?;
    for program in ["/rust-0.2.wasm", "/native"] {
        let (exec, log) = (bed.id("x"), bed.folder.join("logs").join(bed.id("exec")));
        fs::write(&log, "")?;
        client.exec(&task.id, &exec, &[program, "loop"], &log)?;
        client.start(&task.id, &exec)?;
        eventually("the exec's first line", LIMIT, || {
            Ok(fs::read_to_string(&log)?.contains("looping").then_some(()))
        })?;
        client.kill(&task.id, &exec, Signal::SIGTERM as u32, false)?;
        ensure!(client.wait(&task.id, &exec)? == 143, "{program} did not exit 143");
        ensure!(client.delete_exec(&task.id, &exec)? == 143);
    }
    task.wait()?.code(0)?;
    Ok(())
}

fn an_exec_has_a_terminal_of_its_own(bed: &Bed) -> Outcome {
    let task = waiting(bed, WISP, &[])?;
    for program in ["/rust-0.2.wasm", "/native"] {
        let said = task.exec_in_terminal(&[program, "both"])?.success()?;
        ensure!(said.replace('\r', "").contains("to stdout\nto stderr\n"), "{program} printed {said:?}");
    }
    task.wait()?.code(0)?;
    Ok(())
}

fn an_exec_that_cannot_start_says_why(bed: &Bed) -> Outcome {
    let task = waiting(bed, WISP, &[])?;
    for program in ["/no-such.wasm", "/data/greeting.txt"] {
        let ended = task.exec(&[], &[program])?;
        ensure!(ended.code != 0 && ended.stderr.contains(program), "{ended:?}");
    }
    task.wait()?.code(0)?;
    Ok(())
}

fn the_processes_of_a_task_are_listed(bed: &Bed) -> Outcome {
    let task = waiting(bed, WISP, &[])?;
    let (pid, pids) = (task.pid()?, task.client()?.pids(&task.id)?);
    ensure!(pids == [pid], "{pids:?} and not [{pid}]");
    let listed = bed.ctr(&["task", "ps", &task.id])?.success()?;
    ensure!(listed.contains(&pid.to_string()), "{listed}");
    task.wait()?.code(0)?;
    Ok(())
}

fn a_paused_guest_stands_still_and_runs_on(bed: &Bed) -> Outcome {
    let task = Container::new(bed, &["/rust-0.2.wasm", "tick", "10"])?.runtime(WISP).start()?;
    task.until("tick 3\n")?;
    let client = task.client()?;
    client.pause(&task.id)?;
    ensure!(client.state(&task.id, "")?.0 == 4, "the state is not paused");
    // What was on its way when it was paused may still arrive.
    std::thread::sleep(Duration::from_millis(100));
    let before = task.printed().len();
    std::thread::sleep(Duration::from_millis(200));
    ensure!(task.printed().len() == before, "a paused guest printed");
    client.resume(&task.id)?;
    ensure!(client.state(&task.id, "")?.0 == 2, "the state is not running");
    eventually("a tick", LIMIT, || Ok((task.printed().len() > before).then_some(())))?;
    task.kill(Signal::SIGTERM)?;
    task.wait()?.code(143)?;
    Ok(())
}

fn a_paused_guest_can_be_killed(bed: &Bed) -> Outcome {
    for runtime in [RUNC, WISP] {
        let task = waiting(bed, runtime, &[])?;
        task.client()?.pause(&task.id)?;
        task.kill(Signal::SIGKILL)?;
        // On cgroup v1 the kill is seen once the task runs on, under runc too.
        let _ = task.client()?.resume(&task.id);
        task.wait()?.code(137)?;
    }
    Ok(())
}

fn limits_change_while_the_guest_runs(bed: &Bed) -> Outcome {
    let task = waiting(bed, WISP, &["--memory-limit", "268435456"])?;
    let update =
        json!({"memory": {"limit": 134_217_728}, "cpu": {"shares": 512, "quota": 50_000, "period": 100_000}});
    task.client()?.update(&task.id, &update)?;
    let read = |controller, v1: &str| -> Result<String> {
        Ok(fs::read_to_string(task.cgroup_file(controller, v1)?)?.trim().to_owned())
    };
    ensure!(read("memory", "memory.limit_in_bytes")? == "134217728");
    ensure!(read("cpu", "cpu.shares")? == "512" && read("cpu", "cpu.cfs_quota_us")? == "50000");
    // The guest is told as well: it is refused before the kernel has to kill it.
    let ended = task.exec(&[], &["/rust-0.2.wasm", "hello"])?;
    ensure!(ended.code == 0, "{ended:?}");
    task.wait()?.code(0)?;
    Ok(())
}

fn figures_are_containerds_own(bed: &Bed) -> Outcome {
    let mut kinds = Vec::new();
    for runtime in [RUNC, WISP] {
        let task = waiting(bed, runtime, &["--memory-limit", "67108864"])?;
        kinds.push(task.client()?.metrics(&task.id)?.type_url);
        let printed = bed.ctr(&["task", "metrics", &task.id])?.success()?;
        let figure = |name: &str| -> Result<u64> {
            let line = printed
                .lines()
                .find(|line| line.starts_with(name))
                .with_context(|| format!("no {name} in {printed}"))?;
            Ok(line.split_whitespace().last().context("no figure")?.parse()?)
        };
        if leaks::has_cgroup_v1() {
            ensure!(
                figure("memory.usage_in_bytes")? > 0 && figure("memory.limit_in_bytes")? == 67_108_864,
                "{runtime}: {printed}"
            );
            ensure!(figure("cpuacct.usage ")? > 0, "{runtime}: {printed}");
        } else {
            ensure!(figure("memory.usage_in_bytes")? > 0, "{runtime}: {printed}");
        }
        task.wait()?.code(0)?;
    }
    ensure!(kinds[0] == kinds[1], "{kinds:?}");
    Ok(())
}

/// Everything that can happen to a task, and what was published of it.
fn life(bed: &Bed, runtime: &'static str) -> Result<Vec<(String, bool, Option<u32>)>> {
    let id = {
        let task = Container::new(bed, &["/rust-0.2.wasm", "sleep", "600"])?.runtime(runtime).detach()?;
        task.until("sleeping")?;
        let client = task.client()?;
        task.exec(&[], &["/native", "exit", "3"])?;
        client.pause(&task.id)?;
        client.resume(&task.id)?;
        task.kill(Signal::SIGKILL)?;
        task.exit_code()?;
        task.id.clone()
    };
    // runc's shim often ends before it has published the delete; Wisp's may not.
    let patience = if runtime == RUNC { Duration::from_secs(2) } else { LIMIT };
    let delete = bed.events().wait(&id, "", "/tasks/delete", patience);
    ensure!(runtime == RUNC || delete.is_ok(), "the delete was not published");
    let events = bed.events().of(&id).into_iter().filter(|event| event.topic != "/tasks/delete");
    Ok(events.map(|event| (event.topic, event.exec.is_empty(), event.status)).collect())
}

fn events_come_in_the_order_of_runcs_shim(bed: &Bed) -> Outcome {
    let (runc, wisp) = (life(bed, RUNC)?, life(bed, WISP)?);
    ensure!(runc == wisp, "runc: {runc:?}\nwisp: {wisp:?}");
    ensure!(wisp.len() == 8, "{wisp:?}");
    Ok(())
}

/// The codes of everything that can be asked at the wrong moment.
fn codes(bed: &Bed, runtime: &'static str) -> Result<Vec<(&'static str, Code)>> {
    let task = Container::new(bed, &["/rust-0.2.wasm", "echo"])?.runtime(runtime).detach()?;
    let task_running = Container::new(bed, &["/rust-0.2.wasm", "loop"])?.runtime(runtime).detach()?;
    task_running.until("looping")?;
    let (client, log) = (task.client()?, bed.folder.join("logs").join(bed.id("codes")));
    fs::write(&log, "")?;
    let (id, running) = (task.id.as_str(), task_running.id.as_str());
    task.exit_code()?; // its standard input was empty
    let exec = |id: &str, exec: &str| client.exec(id, exec, &["/native", "loop"], &log);
    let mut codes = vec![
        ("kill of a stopped task", code(&client.kill(id, "", 15, false))),
        ("kill of all of a stopped task", code(&client.kill(id, "", 15, true))),
        ("kill with an unknown signal", code(&client.kill(running, "", 99, false))),
        ("kill of an unknown exec", code(&client.kill(running, "none", 15, false))),
        ("state of an unknown exec", code(&client.state(running, "none"))),
        ("wait for an unknown exec", code(&client.wait(running, "none"))),
        ("start of a running task", code(&client.start(running, ""))),
        ("start of an unknown exec", code(&client.start(running, "none"))),
        ("delete of a running task", code(&client.delete(running))),
        ("delete of an unknown exec", code(&client.delete_exec(running, "none"))),
        ("pause of a stopped task", code(&client.pause(id))),
        ("resume of a running task", code(&client.resume(running))),
        ("resize without a terminal", code(&client.resize(running, "", 80, 24))),
        ("end of an unknown exec's input", code(&client.close_io(running, "none"))),
        ("update of a stopped task", code(&client.update(id, &json!({"memory": {"limit": 1 << 28}})))),
        ("exec in a stopped task", code(&exec(id, "late"))),
        ("start of an exec in a stopped task", code(&client.start(id, "late"))),
        ("processes of a stopped task", code(&client.pids(id))),
        ("first exec", code(&exec(running, "one"))),
        ("second exec of the same id", code(&exec(running, "one"))),
        ("delete of an exec that was not started", code(&client.delete_exec(running, "one"))),
        ("state of an unknown task", code(&client.state("none", ""))),
    ];
    codes.push(("delete of a stopped task", code(&client.delete(id))));
    codes.push(("delete of a deleted task", code(&client.delete(id))));
    Ok(codes)
}

fn errors_have_the_codes_of_runcs_shim(bed: &Bed) -> Outcome {
    let (runc, wisp) = (codes(bed, RUNC)?, codes(bed, WISP)?);
    let other: Vec<_> = runc.iter().zip(&wisp).filter(|(runc, wisp)| runc != wisp).collect();
    ensure!(other.is_empty(), "runc and Wisp differ: {other:#?}");
    Ok(())
}

fn the_containers_of_a_pod_share_one_shim(bed: &Bed) -> Outcome {
    let shims = || -> BTreeSet<i32> {
        let all = leaks::processes(&bed.name).into_iter();
        all.filter(|process| process.command.contains("containerd-shim-wisp-v1"))
            .map(|process| process.pid)
            .collect()
    };
    let pod = bed.id("pod");
    let annotation = format!("io.kubernetes.cri.sandbox-id={pod}");
    let of_pod = |args: &[&str]| -> Result<Task<'_>> {
        let task =
            Container::new(bed, args)?.runtime(WISP).flags(&["--annotation", &annotation]).stdin().start()?;
        task.until("reading")?;
        Ok(task)
    };
    let first = of_pod(&["/rust-0.1.wasm", "echo"])?;
    let shim_of = |task: &Task<'_>| leaks::parent_of(task.pid()?.cast_signed());
    let shim = shim_of(&first)?;
    let tasks = [of_pod(&["/rust-0.2.wasm", "echo"])?, of_pod(&["/native", "echo"])?];
    for task in &tasks {
        ensure!(shim_of(task)? == shim, "a shim of its own");
    }
    ensure!(shims().contains(&shim), "{shim} is no shim");
    // The first container's end is not the pod's.
    first.wait()?.code(0)?;
    for task in tasks {
        task.exec(&[], &["/native", "hello"])?.success()?;
        task.wait()?.code(0)?;
    }
    eventually("the shim's end", LIMIT, || Ok((!shims().contains(&shim)).then_some(())))
}

fn the_shim_logs_into_containerds_log(bed: &Bed) -> Outcome {
    let task = waiting(bed, WISP, &[])?;
    let id = task.id.clone();
    task.wait()?.code(0)?;
    let lines = bed.log_tail(&id);
    ensure!(lines.contains("level="), "containerd's log says nothing of {id}:\n{lines}");
    Ok(())
}
