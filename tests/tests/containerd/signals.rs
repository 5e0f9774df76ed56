//! Signals, wherever the guest is when they come.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use wisp_tests::bed::{Bed, LIMIT, eventually};
use wisp_tests::suite::Case;
use wisp_tests::task::{Container, Task, WISP};
use wisp_tests::{Outcome, cases, net};

use crate::ends::COMMANDS;

pub(crate) const CASES: &[Case] = cases![Shared:
    sigterm_ends_a_guest_that_loops_in_a_tenth_of_a_second,
    sigterm_ends_a_guest_that_sleeps_in_a_tenth_of_a_second,
    sigterm_ends_a_guest_that_waits_for_input_in_a_tenth_of_a_second,
    sigterm_ends_a_guest_that_waits_on_a_socket_in_a_tenth_of_a_second,
    sigterm_ends_a_guest_whose_output_nobody_reads_in_a_tenth_of_a_second,
    other_fatal_signals_exit_128_and_their_number,
    a_signal_that_is_ignored_by_default_ends_nothing,
    a_reader_that_has_gone_does_not_hide_the_exit,
];

const SOON: Duration = Duration::from_millis(100);

/// Sends a signal to a guest that is where it should be; the time until containerd has published the exit.
fn time_to_exit(task: &Task<'_>, signal: Signal, code: u32) -> Result<Duration> {
    let sent = task.kill(signal)?;
    let exit = task.bed.events().wait(&task.id, "", "/tasks/exit", Duration::from_secs(20))?;
    ensure!(exit.status == Some(code), "exit status {:?} and not {code}\n{}", exit.status, task.printed());
    Ok(exit.at.saturating_duration_since(sent))
}

/// The bound holds for the guest and not for a machine that runs other tests: the best of ten counts.
fn ends_soon<'a>(start: impl Fn() -> Result<Task<'a>>) -> Outcome {
    let mut times = Vec::new();
    for _ in 0..10 {
        let task = start()?;
        times.push(time_to_exit(&task, Signal::SIGTERM, 143)?);
        if times.last() < Some(&SOON) {
            return Ok(());
        }
    }
    anyhow::bail!("ended after {times:?}")
}

fn sigterm_ends_a_guest_that_loops_in_a_tenth_of_a_second(bed: &Bed) -> Outcome {
    COMMANDS.into_iter().try_for_each(|program| {
        ends_soon(|| {
            let task = Container::new(bed, &[program, "loop"])?.runtime(WISP).start()?;
            task.until("looping")?;
            Ok(task)
        })
        .context(program)
    })
}

fn sigterm_ends_a_guest_that_sleeps_in_a_tenth_of_a_second(bed: &Bed) -> Outcome {
    COMMANDS.into_iter().try_for_each(|program| {
        ends_soon(|| {
            let task = Container::new(bed, &[program, "sleep", "600"])?.runtime(WISP).start()?;
            task.until("sleeping")?;
            Ok(task)
        })
        .context(program)
    })
}

fn sigterm_ends_a_guest_that_waits_for_input_in_a_tenth_of_a_second(bed: &Bed) -> Outcome {
    COMMANDS.into_iter().try_for_each(|program| {
        ends_soon(|| {
            let task = Container::new(bed, &[program, "echo"])?.runtime(WISP).stdin().start()?;
            task.until("reading")?;
            Ok(task)
        })
        .context(program)
    })
}

fn sigterm_ends_a_guest_that_waits_on_a_socket_in_a_tenth_of_a_second(bed: &Bed) -> Outcome {
    net::serve(&bed.space, "127.0.0.1:7001", net::silent)?;
    ends_soon(|| {
        let container = Container::new(bed, &["/rust-0.2.wasm", "connect", "127.0.0.1:7001", "hello?"])?;
        let task = container.runtime(WISP).flags(&["--net-host"]).start()?;
        task.until("connected")?;
        Ok(task)
    })
}

fn sigterm_ends_a_guest_whose_output_nobody_reads_in_a_tenth_of_a_second(bed: &Bed) -> Outcome {
    COMMANDS[..2].iter().try_for_each(|program| {
        ends_soon(|| {
            let task = Container::new(bed, &[program, "fill"])?.runtime(WISP).start()?;
            task.until("filling")?;
            task.stop_reading()?;
            Ok(task)
        })
        .context(*program)
    })
}

fn other_fatal_signals_exit_128_and_their_number(bed: &Bed) -> Outcome {
    for signal in [Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1] {
        for program in &COMMANDS[..2] {
            let task = Container::new(bed, &[program, "loop"])?.runtime(WISP).start()?;
            task.until("looping")?;
            time_to_exit(&task, signal, 128 + signal as u32)
                .with_context(|| format!("{signal} to {program}"))?;
        }
    }
    Ok(())
}

fn a_signal_that_is_ignored_by_default_ends_nothing(bed: &Bed) -> Outcome {
    let mut task = Container::new(bed, &["/rust-0.2.wasm", "echo"])?.runtime(WISP).stdin().start()?;
    task.until("reading")?;
    for signal in [Signal::SIGWINCH, Signal::SIGCHLD, Signal::SIGURG] {
        task.kill(signal)?;
    }
    task.write("still here")?;
    task.wait()?.code(0)?.stdout("reading\nstill hereread 10 bytes\n")?;
    Ok(())
}

fn a_reader_that_has_gone_does_not_hide_the_exit(bed: &Bed) -> Outcome {
    let task = Container::new(bed, &["/rust-0.2.wasm", "lines", "1000000"])?.runtime(WISP).start()?;
    task.until("line 1")?;
    let pid = task.pid()?;
    task.kill_reader()?;
    let has_ended = eventually("the guest's end, or that it waits for a reader", LIMIT, || {
        let ended = bed.events().of(&task.id).iter().any(|event| event.topic == "/tasks/exit");
        Ok((ended || waits_for_a_reader(pid)).then_some(ended))
    })?;
    // One that waits, as under runc, must end when it is told to.
    if has_ended { Ok(()) } else { time_to_exit(&task, Signal::SIGTERM, 143).map(drop) }
}

/// Whether a thread of a process waits until somebody reads what it has written.
fn waits_for_a_reader(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let waits = threads.map(|thread| fs::read_to_string(thread.path().join("wchan")).unwrap_or_default());
    waits.into_iter().any(|function| function.contains("pipe_write"))
}
