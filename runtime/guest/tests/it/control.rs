//! The control socket.

use std::os::unix::net::UnixListener;

use wisp_contract::control::{Reply, Request, ask};
use wisp_contract::plan::Report;

use crate::bed::{Guest, stdout};

const HELLO: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "\08\00\00\00\03\00\00\00hi\n")
    (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))))"#;
const LOOP: &str = r#"(module (memory 1) (func (export "_start") (loop $again (br $again))))"#;

#[test]
fn nothing_runs_before_the_start_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let (mut child, report) = Guest::new(HELLO).control(&listener).start();
    assert_eq!(report, Report::Ready);
    match ask(&socket, &Request::Stats).unwrap() {
        Reply::Stats(stats) => assert_eq!(stats.instances, 0),
        other => panic!("{other:?}"),
    }
    assert!(child.try_wait().unwrap().is_none());
    assert_eq!(ask(&socket, &Request::Start).unwrap(), Reply::Done);
    assert_eq!(stdout(&child.wait_with_output().unwrap()), "hi\n");
}

#[test]
fn a_guest_that_loops_still_answers_and_stops() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let (mut child, _) = Guest::new(LOOP).control(&listener).start();
    ask(&socket, &Request::Start).unwrap();
    ask(&socket, &Request::Limits { memory: Some(128 << 20), cpus: Some(0.5) }).unwrap();
    loop {
        let Reply::Stats(stats) = ask(&socket, &Request::Stats).unwrap() else { panic!("not the counters") };
        if stats.memory_bytes == 65536 {
            break;
        }
    }
    assert_eq!(ask(&socket, &Request::Drain).unwrap(), Reply::Done);
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

#[test]
fn a_request_that_is_none_is_refused_and_harms_nobody() {
    use std::io::{BufRead, BufReader, Write};
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let (child, _) = Guest::new(HELLO).control(&listener).start();
    let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    stream.write_all(b"{\"no\":\n").unwrap();
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).unwrap();
    assert!(line.starts_with("{\"refused\":"), "{line}");
    drop(stream);
    ask(&socket, &Request::Start).unwrap();
    assert!(child.wait_with_output().unwrap().status.success());
}
