//! Guests that run to completion.

use rustix::process::{Pid, Signal, kill_process};
use wisp_contract::plan::Report;

use crate::bed::{Guest, stderr, stdout};

/// A module whose `_start` is this, with the memory and the WASI functions that bodies here use.
fn module(start: &str) -> String {
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_open"
                (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "\10\00\00\00\06\00\00\00")
            (data (i32.const 16) "hello\nfile")
            (func (export "_start") {start}))"#
    )
}

const HELLO: &str = "(drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))";

#[test]
fn a_module_prints_and_ends_well() {
    let output = Guest::new(&module(HELLO)).run();
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), "hello\n"));
}

#[test]
fn exit_codes_pass_through() {
    for code in [0, 1, 7, 143, 255] {
        let output = Guest::new(&module(&format!("(call $exit (i32.const {code}))"))).run();
        assert_eq!(output.status.code(), Some(code));
    }
}

#[test]
fn a_trap_is_134_and_names_the_cause_and_the_functions() {
    let wat = r#"(module
        (memory 1)
        (func $reach_too_far (drop (i32.load (i32.const -1))))
        (func $recurse (call $recurse))
        (func $divide (param i32) (drop (i32.div_s (i32.const 1) (local.get 0))))
        (func (export "bounds") (call $reach_too_far))
        (func (export "stack") (call $recurse))
        (func (export "zero") (call $divide (i32.const 0)))
        (func $give_up (export "unreachable") unreachable))"#;
    let cases = [
        ("bounds", "out of bounds memory access", "reach_too_far"),
        ("stack", "call stack exhausted", "recurse"),
        ("zero", "integer divide by zero", "divide"),
        ("unreachable", "`unreachable` instruction", "give_up"),
    ];
    for (export, cause, function) in cases {
        let output = Guest::new(wat).export(export).run();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(134), "{said}");
        assert!(
            said.contains(cause) && said.contains(function) && said.starts_with("/guest.wasm: "),
            "{said}"
        );
    }
}

#[test]
fn a_trap_is_told_in_the_termination_log_as_far_as_kubelet_reads_it() {
    use std::io::{Read, Seek};
    // Each frame of a stack that is exhausted has its line: far more than fits.
    let wat =
        r#"(module (func $recurse_and_recurse_again (export "deep") (call $recurse_and_recurse_again)))"#;
    let mut log = tempfile::tempfile().unwrap();
    let output = Guest::new(wat).export("deep").termination_log(&log).run();
    let mut message = String::new();
    log.rewind().unwrap();
    log.read_to_string(&mut message).unwrap();
    assert_eq!(output.status.code(), Some(134));
    assert!(message.starts_with("/guest.wasm: wasm trap: call stack exhausted"), "{message}");
    assert!(message.len() <= 4096 && stderr(&output).starts_with(&message), "{message}");
}

#[test]
fn signals_end_a_guest_that_loops_or_waits_with_128_and_their_number() {
    let waits = "(drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))";
    let floods = format!("(loop $again {HELLO} (br $again))");
    for start in ["(loop $again (br $again))", waits, floods.as_str()] {
        for (signal, code) in
            [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129), (Signal::USR1, 138)]
        {
            let (mut child, report) = Guest::new(&module(start)).start();
            assert_eq!(report, Report::Ready);
            if start == waits && child.try_wait().unwrap().is_some() {
                continue;
            }
            kill_process(Pid::from_child(&child), signal).unwrap();
            let status = child.wait().unwrap();
            assert!(
                status.code() == Some(code) || (start == waits && status.success()),
                "{start} {signal:?} {status}"
            );
        }
    }
}

#[test]
fn memory_grows_to_the_limit_and_no_further() {
    // Grows page by page until it is refused, and exits with the number of MiB.
    let grow = "(local i32)
        (loop $again (br_if $again (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
        (call $exit (i32.shr_u (memory.size) (i32.const 4)))";
    let code = Guest::new(&module(grow)).memory_limit(64 << 20).run().status.code().unwrap();
    assert!((48..64).contains(&code), "a limit of 64 MiB left {code}");
}

#[test]
fn a_guest_that_cannot_do_with_its_limit_says_the_limit_when_it_traps() {
    let grow =
        "(loop $again (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable";
    let output = Guest::new(&module(grow)).memory_limit(64 << 20).run();
    assert_eq!(output.status.code(), Some(134));
    assert!(stderr(&output).contains("memory limit is 64 MiB"), "{}", stderr(&output));
}

#[test]
fn a_directory_is_written_only_where_the_plan_says_so() {
    // Creates "file" in the first directory (descriptor 3) for writing; exits with the errno.
    let create =
        "(call $exit (call $open (i32.const 3) (i32.const 0) (i32.const 22) (i32.const 4) (i32.const 1)
        (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 8)))";
    let directory = tempfile::tempdir().unwrap();
    let run = |writable| {
        Guest::new(&module(create)).preopen(directory.path(), "/data", writable).run().status.code()
    };
    assert_ne!(run(false), Some(0));
    assert!(!directory.path().join("file").exists());
    assert_eq!(run(true), Some(0));
    assert!(directory.path().join("file").exists());
}
