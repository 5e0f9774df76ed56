//! `wisp inspect`: what it says of programs of people and of hostile ones.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use wisp_tests::bed::LIMIT;
use wisp_tests::process::{self, Finished};
use wisp_tests::space::{Cache, Space};
use wisp_tests::suite::Case;
use wisp_tests::{Outcome, cases, site};

pub(crate) const CASES: &[Case] = cases![Once:
    inspect_tells_a_programs_interfaces_and_what_of_them_wisp_gives,
    inspect_compiles_nothing_and_says_what_the_cache_has,
    inspect_refuses_what_is_no_program_in_one_sentence,
    a_wrong_command_line_is_told_from_a_failure,
    inspect_gives_up_on_types_without_end_and_tells_the_rest,
];

/// A space with a cache of its own.
struct Bed {
    space: Space,
    folder: PathBuf,
}

impl Bed {
    fn new(case: &str) -> Result<Self> {
        let folder = site::run_folder()?.join(format!("inspect-{case}"));
        fs::create_dir_all(folder.join("cache"))?;
        Ok(Self { space: Space::new(Cache::Folder(folder.join("cache")), None)?, folder })
    }

    fn wisp(&self, args: &[&str]) -> Result<Finished> {
        let mut command: Command = self.space.command(site::binary("wisp")?);
        process::run(command.args(args), LIMIT)
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> Result<String> {
        let path = self.folder.join(name);
        fs::write(&path, bytes)?;
        Ok(path.display().to_string())
    }

    fn report(&self, file: &str) -> Result<Value> {
        let said = self.wisp(&["inspect", "--json", file])?.success()?;
        serde_json::from_str(&said).with_context(|| said.clone())
    }

    fn cached(&self) -> Result<usize> {
        Ok(fs::read_dir(self.folder.join("cache"))?.count())
    }
}

fn guest(name: &str) -> Result<String> {
    Ok(site::guest(name)?.display().to_string())
}

fn inspect_tells_a_programs_interfaces_and_what_of_them_wisp_gives() -> Outcome {
    let bed = Bed::new("interfaces")?;
    let module = bed.report(&guest("rust-0.1.wasm")?)?;
    let imports = module["imports"].as_array().context("no imports")?;
    let exit = imports.iter().find(|import| import["name"] == "wasi_snapshot_preview1::proc_exit");
    ensure!(exit.is_some_and(|exit| exit["signature"] == "func(i32)"), "{imports:?}");
    ensure!(imports.iter().all(|import| import["given"] == true), "{imports:?}");
    ensure!(module["producers"]["language"].to_string().contains("Rust"), "{}", module["producers"]);
    ensure!(module["sections"][0]["name"] == "code", "{}", module["sections"]);

    let said = bed.wisp(&["inspect", &guest("http-0.2.wasm")?])?.success()?;
    ensure!(said.contains("HTTP service (wasi:http 0.2), a component"), "{said}");
    ensure!(said.contains("  export wasi:http/incoming-handler@0.2."), "{said}");
    let wit = bed.wisp(&["inspect", "--wit", &guest("http-0.2.wasm")?])?.success()?;
    ensure!(
        wit.contains("handle: func(request: incoming-request, response-out: response-outparam)"),
        "{wit}"
    );

    let own = bed.file(
        "own.wat",
        r#"(component (import "acme:rockets/pad@1.0.0" (instance (export "launch" (func (param "count" u32))))))"#,
    )?;
    let said = bed.wisp(&["inspect", &own])?.success()?;
    for part in ["acme:rockets/pad@1.0.0   NOT GIVEN", "compose it", "launch: func(count: u32)"] {
        ensure!(said.contains(part), "{part} in {said}");
    }
    Ok(())
}

fn inspect_compiles_nothing_and_says_what_the_cache_has() -> Outcome {
    let bed = Bed::new("cache")?;
    let program = guest("rust-0.1.wasm")?;
    ensure!(bed.report(&program)?["compiled"].is_null() && bed.cached()? == 0, "it was compiled");
    bed.wisp(&["compile", &program])?.success()?;
    let compiled = bed.report(&program)?["compiled"].clone();
    ensure!(compiled["profile"] == "fast" && compiled["code_bytes"].as_u64() > Some(1000), "{compiled}");
    Ok(())
}

fn inspect_refuses_what_is_no_program_in_one_sentence() -> Outcome {
    let bed = Bed::new("refused")?;
    let whole = fs::read(site::guest("http-0.2.wasm")?)?;
    for (file, word) in [
        (bed.file("cut.wasm", &whole[..whole.len() / 2])?, "cut off"),
        (bed.file("text.wasm", "no program")?, "WebAssembly"),
        (bed.file("bad.wat", "(module (func $f (call $none)))")?, "bad.wat:1:"),
        (bed.file("many.wasm", b"\0asm\x01\0\0\0\x01\x05\xff\xff\xff\xff\x0f")?, "not valid WebAssembly"),
        (bed.file("deep.wasm", b"\0asm\x0d\0\x01\0".repeat(2))?, "got wasm magic number"),
        (bed.folder.join("none.wasm").display().to_string(), "none.wasm"),
    ] {
        for options in [&["inspect"][..], &["inspect", "--json"], &["inspect", "--wit"]] {
            let ended = bed.wisp(&[options, &[&file]].concat())?;
            ensure!(ended.code == 1 && ended.stdout.is_empty(), "{file}: {ended:?}");
            ensure!(ended.stderr.trim().lines().count() == 1, "{file}: {ended:?}");
            ensure!(options.len() == 2 && options[1] == "--wit" || ended.stderr.contains(word), "{ended:?}");
        }
    }
    Ok(())
}

fn a_wrong_command_line_is_told_from_a_failure() -> Outcome {
    let bed = Bed::new("usage")?;
    for args in [&["inspect", "--no-such"][..], &["inspect"], &["no-such"], &["completions", "csh"]] {
        let ended = bed.wisp(args)?;
        ensure!(ended.code == 2 && ended.stdout.is_empty(), "{args:?}: {ended:?}");
    }
    Ok(())
}

fn inspect_gives_up_on_types_without_end_and_tells_the_rest() -> Outcome {
    // Each tuple holds the one before it twice, and each function takes the largest.
    let mut text = "(component (type $t0 (tuple u8 u8))".to_owned();
    for depth in 1..=9 {
        let inner = depth - 1;
        write!(text, "(type $t{depth} (tuple $t{inner} $t{inner}))")?;
    }
    for index in 0..400 {
        write!(text, r#"(import "f{index}" (func (param "a" $t9)))"#)?;
    }
    let bed = Bed::new("endless")?;
    let report = bed.report(&bed.file("endless.wat", text + ")")?)?;
    let error = report["wit_error"].as_str().context("there is WIT")?;
    ensure!(error.contains("the component's types take more than"), "{error}");
    ensure!(report["imports"].as_array().map(Vec::len) == Some(400), "{}", report["imports"]);
    Ok(())
}
