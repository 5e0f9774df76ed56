//! The streams of a container: exec, attach and port-forward, as `kubectl` uses them.

use std::fs::File;

use anyhow::{Context, Result, ensure};
use rustix::termios::tcgetwinsize;
use wisp_tests::bed::{LIMIT, eventually};
use wisp_tests::cri::api::{AttachRequest, ExecRequest};
use wisp_tests::cri::container::Running;
use wisp_tests::cri::node::Node;
use wisp_tests::cri::stream::{Stream, get_through_port};
use wisp_tests::suite::Case;
use wisp_tests::{Outcome, cases};

use crate::network::answered;

pub(crate) const CASES: &[Case] = cases![Pods:
    an_exec_has_its_streams_and_its_exit_code,
    an_exec_has_a_terminal_of_the_size_that_is_said,
    what_is_attached_is_the_containers_own_streams,
    a_port_is_forwarded_to_a_service,
];

/// What is executed, and what it calls itself.
const PROGRAMS: [&str; 2] = ["/rust-0.1.wasm", "/native"];

fn exec(container: &Running<'_, '_>, command: &[&str], tty: bool) -> Result<Stream> {
    let node = container.pod.node;
    let url = node.cri.exec_url(ExecRequest {
        container_id: container.id.clone(),
        cmd: command.iter().map(|&word| word.to_owned()).collect(),
        tty,
        stdin: true,
        stdout: true,
        stderr: !tty,
    })?;
    Stream::open(&node.bed.space, &url)
}

fn an_exec_has_its_streams_and_its_exit_code(node: &Node) -> Outcome {
    let pod = node.pod().run()?;
    let container = pod.container(&["/rust-0.2.wasm", "sleep", "600"]).start()?;
    container.until("sleeping")?;
    for program in PROGRAMS {
        let mut both = exec(&container, &[program, "both"], false)?;
        let status = both.status()?;
        ensure!(status["status"] == "Success", "{program}: {status}");
        ensure!(both.printed() == "to stdout\nto stderr\n", "{program}: {:?}", both.printed());
        let status = exec(&container, &[program, "exit", "7"], false)?.status()?;
        ensure!(status["details"]["causes"][0]["message"] == "7", "{program}: {status}");
        let mut echo = exec(&container, &[program, "echo"], false)?;
        echo.until("reading\n")?;
        echo.write("a line\n")?;
        echo.until("a line\n")?;
    }
    Ok(())
}

/// The size of the terminal of the one process that is not among `before`.
fn size_of_terminal(container: &Running<'_, '_>, before: &[u32]) -> Result<Option<(u16, u16)>> {
    let pids = container.pod.node.bed.client()?.pids(&container.id).context("asking for processes")?;
    let Some(new) = pids.into_iter().find(|pid| !before.contains(pid)) else { return Ok(None) };
    // It may not have come to its terminal yet.
    let Ok(terminal) = File::open(format!("/proc/{new}/fd/0")) else { return Ok(None) };
    Ok(tcgetwinsize(terminal).ok().map(|size| (size.ws_col, size.ws_row)))
}

fn an_exec_has_a_terminal_of_the_size_that_is_said(node: &Node) -> Outcome {
    let pod = node.pod().run()?;
    let container = pod.container(&["/rust-0.2.wasm", "sleep", "600"]).start()?;
    container.until("sleeping")?;
    let before = node.bed.client()?.pids(&container.id).context("asking for processes")?;
    for program in PROGRAMS {
        let mut echo = exec(&container, &[program, "echo"], true)?;
        echo.until("reading\n")?;
        for size in [(132, 43), (80, 24)] {
            echo.resize(size.0, size.1)?;
            eventually("the size", LIMIT, || {
                Ok((size_of_terminal(&container, &before)? == Some(size)).then_some(()))
            })?;
        }
        // The terminal's own end of input.
        echo.write("\u{4}")?;
        let status = echo.status()?;
        ensure!(status["status"] == "Success", "{program}: {status}, {:?}", echo.printed());
    }
    Ok(())
}

fn what_is_attached_is_the_containers_own_streams(node: &Node) -> Outcome {
    let pod = node.pod().run()?;
    for program in super::life::PROGRAMS {
        let spec = pod.container(&[program, "echo"]).with(|config| {
            config.stdin = true;
            config.stdin_once = true;
        });
        let container = spec.start()?;
        container.until("reading\n")?;
        let url = node.cri.attach_url(AttachRequest {
            container_id: container.id.clone(),
            stdin: true,
            tty: false,
            stdout: true,
            stderr: true,
        })?;
        let mut attached = Stream::open(&node.bed.space, &url)?;
        attached.write("a line\n")?;
        attached.until("a line\n")?;
        // The end of the one client is the end of the input.
        drop(attached);
        ensure!(container.ended()?.code(0, "Completed")?.printed().contains("a line\n"));
    }
    Ok(())
}

fn a_port_is_forwarded_to_a_service(node: &Node) -> Outcome {
    let pod = node.pod().run()?;
    let service = pod.container(&["/http-0.2.wasm"]).start()?;
    answered(&service, &format!("http://{}:8080/hello", pod.ip()?))?;
    let url = node.cri.port_forward_url(&pod.id, 8080)?;
    let answer = get_through_port(&node.bed.space, &url, "/hello")?;
    ensure!(answer.starts_with("HTTP/1.1 200") && answer.contains("hello from Rust"), "{answer:?}");
    Ok(())
}
