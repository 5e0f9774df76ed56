//! HTTP services.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use wisp_tests::bed::{Bed, LIMIT, Options, eventually};
use wisp_tests::net::{Connection, Load, curl, get};
use wisp_tests::space::{enter_network_of, on_thread};
use wisp_tests::suite::Case;
use wisp_tests::task::{Container, Task, WISP};
use wisp_tests::{Outcome, cases};

pub(crate) const CASES: &[Case] = cases![Shared:
    a_service_in_every_language_says_hello,
    a_service_gets_what_a_command_gets,
    a_service_listens_where_port_says,
    bodies_stream_both_ways,
    a_client_that_still_sends_gets_its_answer,
    trailers_arrive_over_http_1_and_2,
    each_request_has_a_fresh_instance,
    an_instance_serves_as_many_requests_as_the_pod_asks_for,
    an_instance_that_trapped_serves_no_other_request,
    requests_are_served_beside_each_other,
    a_request_that_traps_fails_alone,
    sigterm_under_load_loses_no_request,
    sigterm_ends_an_idle_service_without_waiting,
    a_drain_lasts_as_long_as_the_pod_asks,
    an_annotation_that_is_not_known_is_refused,
];

pub(crate) const OWN_CASES: &[Case] = cases![Own:
    a_request_that_loops_ends_at_its_time_out,
    limits_of_the_node_are_kept,
    a_bad_node_configuration_is_named_with_its_line,
];

/// A service that answers.
pub(crate) fn serving<'a>(bed: &'a Bed, program: &str, flags: &[&str]) -> Result<(Task<'a>, u32)> {
    let task = Container::new(bed, &[program])?.runtime(WISP).flags(flags).start()?;
    // The first start of a large guest compiles it.
    let pid = eventually("a service", Duration::from_mins(10), || {
        ensure!(!task.has_ended(), "it ended");
        let Ok(pid) = task.pid() else { return Ok(None) };
        Ok(get(pid, "/hello").is_ok().then_some(pid))
    })
    .with_context(|| format!("{program}: {}", task.printed()))?;
    Ok((task, pid))
}

fn stopped(task: Task<'_>) -> Outcome {
    task.kill(Signal::SIGTERM)?;
    task.wait()?.code(0)?;
    Ok(())
}

fn a_service_in_every_language_says_hello(bed: &Bed) -> Outcome {
    for (program, greeting) in [
        ("/http-0.2.wasm", "hello from Rust, wasi:http 0.2\n"),
        ("/http-0.3.wasm", "hello from Rust, wasi:http 0.3\n"),
        ("/http-js.wasm", "hello from JavaScript, wasi:http 0.2\n"),
    ] {
        let (task, pid) = serving(bed, program, &[])?;
        ensure!(get(pid, "/hello")? == greeting, "{program}");
        let echo = curl(pid, &["--data-binary", "back", "http://127.0.0.1:8080/echo"])?.success()?;
        ensure!(echo == "back", "{program}: {echo:?}");
        stopped(task)?;
    }
    Ok(())
}

fn a_service_gets_what_a_command_gets(bed: &Bed) -> Outcome {
    let flags = ["--env", "GIVEN=a b", "--cwd", "/data"];
    let (task, pid) = serving(bed, "/http-0.2.wasm", &flags)?;
    ensure!(get(pid, "/env")?.lines().any(|line| line == "GIVEN=a b"));
    ensure!(get(pid, "/args")? == "/http-0.2.wasm\n");
    ensure!(get(pid, "/cwd")? == "/data\n");
    ensure!(get(pid, "/file?/data/greeting.txt")? == "a file of the image\n");
    get(pid, "/log?a-line")?;
    task.until("a-line\n")?;
    task.until("a-line (stderr)\n")?;
    stopped(task)
}

fn a_service_listens_where_port_says(bed: &Bed) -> Outcome {
    let task =
        Container::new(bed, &["/http-0.2.wasm"])?.runtime(WISP).flags(&["--env", "PORT=9000"]).start()?;
    eventually("port 9000", LIMIT, || {
        let Ok(pid) = task.pid() else { return Ok(None) };
        let both = ["http://127.0.0.1:9000/hello", "http://[::1]:9000/hello"];
        let answers = both.map(|url| curl(pid, &["--fail", url]).is_ok_and(|ended| ended.code == 0));
        Ok((answers == [true, true]).then_some(()))
    })?;
    stopped(task)
}

fn bodies_stream_both_ways(bed: &Bed) -> Outcome {
    for program in ["/http-0.2.wasm", "/http-0.3.wasm"] {
        let (task, pid) = serving(bed, program, &[])?;
        // The second half is sent once the first has come back.
        on_thread(move || {
            enter_network_of(pid)?;
            let mut stream = TcpStream::connect(("127.0.0.1", 8080))?;
            stream.set_read_timeout(Some(LIMIT))?;
            write!(
                stream,
                "POST /echo HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
            )?;
            let mut seen = String::new();
            for half in ["first-half", "other-half"] {
                write!(stream, "{:x}\r\n{half}\r\n", half.len())?;
                while !seen.contains(half) {
                    let mut buffer = [0; 4096];
                    let read =
                        stream.read(&mut buffer).with_context(|| format!("waiting for {half}; {seen}"))?;
                    ensure!(read > 0, "closed before {half}: {seen}");
                    seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
                }
            }
            Ok(write!(stream, "0\r\n\r\n")?)
        })
        .context(program)?;
        stopped(task)?;
    }
    let (task, pid) = serving(bed, "/http-0.2.wasm", &[])?;
    let large = curl(
        pid,
        &["--output", "/dev/null", "--write-out", "%{size_download}", "http://127.0.0.1:8080/large?64"],
    )?;
    ensure!(large.success()? == (64u32 << 20).to_string());
    stopped(task)
}

/// The guest does not read what is sent, which is more than the kernel keeps.
fn a_client_that_still_sends_gets_its_answer(bed: &Bed) -> Outcome {
    for program in ["/http-0.2.wasm", "/http-0.3.wasm"] {
        let (task, pid) = serving(bed, program, &[])?;
        let answer = on_thread(move || {
            enter_network_of(pid)?;
            let mut stream = TcpStream::connect(("127.0.0.1", 8080))?;
            stream.set_write_timeout(Some(LIMIT))?;
            stream.set_read_timeout(Some(LIMIT))?;
            let body = vec![b'x'; 32 << 20];
            write!(stream, "POST /hello HTTP/1.1\r\nhost: here\r\ncontent-length: {}\r\n\r\n", body.len())?;
            stream.write_all(&body).context("sending the body")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).context("reading the answer")?;
            Ok(answer)
        })
        .with_context(|| program.to_owned())?;
        ensure!(answer.starts_with("HTTP/1.1 200 "), "{program}: {answer}");
        stopped(task)?;
    }
    Ok(())
}

fn trailers_arrive_over_http_1_and_2(bed: &Bed) -> Outcome {
    let (task, pid) = serving(bed, "/http-0.2.wasm", &[])?;
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let args =
            [version, "--header", "te: trailers", "--dump-header", "-", "http://127.0.0.1:8080/trailers"];
        let headers = curl(pid, &args)?.success()?;
        ensure!(headers.contains("x-none: 1"), "{version}: {headers}");
        ensure!((version == "--http1.1") == headers.starts_with("HTTP/1.1 200"), "{headers}");
    }
    stopped(task)
}

fn each_request_has_a_fresh_instance(bed: &Bed) -> Outcome {
    let (task, pid) = serving(bed, "/http-0.2.wasm", &[])?;
    for _ in 0..3 {
        ensure!(get(pid, "/count")? == "1\n", "an instance served before");
    }
    let own = get(pid, "/search")?; // a copy of the constant may be anywhere
    for _ in 0..10 {
        get(pid, "/secret")?;
        let found = get(pid, "/search")?;
        ensure!(found == own, "one request's memory reached the next: {found:?} and not {own:?}");
    }
    stopped(task)
}

fn an_instance_serves_as_many_requests_as_the_pod_asks_for(bed: &Bed) -> Outcome {
    let flags = ["--annotation", "wisp.dev/requests-per-instance=4"];
    let (task, pid) = serving(bed, "/http-0.2.wasm", &flags)?;
    // The check that it serves was the first instance's first request.
    for served in ["2\n", "3\n", "4\n", "1\n", "2\n"] {
        let count = get(pid, "/count")?;
        ensure!(count == served, "{count:?} and not {served:?} requests of an instance");
    }
    stopped(task)
}

fn an_instance_that_trapped_serves_no_other_request(bed: &Bed) -> Outcome {
    let flags = ["--annotation", "wisp.dev/requests-per-instance=1000"];
    let (task, pid) = serving(bed, "/http-0.2.wasm", &flags)?;
    let args = ["--output", "/dev/null", "--write-out", "%{http_code}", "http://127.0.0.1:8080/trap"];
    ensure!(curl(pid, &args)?.success()? == "500", "the trap was not answered 500");
    let count = get(pid, "/count")?;
    ensure!(count == "1\n", "{count:?}: the instance that trapped served on");
    stopped(task)
}

fn requests_are_served_beside_each_other(bed: &Bed) -> Outcome {
    let (task, pid) = serving(bed, "/http-0.2.wasm", &[])?;
    let start = Instant::now();
    let clients: Vec<_> = (0..20)
        .map(|_| {
            std::thread::spawn(move || {
                enter_network_of(pid)?;
                Connection::open()?.get("/slow?500")
            })
        })
        .collect();
    for client in clients {
        let answer = client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        ensure!(answer.status == 200, "{answer:?}");
    }
    ensure!(
        start.elapsed() < Duration::from_secs(5),
        "20 requests of half a second took {:?}",
        start.elapsed()
    );
    stopped(task)
}

fn a_request_that_traps_fails_alone(bed: &Bed) -> Outcome {
    for program in ["/http-0.2.wasm", "/http-0.3.wasm"] {
        let (task, pid) = serving(bed, program, &[])?;
        let status = |path: &str| {
            let url = format!("http://127.0.0.1:8080{path}");
            curl(pid, &["--output", "/dev/null", "--write-out", "%{http_code}", &url])?.success()
        };
        for _ in 0..3 {
            ensure!(status("/trap")? == "500", "{program}");
            ensure!(status("/hello")? == "200", "{program}");
        }
        task.until("die_while_serving")?;
        stopped(task)?;
    }
    Ok(())
}

fn sigterm_under_load_loses_no_request(bed: &Bed) -> Outcome {
    for program in ["/http-0.2.wasm", "/http-0.3.wasm"] {
        let (task, pid) = serving(bed, program, &[])?;
        let load = Load::start(pid, 8, "/slow?20")?;
        task.kill(Signal::SIGTERM)?;
        let id = task.id.clone();
        task.wait().context(program)?.code(0)?;
        let answered = load.stop().with_context(|| format!("{program} in {id}"))?;
        ensure!(answered > 8, "{program}: only {answered} requests were answered");
    }
    Ok(())
}

fn sigterm_ends_an_idle_service_without_waiting(bed: &Bed) -> Outcome {
    let mut times = Vec::new();
    for _ in 0..3 {
        let flags = ["--annotation", "wisp.dev/drain-delay=800ms"];
        let (task, _) = serving(bed, "/http-0.2.wasm", &flags)?;
        // Idle is a service that nobody used for as long as it would wait; the check that it serves was a use.
        std::thread::sleep(Duration::from_millis(900));
        let sent = task.kill(Signal::SIGTERM)?;
        let exit = bed.events().wait(&task.id, "", "/tasks/exit", LIMIT)?;
        ensure!(exit.status == Some(0), "exit status {:?}", exit.status);
        times.push(exit.at.saturating_duration_since(sent));
        if times.last() < Some(&Duration::from_millis(300)) {
            return Ok(());
        }
    }
    anyhow::bail!("ended after {times:?}")
}

fn a_drain_lasts_as_long_as_the_pod_asks(bed: &Bed) -> Outcome {
    let (task, pid) = serving(bed, "/http-0.2.wasm", &["--annotation", "wisp.dev/drain-delay=3s"])?;
    let load = Load::start(pid, 2, "/slow?20")?;
    let sent = task.kill(Signal::SIGTERM)?;
    task.wait()?.code(0)?;
    let took = sent.elapsed();
    load.stop()?;
    ensure!((2500..8000).contains(&took.as_millis()), "a drain of 3 s took {took:?}");
    Ok(())
}

fn an_annotation_that_is_not_known_is_refused(bed: &Bed) -> Outcome {
    for (annotation, word) in
        [("wisp.dev/drian-delay=3s", "drian-delay"), ("wisp.dev/drain-delay=soon", "soon")]
    {
        let container =
            Container::new(bed, &["/http-0.2.wasm"])?.runtime(WISP).flags(&["--annotation", annotation]);
        crate::ends::refused_with(container.run()?.refused()?, &[word])?;
    }
    Ok(())
}

fn with_config(version: &'static str, config: &str) -> Result<std::sync::Arc<Bed>> {
    Bed::start_with(version, Options { config: Some(config.to_owned()), ..Options::default() })
}

fn a_request_that_loops_ends_at_its_time_out(version: &'static str) -> Outcome {
    let bed = with_config(version, "[http]\nrequest_timeout = \"1s\"\n")?;
    let (task, pid) = serving(&bed, "/http-0.2.wasm", &[])?;
    let start = Instant::now();
    let args = ["--output", "/dev/null", "--write-out", "%{http_code}", "http://127.0.0.1:8080/loop"];
    let looping = std::thread::spawn(move || curl(pid, &args));
    get(pid, "/hello").context("while another request loops")?;
    let status = looping.join().map_err(|_| anyhow::anyhow!("panicked"))??.stdout;
    ensure!(status == "504" || status == "500" || status == "503", "answered {status}");
    ensure!(start.elapsed() < Duration::from_secs(10), "after {:?}", start.elapsed());
    get(pid, "/hello").context("after a request that looped")?;
    stopped(task)
}

fn limits_of_the_node_are_kept(version: &'static str) -> Outcome {
    let config = "[http]\nmax_body_size = \"64 KiB\"\nmax_header_size = \"16 KiB\"\nheader_timeout = \"1s\"\nidle_timeout = \"1s\"\n";
    let bed = with_config(version, config)?;
    let (task, pid) = serving(&bed, "/http-0.2.wasm", &[])?;
    let status = |args: &[&str]| -> Result<String> {
        let all = [&["--output", "/dev/null", "--write-out", "%{http_code}"], args].concat();
        Ok(curl(pid, &all)?.stdout)
    };
    let body = bed.folder.join("body");
    std::fs::write(&body, vec![b'x'; 128 << 10])?;
    let data = format!("@{}", body.display());
    let large = status(&["--header", "expect:", "--data-binary", &data, "http://127.0.0.1:8080/echo"])?;
    ensure!(large == "413", "a large body was answered {large}");
    let header = format!("x-large: {}", "x".repeat(32 << 10));
    let large = status(&["--header", &header, "http://127.0.0.1:8080/hello"])?;
    ensure!(large == "431", "large headers were answered {large}");
    // A client that says nothing, and one that says half a header, are not kept.
    for start in ["", "GET /hello HTTP/1.1\r\nhost:"] {
        let took = on_thread(move || {
            enter_network_of(pid)?;
            let mut stream = TcpStream::connect(("127.0.0.1", 8080))?;
            stream.set_read_timeout(Some(LIMIT))?;
            stream.write_all(start.as_bytes())?;
            let begun = Instant::now();
            stream.read_to_end(&mut Vec::new())?;
            Ok(begun.elapsed())
        })?;
        ensure!(took < Duration::from_secs(6), "a silent connection was kept for {took:?}");
    }
    stopped(task)
}

fn a_bad_node_configuration_is_named_with_its_line(version: &'static str) -> Outcome {
    let bed = with_config(version, "[http]\nrequest_timeout = \"1s\"\nrequest_time = 3\n")?;
    let ended = Container::new(&bed, &["/rust-0.2.wasm"])?.runtime(WISP).run()?;
    crate::ends::refused_with(ended.refused()?, &["/etc/wisp/config.toml", "line 3", "request_time"])
}
