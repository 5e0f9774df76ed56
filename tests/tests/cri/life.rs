//! How the containers of a pod begin, print and end, and what a kubelet is told of it.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use wisp_tests::bed::{LIMIT, eventually};
use wisp_tests::cri::api::ContainerState;
use wisp_tests::cri::logs;
use wisp_tests::cri::node::Node;
use wisp_tests::image::Image;
use wisp_tests::suite::Case;
use wisp_tests::{Outcome, cases};

pub(crate) const CASES: &[Case] = cases![Pods:
    a_container_completes_and_its_log_is_in_cris_format,
    a_line_of_any_length_is_put_together_from_its_log,
    an_exit_code_is_an_error_with_that_code,
    a_trap_is_an_error_134_and_says_why,
    a_program_that_cannot_run_is_a_start_error_with_one_sentence,
    a_container_that_the_kernel_ends_was_oom_killed,
    a_stopped_container_ends_at_once_with_143,
    a_container_that_minds_no_signal_is_killed_after_its_grace,
    a_container_is_started_again_in_its_place,
    a_log_goes_on_in_a_new_file_after_it_was_renamed,
    native_and_wasm_containers_run_in_one_pod,
    a_pod_is_ready_until_it_is_stopped_and_gone_when_it_is_removed,
    stopping_and_removing_twice_is_no_error,
];

/// A command of each kind that a pod may hold.
pub(crate) const PROGRAMS: [&str; 3] = ["/rust-0.1.wasm", "/rust-0.2.wasm", "/native"];

fn a_container_completes_and_its_log_is_in_cris_format(node: &Node) -> Outcome {
    let pod = node.pod().run()?;
    for program in PROGRAMS {
        let ended = pod.container(&[program, "both"]).run()?.code(0, "Completed")?.stdout("to stdout\n")?;
        ended.stderr_has("to stderr\n")?;
    }
    Ok(())
}

fn a_line_of_any_length_is_put_together_from_its_log(node: &Node) -> Outcome {
    let pod = node.pod().run()?;
    let long = "x".repeat(40_000);
    for program in PROGRAMS {
        let ended = pod.container(&[program, "args", &long, "short"]).run()?.code(0, "Completed")?;
        ensure!(ended.lines.iter().any(|line| line.partial), "a line of 40,000 bytes is in one part");
        ended.stdout(&format!("{long}\nshort\n"))?;
    }
    Ok(())
}

fn an_exit_code_is_an_error_with_that_code(node: &Node) -> Outcome {
    let pod = node.pod().run()?;
    for program in ["/rust-0.1.wasm", "/native"] {
        pod.container(&[program, "exit", "7"]).run()?.code(7, "Error")?;
    }
    Ok(())
}

fn a_trap_is_an_error_134_and_says_why(node: &Node) -> Outcome {
    let pod = node.pod().run()?;
    let ended = pod.container(&["/rust-0.2.wasm", "trap", "divide"]).run()?.code(134, "Error")?;
    ended.stderr_has("integer divide by zero")?;
    Ok(())
}

fn a_program_that_cannot_run_is_a_start_error_with_one_sentence(node: &Node) -> Outcome {
    let import = r#"(module (import "acme" "launch" (func)) (func (export "_start")))"#;
    let image = Image::new("wisp.test/bad:1")
        .file("/text.wasm", "just a text\n")
        .file("/import.wasm", wat::parse_str(import)?);
    node.import(&image)?;
    let pod = node.pod().run()?;
    for (program, word) in [("/text.wasm", "Wasm"), ("/import.wasm", "acme"), ("/none.wasm", "none.wasm")] {
        let container = pod.container(&[program]).image(image.name()).create()?;
        let said = match container.start() {
            Ok(()) => anyhow::bail!("{program} was started"),
            Err(error) => format!("{error:#}"),
        };
        let status = container.status()?;
        ensure!(status.reason == "StartError" && status.exit_code == 128, "{status:?}");
        for text in [&said, &status.message] {
            ensure!(text.contains(program) && text.contains(word), "{program}: {text}");
            ensure!(text.trim().lines().count() == 1, "more than one line: {text}");
        }
    }
    // The pod is as good as before.
    pod.container(&["/rust-0.2.wasm", "hello"]).run()?.code(0, "Completed")?;
    Ok(())
}

fn a_container_that_the_kernel_ends_was_oom_killed(node: &Node) -> Outcome {
    let pod = node.pod().run()?;
    for program in ["/rust-0.2.wasm", "/native"] {
        // A file in memory is what no runtime can refuse.
        let memory = node.memory_volume("256m")?;
        pod.container(&[program, "fill-file", "/memory/file", "256"])
            .memory(48)
            .mount(memory.path(), "/memory", false)
            .run()?
            .code(137, "OOMKilled")?;
    }
    Ok(())
}

fn a_stopped_container_ends_at_once_with_143(node: &Node) -> Outcome {
    let pod = node.pod().run()?;
    for (args, sign) in [
        (["/rust-0.1.wasm", "loop"].as_slice(), "looping"),
        (&["/rust-0.2.wasm", "sleep", "600"], "sleeping"),
    ] {
        let container = pod.container(args).start()?;
        container.until(sign)?;
        let took = container.stop(60)?;
        container.ended()?.code(143, "Error")?;
        ensure!(took < Duration::from_secs(20), "it took {took:?}, as if its grace was waited for");
    }
    Ok(())
}

fn a_container_that_minds_no_signal_is_killed_after_its_grace(node: &Node) -> Outcome {
    let pod = node.pod().run()?;
    // A native process 1 does not mind SIGTERM.
    let container = pod.container(&["/native", "loop"]).start()?;
    container.until("looping")?;
    let took = container.stop(1)?;
    container.ended()?.code(137, "Error")?;
    ensure!(took >= Duration::from_secs(1), "killed after {took:?}");
    Ok(())
}

fn a_container_is_started_again_in_its_place(node: &Node) -> Outcome {
    let pod = node.pod().run()?;
    let address = pod.ip()?;
    for attempt in 0..3 {
        let container = pod.container(&["/rust-0.1.wasm", "exit", "3"]).with(|config| {
            config.metadata = Some(wisp_tests::cri::api::ContainerMetadata { name: "again".into(), attempt });
        });
        let container = container.start()?;
        container.ended()?.code(3, "Error")?;
        container.remove()?;
    }
    ensure!(pod.ready()? && pod.ip()? == address, "the pod was not left alone");
    Ok(())
}

fn a_log_goes_on_in_a_new_file_after_it_was_renamed(node: &Node) -> Outcome {
    let pod = node.pod().run()?;
    let container = pod.container(&["/rust-0.1.wasm", "tick", "20"]).start()?;
    container.until("tick 2\n")?;
    let old = container.log().with_extension("old");
    fs::rename(container.log(), &old)?;
    node.cri.reopen_log(&container.id)?;
    eventually("a line in the new log", LIMIT, || Ok((!container.lines()?.is_empty()).then_some(())))?;
    let numbers = |text: String| -> Result<Vec<u64>> {
        text.lines().map(|line| Ok(line.trim_start_matches("tick ").parse()?)).collect()
    };
    container.stop(30)?;
    let before = numbers(logs::text(&logs::read(&old)?, None))?;
    let after = numbers(logs::text(&container.lines()?, None))?;
    let all: Vec<_> = before.iter().chain(&after).copied().collect();
    ensure!(all.iter().copied().eq(1..=all.len() as u64), "lines are missing: {before:?} {after:?}");
    Ok(())
}

fn native_and_wasm_containers_run_in_one_pod(node: &Node) -> Outcome {
    let pod = node.pod().run()?;
    let running =
        [["/native", "tick", "50"], ["/rust-0.1.wasm", "tick", "50"], ["/rust-0.2.wasm", "tick", "50"]]
            .iter()
            .map(|args| pod.container(args).start())
            .collect::<Result<Vec<_>>>()?;
    for container in &running {
        container.until("tick 2\n")?;
        ensure!(container.status()?.state() == ContainerState::ContainerRunning);
    }
    // The end of one is not the end of the others.
    running[1].stop(30)?;
    running[1].ended()?.code(143, "Error")?;
    for other in [&running[0], &running[2]] {
        let before = other.lines()?.len();
        eventually("a neighbour goes on", LIMIT, || Ok((other.lines()?.len() > before).then_some(())))?;
    }
    Ok(())
}

fn a_pod_is_ready_until_it_is_stopped_and_gone_when_it_is_removed(node: &Node) -> Outcome {
    let pod = node.pod().run()?;
    ensure!(pod.ready()? && pod.pid()? > 0, "{:?}", pod.status()?);
    let container = pod.container(&["/rust-0.2.wasm", "sleep", "600"]).start()?;
    container.until("sleeping")?;
    pod.stop()?;
    ensure!(!pod.ready()?, "ready after it was stopped");
    ensure!(container.status()?.state() == ContainerState::ContainerExited);
    pod.remove()?;
    ensure!(node.cri.pods()?.iter().all(|other| other.id != pod.id), "there after it was removed");
    Ok(())
}

fn stopping_and_removing_twice_is_no_error(node: &Node) -> Outcome {
    let pod = node.pod().run()?;
    let container = pod.container(&["/rust-0.1.wasm", "loop"]).start()?;
    container.until("looping")?;
    for _ in 0..2 {
        container.stop(30)?;
    }
    for _ in 0..2 {
        container.remove()?;
    }
    for _ in 0..2 {
        pod.stop()?;
    }
    for _ in 0..2 {
        pod.remove()?;
    }
    // A running container too may be removed.
    let pod = node.pod().run()?;
    let container = pod.container(&["/rust-0.1.wasm", "loop"]).start()?;
    container.until("looping")?;
    container.remove()?;
    pod.remove()?;
    Ok(())
}
