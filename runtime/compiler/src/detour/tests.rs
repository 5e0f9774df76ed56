//! A component of `wit-component`'s form, and forms that are nearly so.

use wasmparser::{ExternalKind, Parser, Payload, TypeRef};
use wisp_contract::facts::Facts;

/// The program imports `log`, which is called through the shim, before `tick`, which is not.
const COMPONENT: &str = r#"(component
  (import "tick" (func $tick))
  (import "log" (func $log (param "text" string)))
  (core module $main
    (import "host" "log" (func $log (param i32 i32)))
    (import "host" "tick" (func $tick))
    (table 1 funcref)
    (memory (export "memory") 1)
    (elem (i32.const 0) func $log)
    (export "again" (func $tick))
    (func $run (export "run") (call $log (i32.const 1) (i32.const 2)) (call $tick))
  )
  (core module $shim
    (type $text (func (param i32 i32)))
    (table (export "$imports") 1 1 funcref)
    (func (export "0") (type $text) (call_indirect (type $text) (local.get 0) (local.get 1) (i32.const 0)))
  )
  (core module $fixup
    (import "" "$imports" (table 1 1 funcref))
    (import "" "0" (func (param i32 i32)))
    (elem (i32.const 0) func 0)
  )
  (core instance $shim (instantiate $shim))
  (alias core export $shim "0" (core func $indirect))
  (core func $tick (canon lower (func $tick)))
  (core instance $host (export "log" (func $indirect)) (export "tick" (func $tick)))
  (core instance $main (instantiate $main (with "host" (instance $host))))
  (alias core export $main "memory" (core memory $memory))
  (alias core export $shim "$imports" (core table $imports))
  (core func $log (canon lower (func $log) (memory $memory)))
  (core instance $slots (export "$imports" (table $imports)) (export "0" (func $log)))
  (core instance (instantiate $fixup (with "" (instance $slots))))
  (alias core export $main "run" (core func $run))
  (func (export "run") (canon lift (core func $run)))
)"#;

fn without(component: &str) -> Option<Vec<u8>> {
    super::without(&wat::parse_str(component).unwrap())
}

/// What is found in a component, which must be valid.
fn facts(wasm: &[u8]) -> Facts {
    wasmparser::Validator::new_with_features(wisp_reader::features()).validate_all(wasm).unwrap();
    wisp_reader::read(wasm, wisp_reader::features()).unwrap().facts
}

#[test]
fn a_component_loses_its_shim_and_nothing_else() {
    let (before, after) = (facts(&wat::parse_str(COMPONENT).unwrap()), facts(&without(COMPONENT).unwrap()));
    assert_eq!((before.core_instances, after.core_instances), (3, 2));
    let rest = |facts: Facts| Facts { core_instances: 0, wasm_bytes: 0, ..facts };
    assert_eq!(rest(before), rest(after));
}

#[test]
fn what_is_called_through_the_shim_is_called_through_the_programs_own_table() {
    let direct = without(COMPONENT).unwrap();
    let (mut imports, mut functions, mut calls) = (Vec::new(), Vec::new(), Vec::new());
    // The program's module comes first.
    for payload in Parser::new(0).parse_all(&direct) {
        match payload.unwrap() {
            Payload::ImportSection(section) => {
                imports.extend(
                    section
                        .into_imports()
                        .map(Result::unwrap)
                        .filter(|import| matches!(import.ty, TypeRef::Func(_))),
                );
            }
            Payload::ExportSection(section) => {
                let exports = section
                    .into_iter()
                    .map(Result::unwrap)
                    .filter(|export| export.kind == ExternalKind::Func);
                functions.extend(exports.map(|export| (export.name, export.index)));
            }
            Payload::CodeSectionEntry(body) => {
                let operators = body.get_operators_reader().unwrap().into_iter().map(Result::unwrap);
                calls.push(
                    operators
                        .map(|operator| format!("{operator:?}"))
                        .filter(|operator| operator.starts_with("Call"))
                        .collect::<Vec<_>>(),
                );
            }
            Payload::End(_) => break,
            _ => {}
        }
    }
    assert_eq!(imports.iter().map(|import| import.name).collect::<Vec<_>>(), ["tick"]);
    assert_eq!(functions, [("again", 0), ("run", 2)], "the import is exported again under its new index");
    assert_eq!(
        calls[0],
        ["CallIndirect { type_index: 0, table_index: 1 }"],
        "in place of the import that is gone"
    );
    assert_eq!(calls[1], ["Call { function_index: 1 }", "Call { function_index: 0 }"]);
}

#[test]
fn names_go_with_their_functions() {
    let direct = without(COMPONENT).unwrap();
    let names = Parser::new(0).parse_all(&direct).find_map(|payload| {
        let Payload::CustomSection(section) = payload.unwrap() else { return None };
        let wasmparser::KnownCustom::Name(names) = section.as_known() else { return None };
        names.into_iter().find_map(|names| match names.unwrap() {
            wasmparser::Name::Function(names) => Some(
                names.into_iter().map(Result::unwrap).map(|name| (name.index, name.name)).collect::<Vec<_>>(),
            ),
            _ => None,
        })
    });
    let mut names = names.unwrap();
    names.sort_unstable();
    assert_eq!(names, [(0, "tick"), (1, "log"), (2, "run")]);
}

#[test]
fn a_component_of_another_form_is_left_as_it_is() {
    for (what, known, other) in [
        (
            "a shim that changes what it passes on",
            "(local.get 0) (local.get 1) (i32.const 0)",
            "(local.get 1) (local.get 0) (i32.const 0)",
        ),
        (
            "a shim that does more",
            "(type $text (func (param i32 i32)))\n",
            "(type $text (func (param i32 i32)))\n (global i32 (i32.const 0))",
        ),
        (
            "a shim's function that is used elsewhere",
            r#"(export "0" (func $log))"#,
            r#"(export "0" (func $indirect))"#,
        ),
        (
            "a program with two instances",
            r#"(alias core export $main "memory""#,
            r#"(core instance (instantiate $main (with "host" (instance $host)))) (alias core export $main "memory""#,
        ),
        (
            "a program without a table",
            "(table 1 funcref)\n    (memory (export \"memory\") 1)\n    (elem (i32.const 0) func $log)",
            "(memory (export \"memory\") 1)",
        ),
    ] {
        assert!(COMPONENT.contains(known), "{what}");
        let direct = without(&COMPONENT.replace(known, other));
        let is_valid = |wasm: &Vec<u8>| {
            wasmparser::Validator::new_with_features(wisp_reader::features()).validate_all(wasm).is_ok()
        };
        assert!(!direct.as_ref().is_some_and(is_valid), "{what}");
    }
    assert!(super::without(&wat::parse_str("(component)").unwrap()).is_none());
    assert!(super::without(&wat::parse_str("(module)").unwrap()).is_none());
    assert!(super::without(b"\0asm").is_none());
}
