//! Programs that cannot run: each is refused before it starts, with one sentence.

use crate::bed::{Guest, compile};

fn wasm(wat: &str) -> Vec<u8> {
    wat::parse_str(wat).unwrap()
}

fn refused(wasm: &[u8]) -> String {
    let sentence = compile(wasm).unwrap_err();
    assert!(!sentence.contains('\n'), "{sentence}");
    sentence
}

#[test]
fn what_is_not_a_program_is_named() {
    let (mut code, _) = compile(&wasm("(module)")).unwrap();
    let mut compiled = Vec::new();
    std::io::Seek::rewind(&mut code).unwrap();
    std::io::Read::read_to_end(&mut code, &mut compiled).unwrap();
    for (bytes, word) in [
        (&b""[..], "empty"),
        (b"(module)", "text (.wat)"),
        (b"\x7fELF", "ELF"),
        (&compiled, "compiled in advance"),
    ] {
        assert!(refused(bytes).contains(word), "{}", refused(bytes));
    }
}

#[test]
fn a_program_that_is_cut_off_anywhere_is_refused() {
    let module = wasm(r#"(module (memory 1) (data (i32.const 0) "text") (func (export "_start") (nop)))"#);
    for length in 0..module.len() {
        refused_or_shorter(&module[..length]);
    }
    let component =
        wasm("(component (core module $m (func (export \"f\"))) (core instance (instantiate $m)))");
    for length in 0..component.len() {
        refused_or_shorter(&component[..length]);
    }
}

/// Cut between two sections, a program may be a shorter one; it must not be anything worse.
fn refused_or_shorter(wasm: &[u8]) {
    if let Err(sentence) = compile(wasm) {
        assert!(sentence.len() > 20 && !sentence.contains('\n'), "{sentence}");
    }
}

#[test]
fn a_feature_that_is_off_is_named() {
    let sentence = refused(&wasm("(module (memory 1 1 shared))"));
    assert!(sentence.contains("feature threads"), "{sentence}");
}

#[test]
fn an_invalid_function_is_refused_with_its_place() {
    let sentence = refused(&wasm("(module (func (result i32) (i64.const 0)))"));
    assert!(sentence.contains("type mismatch") && sentence.contains("at byte"), "{sentence}");
}

#[test]
fn imports_that_nobody_gives_are_all_named() {
    let module =
        r#"(module (import "env" "one" (func)) (import "env" "two" (func)) (func (export "_start")))"#;
    let sentence = Guest::new(module).refusal();
    assert!(sentence.contains("env::one, env::two"), "{sentence}");
    let component = r#"(component (import "acme:shop/cart" (instance (export "add" (func)))))"#;
    let sentence = Guest::new(component).export("run").refusal();
    assert!(sentence.contains("acme:shop/cart") || sentence.contains("no function"), "{sentence}");
}

#[test]
fn a_program_without_an_entry_is_told_what_was_expected() {
    let sentence = Guest::new(r#"(module (func (export "f")))"#).refusal();
    assert!(sentence.contains("_start") && sentence.contains("#export"), "{sentence}");
    let sentence = Guest::new("(component)").refusal();
    assert!(sentence.contains("wasi:cli/run"), "{sentence}");
}

#[test]
fn a_memory_that_begins_beyond_the_limit_is_refused_with_both_sizes() {
    let sentence =
        Guest::new(r#"(module (memory 2000) (func (export "_start")))"#).memory_limit(64 << 20).refusal();
    assert!(sentence.contains("128000 KiB") && sentence.contains("limit"), "{sentence}");
}

#[test]
fn hostile_sizes_run_or_are_refused() {
    let many = format!("(module {} (func (export \"_start\")))", "(func (nop)) ".repeat(10_000));
    assert!(Guest::new(&many).run().status.success(), "10,000 functions");
    let table = r#"(module (table 1000000 funcref) (func (export "_start")))"#;
    assert!(Guest::new(table).run().status.success(), "a table of a million");
    let memory = r#"(module (memory 65536) (func (export "_start")))"#;
    assert!(Guest::new(memory).run().status.success(), "4 GiB, untouched");
    assert!(Guest::new(memory).memory_limit(256 << 20).refusal().contains("raise the limit"));
}
