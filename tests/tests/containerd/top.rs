//! `wisp top`, beside the containerds that it asks.

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
