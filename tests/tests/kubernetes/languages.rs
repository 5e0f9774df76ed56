//! The programs of `examples/`, by the commands of their pages.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use wisp_tests::kept::Kept;
use wisp_tests::kube::cluster::is_ready;
use wisp_tests::kube::scene::Scene;
use wisp_tests::kube::suite::{Case, HOST};
use wisp_tests::pages as documentation;
use wisp_tests::{Outcome, kube_cases, site};

use crate::pages::{self, Shell};

/// Cases, each with its folder of `examples/`, and how the program there calls its language.
macro_rules! examples {
    ($($case:ident: $folder:literal, $language:literal;)*) => {
        pub(crate) const CASES: &[&[Case]] = &[kube_cases![Node, HOST; $($case),*]];
        $(fn $case(scene: &Scene<'_>) -> Outcome {
            runs_as_its_page_says(scene, $folder, $language)
        })*
    };
}

// Those that take longest to build come first.
examples! {
    the_example_in_python_runs_as_its_page_says: "python", "Python";
    the_example_in_typescript_runs_as_its_page_says: "typescript", "TypeScript";
    the_example_in_javascript_runs_as_its_page_says: "javascript", "JavaScript";
    the_example_in_rust_runs_as_its_page_says: "rust", "Rust";
    the_example_of_http_in_rust_runs_as_its_page_says: "rust-http", "Rust";
    the_example_in_assemblyscript_runs_as_its_page_says: "assemblyscript", "AssemblyScript";
    the_example_in_zig_runs_as_its_page_says: "zig", "Zig";
    the_example_in_go_runs_as_its_page_says: "go", "Go";
    the_example_in_cpp_runs_as_its_page_says: "cpp", "C++";
    the_example_in_c_runs_as_its_page_says: "c", "C";
}

/// Those that take long to build, and what they are built to: they are built where their files have changed.
const KEPT: &[(&str, &str)] = &[
    ("python", "hello.wasm"),
    ("typescript", "hello.wasm"),
    ("javascript", "hello.wasm"),
    ("assemblyscript", "hello.wasm"),
    ("rust-http", "target/wasm32-wasip2/release/service.wasm"),
];

/// How long a program with an engine in it may take until it is compiled.
const PATIENCE: Duration = Duration::from_secs(600);

fn runs_as_its_page_says(scene: &Scene<'_>, example: &str, language: &str) -> Outcome {
    let mut shell = Shell::new(scene, site::run_folder()?.join("examples").join(example))?;
    copy(&site::checkout().join("examples").join(example), &shell.here)?;
    let kept = KEPT.iter().find(|(folder, _)| *folder == example);
    let kept = kept.map(|(_, built)| Kept::of(&shell.here, example, built)).transpose()?;
    kept.iter().try_for_each(Kept::spare_the_build)?;
    let page = pages::page(&shell.here.join("README.md"))?;
    let (_, commands) = documentation::blocks(&page).next().context("a block of commands")?;
    for line in commands.lines() {
        shell.run(line).with_context(|| line.to_owned())?;
    }
    answers(scene, example, language)?;
    kept.iter().try_for_each(Kept::keep)
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
