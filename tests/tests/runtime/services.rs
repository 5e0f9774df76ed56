//! `wisp run` of HTTP services, as root and as nobody.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use wisp_tests::bed::{LIMIT, eventually};
use wisp_tests::suite::Case;
use wisp_tests::{Outcome, cases, net, process, site};

use crate::run::{User, users};

pub(crate) const CASES: &[Case] = cases![Once:
    run_serves_until_it_is_interrupted,
    run_gives_a_service_as_many_threads_as_it_is_told_processors,
    run_says_that_processors_are_no_quota,
];

/// A service under `wisp run`, at port 9090 of its user's space.
struct Running {
    child: Child,
    said: BufReader<ChildStderr>,
}

impl Running {
    fn start(user: &User, options: &[&str]) -> Result<Self> {
        let guest = site::guest("http-0.2.wasm")?.display().to_string();
        let mut command = user.command(&[options, &[guest.as_str()]].concat())?;
        process::dies_with_us(&mut command).stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().context("starting wisp run")?;
        let said = BufReader::new(child.stderr.take().context("stderr")?);
        Ok(Self { child, said })
    }

    /// What it says next.
    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.said.read_line(&mut line)?;
        Ok(line)
    }

    fn answers(&self, user: &User) -> Outcome {
        // The port is bound when the address is told, and listens at once.
        let mut stream = eventually("the service", LIMIT, || {
            user.space.inside(|| Ok(TcpStream::connect("127.0.0.1:9090").ok()))
        })?;
        write!(stream, "GET /hello HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(answer.contains("hello from Rust, wasi:http 0.2"), "{answer}");
        Ok(())
    }

    /// The guest process.
    fn guest(&self) -> Result<u32> {
        let pid = self.child.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        children.trim().parse().with_context(|| format!("one guest process was expected: {children:?}"))
    }

    fn ends_with_0(mut self, signal: Signal) -> Outcome {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal)?;
        let status = process::wait(&mut self.child, LIMIT)?.context("wisp run goes on")?;
        ensure!(process::code(status) == 0, "{status}");
        Ok(())
    }
}

fn run_serves_until_it_is_interrupted() -> Outcome {
    let ways = [(Signal::SIGINT, "9090:8080", "localhost"), (Signal::SIGTERM, "127.0.0.1:9090", "127.0.0.1")];
    for (user, (signal, publish, host)) in users("http")?.into_iter().zip(ways) {
        let mut service = Running::start(&user, &["-p", publish])?;
        let said = service.line()?;
        ensure!(said.contains(&format!("http://{host}:9090/")), "{said}");
        service.answers(&user)?;
        service.ends_with_0(signal)?;
    }
    Ok(())
}

fn run_gives_a_service_as_many_threads_as_it_is_told_processors() -> Outcome {
    let machine = std::thread::available_parallelism()?.get();
    ensure!(
        machine > 1,
        "this machine has one processor; a service that can have two threads was to be seen"
    );
    for user in users("processors")? {
        // The thread that accepts connections does it all where there is one processor; others have it serve beside it.
        for (processors, workers) in [("1", 0), ("2", 2)] {
            let mut service = Running::start(&user, &["-p", "9090", "--cpus", processors])?;
            service.line()?;
            service.answers(&user)?;
            // A thread has its name from itself, when it first runs.
            let (guest, expected) =
                (service.guest()?, format!("--cpus {processors}: {workers} threads that serve"));
            eventually(&expected, LIMIT, || Ok((net::workers(guest)? == workers).then_some(())))?;
            service.ends_with_0(Signal::SIGTERM)?;
        }
    }
    Ok(())
}

fn run_says_that_processors_are_no_quota() -> Outcome {
    for user in users("quota")? {
        let mut service = Running::start(&user, &["-p", "9090", "--cpus", "0.5"])?;
        let said = service.line()?;
        ensure!(said.contains("--cpus 0.5 is not a quota"), "{said}");
        service.answers(&user)?;
        service.ends_with_0(Signal::SIGTERM)?;
        let ended = user.guest(&["--cpus", "2"], &["hello"])?;
        ensure!(ended.code == 0 && ended.stderr.contains("--cpus 2 changes nothing"), "{ended:?}");
        let ended = user.guest(&["--cpus", "0"], &["hello"])?;
        ensure!(ended.code == 125 && ended.stderr.contains("above 0"), "{ended:?}");
    }
    Ok(())
}
