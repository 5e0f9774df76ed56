//! `wisp top`, beside the containerds that it asks.

use std::io::Read;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use wisp_tests::bed::{Bed, LIMIT, eventually};
use wisp_tests::net::get;
use wisp_tests::process::{self, Finished};
use wisp_tests::suite::Case;
use wisp_tests::task::{Container, WISP};
use wisp_tests::{Outcome, cases, site};

use crate::http::serving;

pub(crate) const CASES: &[Case] = cases![Shared:
    top_shows_what_wasm_tasks_are_and_use,
    top_looks_again_and_again_on_a_terminal,
    top_leaves_out_native_tasks_and_other_namespaces,
    top_says_where_it_expected_containerd,
];

fn top(bed: &Bed, args: &[&str]) -> Result<Finished> {
    let mut command = bed.space.command(site::binary("wisp")?);
    command.args(["top", "--address"]).arg(bed.socket()).args(args);
    process::run(&mut command, LIMIT)
}

/// The task of a container, if it is shown.
fn shown(bed: &Bed, id: &str, args: &[&str]) -> Result<Option<Value>> {
    let said = top(bed, &[args, &["--json"]].concat())?.success()?;
    let tasks: Vec<Value> = serde_json::from_str(&said).with_context(|| said.clone())?;
    Ok(tasks.into_iter().find(|task| task["id"] == id))
}

fn top_shows_what_wasm_tasks_are_and_use(bed: &Bed) -> Outcome {
    let (task, pid) = serving(bed, "/http-0.2.wasm", &[])?;
    for _ in 0..3 {
        get(pid, "/hello")?;
    }
    let id = task.id.clone();
    // The service counts a request when it has answered it.
    let found = eventually("three requests", LIMIT, || {
        let found = shown(bed, &id, &["-n", &bed.namespace])?.context("it is not shown")?;
        Ok((found["counters"]["requests"].as_u64() >= Some(3)).then_some(found))
    })?;
    ensure!(found["kind"] == "http02" && found["status"] == "running", "{found}");
    ensure!(found["pid"] == pid && found["namespace"] == bed.namespace, "{found}");
    ensure!(found["image"].as_str().is_some_and(|image| image.contains("guests")), "{found}");
    for figure in ["cpu_ns", "memory_bytes"] {
        ensure!(found[figure].as_u64() > Some(0), "{figure} in {found}");
    }
    ensure!(found["cpu_percent"].is_number(), "{found}");

    let table = top(bed, &["--once", "--sort", "requests"])?.success()?;
    let line = table.lines().find(|line| line.contains(&id)).with_context(|| table.clone())?;
    ensure!(line.contains("HTTP service (wasi:http 0.2)"), "{table}");
    ensure!(!table.contains('\x1b'), "no terminal, and yet it is cleared: {table:?}");
    Ok(())
}

fn top_looks_again_and_again_on_a_terminal(bed: &Bed) -> Outcome {
    const CLEAR: &str = "\x1b[H\x1b[2J";
    let (task, _) = serving(bed, "/http-0.2.wasm", &[])?;
    let line = format!("{} top --address {}", site::binary("wisp")?.display(), bed.socket().display());
    let mut script = bed.space.command("script");
    script.args(["--quiet", "--command", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut script = process::dies_with_us(&mut script).spawn().context("starting script")?;
    let mut output = script.stdout.take().context("no output")?;
    let (told, looks) = mpsc::channel();
    thread::spawn(move || {
        let (mut said, mut buffer) = (String::new(), [0; 4096]);
        // The third is there when the second is whole.
        while said.matches(CLEAR).count() < 3
            && let Ok(read @ 1..) = output.read(&mut buffer)
        {
            said.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
        told.send(said)
    });
    let said = looks.recv_timeout(LIMIT);
    // Its terminal goes with it, and top with the terminal.
    script.kill()?;
    script.wait()?;
    let said = said.context("it does not look again")?;
    let tables: Vec<_> = said.split(CLEAR).skip(1).take(2).collect();
    ensure!(tables.len() == 2 && tables.iter().all(|table| table.contains(&task.id)), "{said:?}");
    Ok(())
}

fn top_leaves_out_native_tasks_and_other_namespaces(bed: &Bed) -> Outcome {
    let native = Container::new(bed, &["/native", "sleep", "600"])?.runtime(WISP).start()?;
    eventually("the native task", LIMIT, || Ok(native.pid().ok()))?;
    ensure!(shown(bed, &native.id, &[])?.is_none(), "a native task is shown");
    let said = top(bed, &["-n", "no-such-namespace", "--json"])?.success()?;
    ensure!(said.trim() == "[]", "{said}");
    Ok(())
}

fn top_says_where_it_expected_containerd(bed: &Bed) -> Outcome {
    let mut command = bed.space.command(site::binary("wisp")?);
    let ended = process::run(command.args(["top", "-a", "/nowhere/c.sock"]), LIMIT)?;
    ensure!(ended.code == 1 && ended.stdout.is_empty(), "{ended:?}");
    ensure!(ended.stderr.contains("containerd was expected at /nowhere/c.sock"), "{ended:?}");
    ensure!(ended.stderr.trim().lines().count() == 1, "{ended:?}");
    Ok(())
}
