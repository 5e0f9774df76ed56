//! The programs of `examples/`, by the commands of their pages.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use wisp_tests::kube::cluster::is_ready;
use wisp_tests::kube::scene::Scene;
use wisp_tests::kube::suite::{Case, Place};
use wisp_tests::{Outcome, kube_cases, site};

use crate::pages::{self, Shell};

pub(crate) const CASES: &[&[Case]] =
    &[kube_cases![Node, &[Place::Host]; the_examples_run_as_their_pages_say]];

fn the_examples_run_as_their_pages_say(scene: &Scene<'_>) -> Outcome {
    let folder = site::run_folder()?.join("examples");
    for example in ["rust", "c", "go", "rust-http"] {
        let mut shell = Shell::new(scene, folder.join(example))?;
        copy(&site::checkout().join("examples").join(example), &shell.here)?;
        let page = pages::page(&shell.here.join("README.md"))?;
        let (_, commands) = pages::blocks(&page).next().context("a block of commands")?;
        for line in commands.lines() {
            shell.run(line).with_context(|| format!("{example}: {line}"))?;
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
            fs::write(copied, pages::page(&path)?)?;
        }
    }
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
