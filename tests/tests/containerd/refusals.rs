//! What cannot run fails at create, and says so in one sentence: what was found, what was expected, what to do.

use anyhow::{Context, ensure};
use wisp_tests::bed::Bed;
use wisp_tests::image::Image;
use wisp_tests::suite::Case;
use wisp_tests::task::{Container, RUNC, WISP};
use wisp_tests::{Outcome, cases, site};

use crate::ends::refused_with;

pub(crate) const CASES: &[Case] = cases![Shared:
    an_entrypoint_that_is_not_in_the_image_is_named,
    a_file_that_is_no_program_is_refused,
    a_truncated_module_is_refused,
    an_import_that_nobody_gives_is_named,
    a_component_of_an_unknown_world_is_refused_with_what_it_exports,
    a_feature_that_is_off_is_named,
    a_native_program_that_is_missing_fails_as_under_runc,
    what_was_refused_leaves_its_name_free,
];

/// Runs one file as a program, and requires a refusal with these words.
fn refused(bed: &Bed, name: &str, program: Vec<u8>, words: &[&str]) -> Outcome {
    let image = Image::new(&format!("wisp.test/{name}:1")).file("/program.wasm", program);
    bed.import(&image, &[])?;
    let ended = Container::of_image(bed, image.name(), &["/program.wasm"]).runtime(WISP).run()?;
    refused_with(ended.refused()?, &[&["/program.wasm"], words].concat())
}

fn an_entrypoint_that_is_not_in_the_image_is_named(bed: &Bed) -> Outcome {
    for program in ["/no-such.wasm", "/no-such"] {
        let ended = Container::new(bed, &[program])?.runtime(WISP).run()?;
        refused_with(ended.refused()?, &[program])?;
    }
    Ok(())
}

fn a_file_that_is_no_program_is_refused(bed: &Bed) -> Outcome {
    refused(bed, "text", b"just a text\n".to_vec(), &["Wasm"])?;
    refused(bed, "empty", Vec::new(), &["empty"])
}

fn a_truncated_module_is_refused(bed: &Bed) -> Outcome {
    for (name, guest) in [("half-module", "rust-0.1.wasm"), ("half-component", "rust-0.2.wasm")] {
        let mut program = std::fs::read(site::guest(guest)?)?;
        program.truncate(program.len() / 2);
        refused(bed, name, program, &[])?;
    }
    refused(bed, "eight-bytes", b"\0asm\x01\0\0\0".to_vec(), &["_start"])
}

fn an_import_that_nobody_gives_is_named(bed: &Bed) -> Outcome {
    let module =
        r#"(module (import "acme" "launch" (func)) (func (export "_start")) (memory (export "memory") 1))"#;
    refused(bed, "import", wat::parse_str(module)?, &["acme", "launch"])?;
    let component = r#"(component
        (import "acme:rockets/pad@1.0.0" (instance (export "launch" (func))))
        (core module $m (func (export "run") (result i32) i32.const 0))
        (core instance $i (instantiate $m))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance $cli (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $cli)))"#;
    refused(bed, "component-import", wat::parse_str(component)?, &["acme:rockets/pad"])
}

fn a_component_of_an_unknown_world_is_refused_with_what_it_exports(bed: &Bed) -> Outcome {
    let component = r#"(component
        (core module $m (func (export "launch")))
        (core instance $i (instantiate $m))
        (func $launch (canon lift (core func $i "launch")))
        (instance $pad (export "launch" (func $launch)))
        (export "acme:rockets/pad@1.0.0" (instance $pad)))"#;
    refused(bed, "world", wat::parse_str(component)?, &["acme:rockets/pad", "wasi:cli/run"])
}

fn a_feature_that_is_off_is_named(bed: &Bed) -> Outcome {
    let module = r#"(module (memory 1 1 (pagesize 1)) (func (export "_start")))"#;
    refused(bed, "page-size", wat::parse_str(module)?, &["page"])
}

fn a_native_program_that_is_missing_fails_as_under_runc(bed: &Bed) -> Outcome {
    for runtime in [RUNC, WISP] {
        let ended = Container::new(bed, &["/bin/no-such-shell"])?.runtime(runtime).run()?;
        refused_with(ended.refused()?, &["/bin/no-such-shell"])?;
    }
    Ok(())
}

fn what_was_refused_leaves_its_name_free(bed: &Bed) -> Outcome {
    let flags = ["--label", "purpose=refused"];
    let id = {
        let container = Container::new(bed, &["/no-such.wasm"])?.flags(&flags);
        let id = container.id().to_owned();
        container.run()?.refused()?;
        id
    };
    let events = bed.events().of(&id);
    ensure!(
        !events.iter().any(|event| event.topic == "/tasks/start"),
        "a refused task was started: {events:?}"
    );
    bed.import_guests()?;
    let again =
        bed.ctr(&["run", "--rm", "--runtime", WISP, wisp_tests::bed::GUESTS, &id, "/rust-0.2.wasm"])?;
    again.success().context("the same name again").map(drop)
}
