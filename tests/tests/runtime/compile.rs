//! What the toolchains' services are compiled to, and compiles that outlive who wanted them, with a compiler that waits for a word from
//! the test.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use wisp_tests::bed::{LIMIT, eventually};
use wisp_tests::bundle::Bundle;
use wisp_tests::space::{Cache, Space};
use wisp_tests::suite::Case;
use wisp_tests::{Outcome, cases, leaks, process, site};

pub(crate) const CASES: &[Case] = cases![Once:
    a_service_in_rust_is_compiled_without_its_shim,
    a_compile_goes_on_when_its_command_is_killed_and_the_next_joins_it,
    a_compile_that_nobody_waits_for_ends_when_its_time_is_over,
    a_failure_is_told_to_all_who_waited_for_it,
    only_so_many_programs_are_compiled_at_once,
];

/// A module of the program, and one that fills its table. Where a toolchain makes services of another form, only this would tell.
fn a_service_in_rust_is_compiled_without_its_shim() -> Outcome {
    for name in ["http-0.2.wasm", "http-0.3.wasm"] {
        // The compiler reads the program from its stdin and writes the code to descriptor 3.
        let mut compile = Command::new("sh");
        compile.args(["-c", r#"exec "$0" <"$1" 3>/dev/null"#]);
        compile.arg(site::binary("wisp-compiler")?).arg(site::guest(name)?);
        let facts: Value = serde_json::from_str(&process::run(&mut compile, LIMIT)?.success()?)?;
        ensure!(facts["core_instances"] == 2, "{name} has {} core instances", facts["core_instances"]);
    }
    Ok(())
}

/// An installation of its own whose compiler notes when it begins and ends, and waits before it compiles.
struct Site {
    folder: PathBuf,
    space: Space,
}

impl Site {
    fn new(name: &str, config: &str) -> Result<Self> {
        let folder = site::run_folder()?.join(format!("compile-{name}"));
        fs::create_dir_all(&folder)?;
        for program in ["wisp-runtime", "wisp-guest"] {
            fs::copy(site::binary(program)?, folder.join(program))?;
        }
        let (log, word) = (folder.join("log"), folder.join("word"));
        fs::write(&log, "")?;
        // The compiler is nobody.
        fs::set_permissions(&log, fs::Permissions::from_mode(0o666))?;
        let script = format!(
            "#!/bin/sh\necho begin $$ >>{log}\nwhile [ ! -e {word} ]; do sleep 0.05; done\n{compiler} \"$@\"\nended=$?\n\
             echo end $$ >>{log}\nexit $ended\n",
            log = log.display(),
            word = word.display(),
            compiler = site::binary("wisp-compiler")?.display(),
        );
        let compiler = folder.join("wisp-compiler");
        fs::write(&compiler, script)?;
        fs::set_permissions(&compiler, fs::Permissions::from_mode(0o755))?;
        let space = Space::new(Cache::Folder(folder.join("cache")), Some(config.into()))?;
        Ok(Self { folder, space })
    }

    /// A container of this Wasm.
    fn bundle(&self, wasm: &[u8]) -> Result<Bundle> {
        let bundle = Bundle::with_space(&["/program.wasm"], self.space.clone())?;
        bundle.file("/program.wasm", wasm)?;
        fs::write(bundle.path("config.json"), bundle.spec.to_string())?;
        Ok(bundle)
    }

    /// Begins to create it.
    fn create(&self, bundle: &Bundle) -> Result<Child> {
        let output = fs::File::create(bundle.output_file())?;
        let mut command = self.space.command(self.folder.join("wisp-runtime"));
        let folder = bundle.folder.display().to_string();
        command.args(["--root", "/run/wisp/tests", "create", "--bundle", &folder, &bundle.id]);
        command.env("WISP_TESTS_BED", &bundle.id).stdin(Stdio::null());
        process::dies_with_us(&mut command);
        command.stdout(output.try_clone()?).stderr(output).spawn().context("starting wisp-runtime")
    }

    /// The first words of the compiler's notes.
    fn notes(&self) -> Result<Vec<String>> {
        let notes = fs::read_to_string(self.folder.join("log"))?;
        Ok(notes.lines().map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect())
    }

    fn until_begun(&self, times: usize) -> Result<()> {
        eventually("a compile", LIMIT, || {
            Ok((self.notes()?.iter().filter(|note| *note == "begin").count() == times).then_some(()))
        })
    }

    /// Lets the compiler go on.
    fn word(&self) -> Result<()> {
        Ok(fs::write(self.folder.join("word"), "")?)
    }
}

fn module(constant: i32) -> Result<Vec<u8>> {
    let text = format!(
        r#"(module (memory (export "memory") 1) (func (export "_start") (drop (i32.const {constant}))))"#
    );
    Ok(wat::parse_str(text)?)
}

fn ended(bundle: &Bundle, mut create: Child) -> Result<bool> {
    let status = process::wait(&mut create, LIMIT)?.with_context(|| format!("hangs: {}", bundle.output()))?;
    Ok(status.success())
}

/// Waits until a command waits for another's compile: for the turn, and known as one who waits.
fn until_joined(create: &Child) -> Result<()> {
    eventually("the command to wait", LIMIT, || {
        let open = fs::read_dir(format!("/proc/{}/fd", create.id()))?.flatten();
        let locks = open.filter_map(|entry| fs::read_link(entry.path()).ok());
        Ok((locks.filter(|path| path.ends_with("compile.lock")).count() >= 2).then_some(()))
    })
}

/// The keeper of a container's compile.
fn keeper(bundle: &Bundle) -> Option<i32> {
    // It has the command line of the command that made it, which ends with the container's id.
    let of_this = leaks::processes(&bundle.id).into_iter().filter(|one| one.command.ends_with(&bundle.id));
    of_this.map(|process| process.pid).find(|pid| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "wisp-keeper")
    })
}

fn a_compile_goes_on_when_its_command_is_killed_and_the_next_joins_it() -> Outcome {
    let site = Site::new("joined", "")?;
    let (first, second) = (site.bundle(&module(1)?)?, site.bundle(&module(1)?)?);
    let mut cut_off = site.create(&first)?;
    site.until_begun(1)?;
    cut_off.kill()?;
    cut_off.wait()?;
    let retry = site.create(&second)?;
    until_joined(&retry)?;
    site.word()?;
    ensure!(ended(&second, retry)?, "{}", second.output());
    ensure!(site.notes()? == ["begin", "end"], "{:?}", site.notes()?);
    Ok(())
}

fn a_compile_that_nobody_waits_for_ends_when_its_time_is_over() -> Outcome {
    let site = Site::new("abandoned", "[compiler]\nlinger = \"1s\"\n")?;
    let (first, second) = (site.bundle(&module(2)?)?, site.bundle(&module(2)?)?);
    let mut cut_off = site.create(&first)?;
    site.until_begun(1)?;
    let keeper = keeper(&first).context("no keeper")?;
    cut_off.kill()?;
    cut_off.wait()?;
    ensure!(process::gone(keeper, LIMIT)?, "the compile goes on");
    site.word()?;
    ensure!(site.notes()? == ["begin"], "it was compiled: {:?}", site.notes()?);
    // Nobody has heard that it was given up: the next who asks is told, and the one after that has it compiled.
    let told = site.create(&second)?;
    ensure!(!ended(&second, told)? && second.output().contains("nobody waited"), "{}", second.output());
    let third = site.bundle(&module(2)?)?;
    let again = site.create(&third)?;
    ensure!(ended(&third, again)?, "{}", third.output());
    ensure!(site.notes()? == ["begin", "begin", "end"], "{:?}", site.notes()?);
    Ok(())
}

fn a_failure_is_told_to_all_who_waited_for_it() -> Outcome {
    let site = Site::new("failed", "")?;
    let wasm = b"\0asm\x01\0\0\0\xff\xff\xff";
    let (first, second) = (site.bundle(wasm)?, site.bundle(wasm)?);
    let starts = site.create(&first)?;
    site.until_begun(1)?;
    let joins = site.create(&second)?;
    until_joined(&joins)?;
    site.word()?;
    for (bundle, create) in [(&first, starts), (&second, joins)] {
        ensure!(!ended(bundle, create)?, "created");
        ensure!(
            bundle.output().contains("the entrypoint /program.wasm cannot be run"),
            "{}",
            bundle.output()
        );
    }
    ensure!(site.notes()? == ["begin", "end"], "{:?}", site.notes()?);
    Ok(())
}

fn only_so_many_programs_are_compiled_at_once() -> Outcome {
    let site = Site::new("bounded", "[compiler]\nat_once = 1\n")?;
    let bundles = [site.bundle(&module(3)?)?, site.bundle(&module(4)?)?];
    let first = site.create(&bundles[0])?;
    site.until_begun(1)?;
    let second = site.create(&bundles[1])?;
    eventually("a second keeper", LIMIT, || Ok(keeper(&bundles[1])))?;
    // Time enough for a compile that should not begin yet.
    std::thread::sleep(Duration::from_millis(500));
    site.word()?;
    for (bundle, create) in bundles.iter().zip([first, second]) {
        ensure!(ended(bundle, create)?, "{}", bundle.output());
    }
    ensure!(site.notes()? == ["begin", "end", "begin", "end"], "{:?}", site.notes()?);
    Ok(())
}
