//! `wisp build` of projects, as who has no root.

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::path::PathBuf;
use std::process::{ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use wisp_tests::bed::LIMIT;
use wisp_tests::suite::Case;
use wisp_tests::{Outcome, cases, process, site};

pub(crate) const CASES: &[Case] = cases![Once:
    a_cargo_project_becomes_an_image_that_runs,
    a_project_of_any_language_becomes_an_image_by_one_line,
    a_changed_project_is_built_and_run_again,
];

/// A folder with a project, and a store beside it.
struct Project(PathBuf);

impl Project {
    fn new(name: &str, files: &[(&str, &str)]) -> Result<Self> {
        let folder = site::run_folder()?.join(format!("build-{name}"));
        for (name, text) in files {
            let path = folder.join("project").join(name);
            fs::create_dir_all(path.parent().context("a folder")?)?;
            fs::write(path, text)?;
        }
        Ok(Self(folder))
    }

    fn copy(&self, guest: &str, name: &str) -> Outcome {
        fs::copy(site::guest(guest)?, self.0.join("project").join(name))?;
        Ok(())
    }

    fn command(&self, args: &[&str]) -> Result<Command> {
        let mut command = Command::new(site::binary("wisp")?);
        command.args(args).current_dir(self.0.join("project"));
        command.env("XDG_DATA_HOME", &self.0).env("CARGO_TARGET_DIR", self.0.join("target"));
        Ok(command)
    }

    fn does(&self, args: &[&str]) -> Result<String> {
        // A first build of Cargo's takes its time on a busy machine.
        process::run(&mut self.command(args)?, LIMIT)?.success().with_context(|| args.join(" "))
    }
}

fn a_cargo_project_becomes_an_image_that_runs() -> Outcome {
    let manifest = "[package]\nname = \"greeter\"\nedition = \"2024\"\n\n[workspace]\n";
    let main = "fn main() { println!(\"greetings\"); }\n";
    let project = Project::new("cargo", &[("Cargo.toml", manifest), ("src/main.rs", main)])?;
    project.does(&["build", "-t", "wisp.test/greeter:1"])?;
    ensure!(project.does(&["run", "wisp.test/greeter:1"])? == "greetings\n");
    Ok(())
}

fn a_project_of_any_language_becomes_an_image_by_one_line() -> Outcome {
    let toml = "build = \"cp source app.wasm\"\nwasm = \"app.wasm\"\ntag = \"wisp.test/any:1\"\n";
    let project = Project::new("any", &[("wisp.toml", toml)])?;
    project.copy("go.wasm", "source")?;
    let built = project.does(&["build"])?;
    ensure!(built.starts_with("wisp.test/any:1\nsha256:"), "{built}");
    let said = project.does(&["run", "wisp.test/any:1", "hello"])?;
    ensure!(said.starts_with("hello from Go"), "{said}");
    Ok(())
}

fn a_changed_project_is_built_and_run_again() -> Outcome {
    let toml = "build = \"cp source app.wasm\"\nwasm = \"app.wasm\"\ntag = \"wisp.test/watched:1\"\n";
    let project = Project::new("watched", &[("wisp.toml", toml)])?;
    project.copy("rust-0.1.wasm", "source")?;
    let mut command = project.command(&["build", "--watch", "--cmd", "hello", "."])?;
    process::dies_with_us(&mut command).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().context("starting wisp build")?;
    let mut lines = BufReader::new(child.stdout.take().context("stdout")?).lines();
    let next = |lines: &mut Lines<BufReader<ChildStdout>>| {
        lines.next().context("the output ended")?.context("reading the output")
    };
    ensure!(next(&mut lines)?.ends_with("WASI 0.1"));
    project.copy("rust-0.2.wasm", "source")?;
    ensure!(next(&mut lines)?.ends_with("WASI 0.2"));
    // However it ends, what it runs ends with it.
    child.kill()?;
    child.wait()?;
    ensure!(lines.next().is_none(), "the guest goes on and writes");
    Ok(())
}
