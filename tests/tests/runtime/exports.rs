//! `file.wasm#export`: functions that are called with the arguments of the command line.

use anyhow::{Result, ensure};
use wisp_tests::bundle::Bundle;
use wisp_tests::process::Finished;
use wisp_tests::suite::Case;
use wisp_tests::{Outcome, cases};

pub(crate) const CASES: &[Case] = cases![Once:
    a_core_function_gets_numbers_by_type,
    a_component_function_gets_wave,
    a_function_of_an_interface_is_called_by_its_full_name,
    wrong_arguments_are_refused_with_the_signature,
    a_library_without_an_export_named_is_refused_with_what_it_has,
];

const MODULE: &str = r#"(module
    (func (export "mixed") (param i32 i64 f32 f64) (result f64)
        (f64.add (f64.add (f64.convert_i32_s (local.get 0)) (f64.convert_i64_s (local.get 1)))
                 (f64.add (f64.promote_f32 (local.get 2)) (local.get 3))))
    (func (export "nothing")))"#;

const COMPONENT: &str = r#"(component
    (core module $m (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))
    (core instance $i (instantiate $m))
    (func $add (param "a" u32) (param "b" u32) (result u32) (canon lift (core func $i "add")))
    (export "add" (func $add))
    (instance $sums (export "add" (func $add)))
    (export "test:numbers/sums@1.0.0" (instance $sums)))"#;

fn call(text: &str, export: &str, args: &[&str]) -> Result<Finished> {
    let entry = format!("/library.wasm#{export}");
    let entry = if export.is_empty() { "/library.wasm" } else { entry.as_str() };
    let bundle = Bundle::new(&[&[entry], args].concat())?;
    bundle.file("/library.wasm", &wat::parse_str(text)?)?;
    bundle.run()
}

fn a_core_function_gets_numbers_by_type() -> Outcome {
    let ended = call(MODULE, "mixed", &["-1", "2", "0.5", "1e1"])?;
    ensure!(ended.code == 0 && ended.stdout == "11.5\n", "{ended:?}");
    let ended = call(MODULE, "nothing", &[])?;
    ensure!(ended.code == 0 && ended.stdout.is_empty(), "{ended:?}");
    Ok(())
}

fn a_component_function_gets_wave() -> Outcome {
    let ended = call(COMPONENT, "add", &["40", "2"])?;
    ensure!(ended.code == 0 && ended.stdout == "42\n", "{ended:?}");
    Ok(())
}

fn a_function_of_an_interface_is_called_by_its_full_name() -> Outcome {
    for name in ["test:numbers/sums.add", "test:numbers/sums@1.0.0.add"] {
        let ended = call(COMPONENT, name, &["1", "2"])?;
        ensure!(ended.code == 0 && ended.stdout == "3\n", "{name}: {ended:?}");
    }
    Ok(())
}

fn wrong_arguments_are_refused_with_the_signature() -> Outcome {
    for (text, export, args, signature) in [
        (COMPONENT, "add", &["1"][..], "u32"),
        (COMPONENT, "add", &["1", "-2"], "u32"),
        (COMPONENT, "add", &["1", "2", "3"], "u32"),
        (MODULE, "mixed", &["1", "2", "3"], "i64"),
        (MODULE, "mixed", &["1.5", "2", "3", "4"], "i32"),
        (MODULE, "none", &[], "mixed"),
        (COMPONENT, "none", &[], "add"),
    ] {
        let ended = call(text, export, args)?;
        ensure!(ended.code != 0 && ended.stderr.contains(signature), "{export} {args:?}: {ended:?}");
        ensure!(ended.stderr.trim().lines().count() == 1, "{export} {args:?}: {ended:?}");
    }
    Ok(())
}

fn a_library_without_an_export_named_is_refused_with_what_it_has() -> Outcome {
    for (text, export) in [(MODULE, "mixed"), (COMPONENT, "test:numbers/sums")] {
        let ended = call(text, "", &[])?;
        ensure!(ended.code != 0 && ended.stderr.contains(export) && ended.stderr.contains('#'), "{ended:?}");
    }
    Ok(())
}
