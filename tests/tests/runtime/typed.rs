//! Each command of the pages is typed by a test, or named here with the test that runs one like it or the reason why none does.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use wisp_tests::pages::{self, Page};
use wisp_tests::suite::Case;
use wisp_tests::{Outcome, cases, site};

use crate::docs;

pub(crate) const CASES: &[Case] = cases![Once:
    every_command_of_a_page_is_typed_or_named,
    every_block_of_a_page_is_of_a_kind_that_is_checked,
    every_target_that_a_page_has_make_build_is_one,
];

/// Pages and what they are typed by from their first command to the last: with a cluster (`kubernetes/pages.rs`, `languages.rs`).
const WHOLE: &[(&str, &str)] =
    &[("docs/quick-start.md", "the_quick_start_leads_to_a_pod"), ("examples/", "runs_as_its_page_says")];

/// How the commands for a cluster begin, of which `kubernetes/pages.rs` keeps the same account.
const CLUSTER: &[&str] = &["kubectl ", "kind create ", "kind load ", "(cd k8s"];

/// Commands that want more than these tests have, and the test that runs each, with addresses and names of its own.
const ELSEWHERE: &[(&str, &str)] = &[
    ("export PATH=$PWD/target/stage/usr/local/bin:$PATH", "the_readme_leads_to_a_pod_that_answers"),
    ("rustup target add wasm32-wasip2", "the_readme_leads_to_a_pod_that_answers"),
    (
        "wisp build -t registry.example/hello-rust-http:1 examples/rust-http",
        "the_readme_leads_to_a_pod_that_answers",
    ),
    ("wisp save -o hello.tar registry.example/hello-rust-http:1", "the_readme_leads_to_a_pod_that_answers"),
    (
        "curl --retry 9 --retry-connrefused http://localhost:8080/reader",
        "the_readme_leads_to_a_pod_that_answers",
    ),
    (
        "sudo ctr run --rm --runtime io.containerd.wisp.v1 IMAGE NAME",
        "an_image_that_wisp_made_runs_without_a_registry",
    ),
    ("wisp run -p 127.0.0.1:9000 service.wasm", "run_serves_until_it_is_interrupted"),
    (
        "wisp compile --containerd registry.example/app:1",
        "what_containerd_has_is_compiled_and_a_native_program_is_refused",
    ),
    ("wisp top", "top_looks_again_and_again_on_a_terminal"),
    ("wisp top -n k8s.io --sort memory", "top_shows_what_wasm_tasks_are_and_use"),
    (
        "wisp top --json | jq '.[] | select(.counters.requests_in_flight > 10)'",
        "top_shows_what_wasm_tasks_are_and_use",
    ),
    ("wisp build -t app:dev --containerd app.wasm", "an_image_that_wisp_made_runs_without_a_registry"),
    ("docker save app:1 | wisp load", "an_image_that_docker_built_is_loaded_by_wisp_and_runs"),
    ("wisp login registry.example", "a_login_without_a_password_says_how_to_give_one"),
    (
        "pass show registry | wisp login -u ada --password-stdin registry.example",
        "a_login_that_the_registry_takes_is_kept_until_logout",
    ),
    ("wisp logout registry.example", "a_login_that_the_registry_takes_is_kept_until_logout"),
    ("sudo wisp install", "a_wasm_task_runs_after_an_install"),
    ("sudo wisp install --uninstall", "running_tasks_survive_an_install_and_an_uninstall"),
    ("sudo wisp doctor", "a_node_with_wisp_is_well"),
];

/// Commands that no test types, and why.
const NEVER: &[(&str, &str)] = &[
    ("sudo make install", "it writes to /usr/local; what is tested was installed by it with DESTDIR"),
    ("cargo test -p wisp-cache", "`make test-unit` runs it with what else there is"),
];

fn every_command_of_a_page_is_typed_or_named() -> Outcome {
    let named = ELSEWHERE.iter().chain(NEVER).map(|(command, _)| *command);
    let (mut unseen, mut known): (Vec<_>, usize) = (named.collect(), 0);
    for page in pages::all()? {
        for line in page.typed() {
            let command = pages::command(line);
            unseen.retain(|named| *named != command);
            let is_named = ELSEWHERE.iter().chain(NEVER).any(|(named, _)| *named == command);
            ensure!(is_named || is_known(&page, line), "{}: no test types {command:?}", page.path);
            known += 1;
        }
    }
    ensure!(unseen.is_empty(), "no page has {unseen:?}");
    ensure!(known > 60, "{known} commands were found");
    let tests = sources()?;
    for (_, test) in WHOLE.iter().chain(ELSEWHERE) {
        ensure!(tests.contains(&format!("fn {test}(")), "there is no test {test}");
    }
    Ok(())
}

/// Whether a line is typed by a table or rule that is not in this file's lists.
fn is_known(page: &Page, line: &str) -> bool {
    WHOLE.iter().any(|(path, _)| page.path.starts_with(path))
        || docs::is_typed(&page.path, line)
        || CLUSTER.iter().any(|word| line.starts_with(word))
        || line.starts_with("make ")
}

fn every_block_of_a_page_is_of_a_kind_that_is_checked() -> Outcome {
    for page in pages::all()? {
        for (language, text) in pages::blocks(&page.text) {
            // Settings and objects are parsed by the unit tests of `runtime/cli`; what has no language is a drawing.
            let is_known = ["sh", "console", "toml", "yaml", "dockerfile", "text", ""].contains(&language);
            ensure!(is_known, "{}: nothing checks what is written in {language}: {text}", page.path);
        }
    }
    Ok(())
}

fn every_target_that_a_page_has_make_build_is_one() -> Outcome {
    let makefile = fs::read_to_string(site::checkout().join("Makefile"))?;
    let subjects = makefile.lines().find(|line| line.starts_with("SUBJECTS := ")).unwrap_or_default();
    let is_target = |word: &str| match word.strip_prefix("bench-") {
        Some(subject) if subjects.split(' ').chain(["SUBJECT"]).any(|of| of == subject) => true,
        _ => makefile.contains(&format!("\n{word}:")),
    };
    for page in pages::all()? {
        let in_sentences = page.text.split('`').skip(1).step_by(2).filter(|code| !code.contains('\n'));
        for line in page.typed().chain(in_sentences) {
            let commands =
                pages::command(line).split("&&").map(|part| part.trim().trim_start_matches("sudo "));
            for word in
                commands.filter_map(|command| command.strip_prefix("make ")).flat_map(str::split_whitespace)
            {
                ensure!(word.contains('=') || is_target(word), "{}: there is no target {word}", page.path);
            }
        }
    }
    Ok(())
}

/// The tests' own source.
fn sources() -> Result<String> {
    let root = site::checkout();
    let (mut text, mut pending) =
        (String::new(), vec![root.join("tests/tests"), root.join("runtime/cli/tests")]);
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder)? {
            let path: PathBuf = entry?.path();
            if path.is_dir() {
                pending.push(path);
            } else {
                text.push_str(&fs::read_to_string(path)?);
            }
        }
    }
    Ok(text)
}
