//! What survives: tasks without their containerd, a node without its shims, guests under newer programs.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use containerd_client::tonic::Code;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use wisp_tests::bed::{Bed, LIMIT, Options, eventually};
use wisp_tests::client::code;
use wisp_tests::leaks::{self, Inventory};
use wisp_tests::model::Model;
use wisp_tests::suite::Case;
use wisp_tests::task::{Container, RUNC, Task, WISP};
use wisp_tests::{Outcome, cases, process};

pub(crate) const CASES: &[Case] = cases![Own:
    tasks_run_on_while_containerd_is_stopped_and_started,
    tasks_run_on_while_containerd_is_killed_and_started,
    a_killed_shim_leaves_nothing,
    a_killed_shim_of_a_pod_leaves_nothing,
    tasks_run_on_under_a_newer_wisp,
    without_runc_a_native_container_is_refused_with_a_sentence,
    many_tasks_leave_nothing,
];

pub(crate) const ONCE: &[Case] = cases![Once:
    tasks_run_on_while_containerd_1_7_becomes_2_4,
];

const TASKS: usize = 20;

/// Tasks that print without end, half of them WASI 0.1, one native.
fn ticking(bed: &Bed) -> Result<Vec<Task<'_>>> {
    let tasks = (0..TASKS).map(|index| {
        let program = ["/rust-0.1.wasm", "/rust-0.2.wasm"][index % 2];
        let program = if index == TASKS - 1 { "/native" } else { program };
        let task = Container::new(bed, &[program, "tick", "100"])?.runtime(WISP).detach()?;
        task.until("tick 2\n")?;
        Ok(task)
    });
    tasks.collect()
}

/// Every task of [`ticking`] is what it was: it prints, its execs run, and it ends as it should.
fn run_on(bed: &Bed, tasks: Vec<Task<'_>>) -> Outcome {
    let client = bed.client()?;
    for (index, task) in tasks.into_iter().enumerate() {
        let context = || format!("task {index}, {}\n{}", task.id, bed.log_tail(&task.id));
        let (status, pid) = client.state(&task.id, "").with_context(context)?;
        ensure!(status == 2 && pid > 0, "{}: status {status}", context());
        ensure!(client.pids(&task.id).with_context(context)?.contains(&pid));
        let before = task.printed().len();
        eventually("a tick", LIMIT, || Ok((task.printed().len() > before).then_some(())))
            .with_context(context)?;
        if index < 4 {
            let said = task.exec(&[], &["/native", "hello"])?.success().with_context(context)?;
            ensure!(said == "hello from Rust, native\n", "{said:?}");
        }
        // A native process 1 does not mind SIGTERM.
        let (signal, code) = if index == TASKS - 1 { (Signal::SIGKILL, 137) } else { (Signal::SIGTERM, 143) };
        task.kill(signal).with_context(context)?;
        ensure!(client.wait(&task.id, "").with_context(context)? == code, "{}", context());
    }
    Ok(())
}

fn survives(version: &'static str, signal: Signal) -> Outcome {
    let bed = Bed::start(version)?;
    bed.import_guests()?;
    let before = Inventory::of(&bed)?;
    let tasks = ticking(&bed)?;
    // One ends while nobody looks.
    let ended = Container::new(&bed, &["/rust-0.1.wasm", "loop"])?.runtime(WISP).detach()?;
    ended.until("looping")?;
    let pid = ended.pid()?;

    bed.stop(signal)?;
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM)?;
    ensure!(process::gone(pid.cast_signed(), LIMIT)?, "a task did not end while containerd was away");
    let printed: Vec<_> = tasks.iter().map(|task| task.printed().len()).collect();
    eventually("ticks while containerd is away", LIMIT, || {
        Ok(tasks.iter().zip(&printed).all(|(task, &before)| task.printed().len() > before).then_some(()))
    })?;
    bed.launch(version)?;

    // containerd takes a shim without processes for a leaked one, and cleans up after it; or it has heard of the exit.
    let known = bed.client()?.wait(&ended.id, "");
    ensure!(matches!(known, Ok(143)) || code(&known) == Code::NotFound, "{known:?}");
    drop(ended);
    run_on(&bed, tasks)?;
    Inventory::nothing_new(&bed, &before)
}

fn tasks_run_on_while_containerd_is_stopped_and_started(version: &'static str) -> Outcome {
    survives(version, Signal::SIGTERM)
}

fn tasks_run_on_while_containerd_is_killed_and_started(version: &'static str) -> Outcome {
    survives(version, Signal::SIGKILL)
}

fn tasks_run_on_while_containerd_1_7_becomes_2_4() -> Outcome {
    let bed = Bed::start("1.7")?;
    let tasks = ticking(&bed)?;
    bed.stop(Signal::SIGTERM)?;
    bed.launch("2.4")?;
    run_on(&bed, tasks)?;
    Container::new(&bed, &["/rust-0.2.wasm"])?.runtime(WISP).run()?.code(0)?;
    Ok(())
}

fn tasks_run_on_under_a_newer_wisp(version: &'static str) -> Outcome {
    let bed = Bed::start(version)?;
    let tasks = ticking(&bed)?;
    bed.install_wisp()?;
    run_on(&bed, tasks)?;
    Container::new(&bed, &["/rust-0.2.wasm"])?.runtime(WISP).run()?.code(0)?;
    Ok(())
}

fn killed_shim(version: &'static str, flags: &[&str], containers: usize) -> Outcome {
    let bed = Bed::start(version)?;
    bed.import_guests()?;
    let before = Inventory::of(&bed)?;
    let programs = ["/rust-0.2.wasm", "/rust-0.1.wasm", "/native"];
    let tasks = programs[..containers].iter().map(|program| {
        let task = Container::new(&bed, &[program, "tick", "100"])?.runtime(WISP).flags(flags).detach()?;
        task.until("tick 2\n")?;
        Ok(task)
    });
    let tasks = tasks.collect::<Result<Vec<_>>>()?;
    let pids = tasks.iter().map(Task::pid).collect::<Result<Vec<_>>>()?;
    kill(Pid::from_raw(leaks::parent_of(pids[0].cast_signed())?), Signal::SIGKILL)?;
    for (task, pid) in tasks.iter().zip(pids) {
        ensure!(task.exit_code()? == 137, "{} did not exit 137", task.id);
        ensure!(process::gone(pid.cast_signed(), LIMIT)?, "the guest of a killed shim runs on");
    }
    // A person deletes the containers; containerd has done the rest.
    drop(tasks);
    Inventory::nothing_new(&bed, &before)
}

fn a_killed_shim_leaves_nothing(version: &'static str) -> Outcome {
    killed_shim(version, &[], 1)
}

fn a_killed_shim_of_a_pod_leaves_nothing(version: &'static str) -> Outcome {
    killed_shim(version, &["--annotation", "io.kubernetes.cri.sandbox-id=pod"], 3)
}

fn without_runc_a_native_container_is_refused_with_a_sentence(version: &'static str) -> Outcome {
    let bed = Bed::start_with(version, Options { without_runc: true, ..Options::default() })?;
    let ended = Container::new(&bed, &["/native", "hello"])?.runtime(WISP).run()?;
    crate::ends::refused_with(ended.refused()?, &["native", "runc"])?;
    Container::new(&bed, &["/rust-0.2.wasm"])?.runtime(WISP).run()?.code(0)?;
    Ok(())
}

/// How many tasks [`many_tasks_leave_nothing`] runs: the thousand that is promised, or what `WISP_TESTS_TASKS` says for a quick look.
fn how_many() -> usize {
    std::env::var("WISP_TESTS_TASKS").ok().and_then(|number| number.parse().ok()).unwrap_or(1000)
}

fn many_tasks_leave_nothing(version: &'static str) -> Outcome {
    // As on a node: what a thousand tasks have to say at `debug` takes a part of the processor, and nobody reads it.
    let bed = Bed::start_with(version, Options { quiet: true, ..Options::default() })?;
    bed.import_guests()?;
    // The first of each kind may open what is kept.
    for runtime in [RUNC, WISP] {
        Container::new(&bed, &["/rust-0.1.wasm"])?.runtime(runtime).run()?.code(0)?;
    }
    let (before, descriptors) = (Inventory::of(&bed)?, leaks::descriptors(bed.pid()?));
    let runner = |bed: Arc<Bed>, count: usize| {
        std::thread::spawn(move || -> Outcome {
            let models = crate::ends::COMMANDS
                .iter()
                .map(|program| Model::new(&bed, Container::new(&bed, &[program, "hello"])?.runtime(WISP)));
            for model in models.collect::<Result<Vec<_>>>()?.iter().cycle().take(count) {
                let ended = model.run()?.code(0)?;
                ensure!(ended.stdout.starts_with("hello from Rust"), "{ended:?}");
            }
            Ok(())
        })
    };
    let runners: Vec<_> = (0..4).map(|_| runner(Arc::clone(&bed), how_many() / 4)).collect();
    for runner in runners {
        runner.join().map_err(|_| anyhow::anyhow!("a runner panicked"))??;
    }
    Inventory::nothing_new(&bed, &before)?;
    eventually("containerd's descriptors as before", Duration::from_secs(10), || {
        Ok((leaks::descriptors(bed.pid()?) <= descriptors + 2).then_some(()))
    })
    .with_context(|| format!("{} and not {descriptors}", leaks::descriptors(bed.pid().unwrap_or_default())))
}
