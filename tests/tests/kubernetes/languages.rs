//! The programs of `examples/`, by the commands of their pages.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use wisp_tests::bed::LIMIT;
use wisp_tests::kube::cluster::is_ready;
use wisp_tests::kube::registry;
use wisp_tests::kube::scene::Scene;
use wisp_tests::kube::suite::{Case, Place};
use wisp_tests::{Outcome, kube_cases, process, site};

pub(crate) const CASES: &[&[Case]] =
    &[kube_cases![Node, &[Place::Host]; the_examples_run_as_their_pages_say]];

fn the_examples_run_as_their_pages_say(scene: &Scene<'_>) -> Outcome {
    let folder = site::run_folder()?.join("examples");
    let hosts = folder.join("certs.d").join(registry::NAME);
    fs::create_dir_all(&hosts)?;
    fs::write(hosts.join("hosts.toml"), format!("server = \"{}\"\n", registry::url()))?;
    for example in ["rust", "c", "go", "rust-http"] {
        let here = folder.join(example);
        copy(&site::checkout().join("examples").join(example), &here)?;
        let page = fs::read_to_string(here.join("README.md"))?;
        let commands = page.split("```").nth(1).context("a block of commands")?;
        for line in commands.lines().skip(1).filter(|line| !line.is_empty()) {
            run(scene, line, &here).with_context(|| format!("{example}: {line}"))?;
        }
        answers(scene, example)?;
    }
    Ok(())
}

/// A folder with the tests' registry in place of the one that pages have.
fn copy(from: &Path, to: &Path) -> Outcome {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, copied) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &copied)?;
        } else {
            fs::write(copied, fs::read_to_string(path)?.replace("registry.example", registry::NAME))?;
        }
    }
    Ok(())
}

fn run(scene: &Scene<'_>, line: &str, here: &Path) -> Result<String> {
    // Where the registry is, a node knows from its certs.d; this machine has none.
    let certs = here.with_file_name("certs.d");
    let line = line.replace("wisp push", &format!("wisp push --hosts-dir {}", certs.display()));
    let mut command = if let Some(args) = line.strip_prefix("kubectl ") {
        let args = args.replace("pod.yaml", &here.join("pod.yaml").display().to_string());
        scene.kubectl.command(&args.split(' ').collect::<Vec<_>>())
    } else if line.starts_with("wisp build") {
        // Where the compilers find what a program depends on, and not in the cluster's network.
        Command::new("sh")
    } else {
        scene.kubectl.beside("sh")
    };
    if !line.starts_with("kubectl ") {
        command.arg("-c").arg(format!("cd {} && {line}", here.display()));
    }
    with_tools(&mut command, here)?;
    process::run(&mut command, 8 * LIMIT)?.success()
}

fn with_tools(command: &mut Command, here: &Path) -> Outcome {
    let wisp = site::binary("wisp")?;
    let bin = wisp.parent().context("a folder of programs")?.display();
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{bin}:{path}"));
    command.env("XDG_DATA_HOME", here.with_file_name("home")).env("CARGO_TARGET_DIR", here.join("target"));
    Ok(())
}

fn answers(scene: &Scene<'_>, example: &str) -> Outcome {
    let pod = format!("hello-{example}");
    if example.ends_with("-http") {
        let ready = scene.until(&pod, "ready", is_ready)?;
        let namespace = ready["metadata"]["namespace"].as_str().context("a namespace")?;
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}:8080/proxy/reader");
        let answer = scene.kubectl.raw(&path)?;
        ensure!(answer == "hello reader from Rust\n", "{answer}");
    } else {
        scene.until(&pod, "ended", |pod| pod["status"]["phase"] == "Succeeded")?;
        let said = scene.logs(&pod)?;
        ensure!(said.starts_with("hello reader from "), "{said}");
    }
    Ok(())
}
