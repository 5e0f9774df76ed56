//! `file.wasm#export`.

use crate::bed::{Guest, stdout};

const MODULE: &str = r#"(module
    (global $ready (mut i32) (i32.const 0))
    (func (export "_initialize") (global.set $ready (i32.const 1)))
    (func (export "ready") (result i32) (global.get $ready))
    (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
    (func (export "swap") (param i64 f64) (result f64 i64) (local.get 1) (local.get 0)))"#;

const COMPONENT: &str = r#"(component
    (core module $m
        (memory (export "memory") 1)
        (data (i32.const 1024) "an image of memory")
        (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
        (func (export "twice") (param i32 i32) (result i32)
            (i32.store (i32.const 0) (i32.mul (local.get 0) (i32.const 2)))
            (i32.store8 (i32.const 4) (i32.eqz (local.get 1)))
            (i32.const 0)))
    (core instance $i (instantiate $m))
    (func $add (param "a" u32) (param "b" u32) (result u32) (canon lift (core func $i "add")))
    (type $point (record (field "x" u32) (field "on" bool)))
    (export $p "point" (type $point))
    (func $twice (param "p" $p) (result $p)
        (canon lift (core func $i "twice") (memory (core memory $i "memory"))))
    (instance $math (export "add" (func $add)))
    (export "add" (func $add))
    (export "twice" (func $twice))
    (export "wisp:test/math@1.2.3" (instance $math)))"#;

fn call(wat: &str, export: &str, args: &[&str]) -> String {
    let output = Guest::new(wat).export(export).args(args).run();
    assert!(output.status.success(), "{output:?}");
    stdout(&output)
}

#[test]
fn a_core_function_takes_numbers_and_its_results_are_printed_one_a_line() {
    assert_eq!(call(MODULE, "add", &["40", "2"]), "42\n");
    assert_eq!(call(MODULE, "add", &["-1", "4294967295"]), "-2\n");
    assert_eq!(call(MODULE, "swap", &["7", "0.5"]), "0.5\n7\n");
}

#[test]
fn a_reactor_is_initialized_before_it_is_called() {
    assert_eq!(call(MODULE, "ready", &[]), "1\n");
}

#[test]
fn a_components_function_takes_and_gives_wave() {
    assert_eq!(call(COMPONENT, "add", &["40", "2"]), "42\n");
    assert_eq!(call(COMPONENT, "twice", &["{x: 21, on: false}"]), "{x: 42, on: true}\n");
}

#[test]
fn a_function_of_an_interface_is_found_with_and_without_the_version() {
    assert_eq!(call(COMPONENT, "wisp:test/math.add", &["1", "2"]), "3\n");
    assert_eq!(call(COMPONENT, "wisp:test/math@1.2.3.add", &["1", "2"]), "3\n");
}

#[test]
fn code_that_cannot_be_mapped_is_copied() {
    let directory = tempfile::tempdir().unwrap();
    let output = Guest::new(COMPONENT).without_proc(directory.path()).export("add").args(&["40", "2"]).run();
    assert_eq!(stdout(&output), "42\n", "{output:?}");
}

#[test]
fn wrong_arguments_are_refused_with_the_signature() {
    let refused = |wat, export, args: &[&str]| Guest::new(wat).export(export).args(args).refusal();
    let sentence = refused(MODULE, "add", &["1"]);
    assert!(sentence.contains("func(i32, i32) -> i32") && sentence.contains("1 argument;"), "{sentence}");
    assert!(refused(MODULE, "add", &["1", "two"]).contains("\"two\" is not one of i32"));
    let sentence = refused(COMPONENT, "twice", &["21"]);
    assert!(sentence.contains("record { x: u32, on: bool }"), "{sentence}");
    let sentence = refused(COMPONENT, "subtract", &[]);
    assert!(sentence.contains("add, twice, wisp:test/math@1.2.3.add"), "{sentence}");
}
