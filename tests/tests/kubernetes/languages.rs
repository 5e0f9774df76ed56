//! The programs of `examples/`, by the commands of their pages.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use wisp_tests::kube::cluster::is_ready;
use wisp_tests::kube::scene::Scene;
use wisp_tests::kube::suite::{Case, Place};
use wisp_tests::pages as documentation;
use wisp_tests::{Outcome, kube_cases, site};

use crate::pages::{self, Shell};

pub(crate) const CASES: &[&[Case]] =
    &[kube_cases![Node, &[Place::Host]; the_examples_run_as_their_pages_say]];

/// Folders of `examples/`, and how their programs call their languages.
const EXAMPLES: &[(&str, &str)] = &[
    ("rust", "Rust"),
    ("rust-http", "Rust"),
    ("c", "C"),
    ("cpp", "C++"),
    ("zig", "Zig"),
    ("go", "Go"),
    ("assemblyscript", "AssemblyScript"),
    ("python", "Python"),
    ("javascript", "JavaScript"),
    ("typescript", "TypeScript"),
];

/// How long a program with an engine in it may take until it is compiled.
const PATIENCE: Duration = Duration::from_secs(600);

fn the_examples_run_as_their_pages_say(scene: &Scene<'_>) -> Outcome {
    let folder = site::run_folder()?.join("examples");
    for &(example, language) in EXAMPLES {
        let mut shell = Shell::new(scene, folder.join(example))?;
        copy(&site::checkout().join("examples").join(example), &shell.here)?;
        let page = pages::page(&shell.here.join("README.md"))?;
        let (_, commands) = documentation::blocks(&page).next().context("a block of commands")?;
        for line in commands.lines() {
            shell.run(line).with_context(|| format!("{example}: {line}"))?;
        }
        answers(scene, example, language).with_context(|| example)?;
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
            fs::write(copied, pages::page(&path)?)?;
        }
    }
    Ok(())
}

fn answers(scene: &Scene<'_>, example: &str, language: &str) -> Outcome {
    let pod = format!("pod/hello-{example}");
    let greeting = format!("hello reader from {language}\n");
    let until = |what: &str, reached: fn(&Value) -> bool| scene.kubectl.until(&pod, what, PATIENCE, reached);
    let spec = scene.kubectl.get(&[&pod])?;
    let said = if spec["spec"]["containers"][0]["readinessProbe"].is_object() {
        until("ready", is_ready)?;
        scene.kubectl.raw(&format!(
            "/api/v1/namespaces/{}/pods/hello-{example}:8080/proxy/reader",
            scene.kubectl.namespace
        ))?
    } else {
        until("ended", |pod| pod["status"]["phase"] == "Succeeded")?;
        scene.kubectl.run(&["logs", &pod])?
    };
    ensure!(said == greeting, "{said}");
    Ok(())
}
