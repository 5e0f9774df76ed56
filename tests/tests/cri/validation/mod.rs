//! Kubernetes' own suite for what implements CRI (`critest`), whose containers are native: under Wisp nothing fails in it that
//! does not fail under runc.

mod images;

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use wisp_tests::bed::Options;
use wisp_tests::cri::config::{PODSANDBOX, RUNC, SHIM};
use wisp_tests::cri::node::{Node, Variant};
use wisp_tests::cri::registry::Registry;
use wisp_tests::suite::Case;
use wisp_tests::{Outcome, cases, process, site};

pub(crate) const ON_REQUEST: &[Case] =
    cases![OnRequest: the_validation_suite_fails_nothing_that_it_passes_under_runc];

/// Specifications run one after another, and some wait for a time-out.
const LIMIT: Duration = Duration::from_mins(20);
/// What the images here cannot do: one has a digest that only the true one has, and Debian's busybox runs its applets also where
/// their files are masked, which `security.rs` looks at in its way.
const OF_OUR_IMAGES: [&str; 2] =
    ["public image with digest should be pulled and removed", "runtime should support MaskedPaths"];

fn the_validation_suite_fails_nothing_that_it_passes_under_runc() -> Outcome {
    let mut runs = Vec::new();
    for handler in [RUNC, PODSANDBOX, SHIM] {
        let variant = Variant { version: "2.4", sandboxer: "shim" };
        let node = Node::start_with(variant, Options { registries: true, ..Options::default() })?;
        runs.push(thread::spawn(move || Report::of(&node, handler)));
    }
    let reports =
        runs.into_iter().map(|run| run.join().map_err(|_| anyhow!("the thread of a run panicked"))?);
    let reports = reports.collect::<Result<Vec<_>>>()?;
    reports.iter().for_each(Report::print);
    let runc = reports.first().context("no report")?;
    let of_our_images = |name: &String| OF_OUR_IMAGES.iter().any(|known| name.contains(known));
    let unexpected: Vec<_> = runc.failed.iter().filter(|name| !of_our_images(name)).collect();
    ensure!(
        unexpected.is_empty(),
        "under runc itself these fail, so that nothing is said of Wisp: {unexpected:#?}"
    );
    for report in &reports {
        let lost: Vec<_> = report.failed.difference(&runc.failed).collect();
        ensure!(lost.is_empty(), "under {} these fail: {lost:#?}", report.handler);
    }
    Ok(())
}

/// What the suite found under one handler, by the whole names of its specifications.
struct Report {
    handler: &'static str,
    passed: BTreeSet<String>,
    failed: BTreeSet<String>,
    /// What the machine lacks, or the handler says that it cannot do.
    skipped: BTreeSet<String>,
}

impl Report {
    fn of(node: &Node, handler: &'static str) -> Result<Self> {
        let registry = Registry::start(node)?;
        registry.stand_in_for_all()?;
        for image in images::all(&registry)? {
            registry.push(&image)?;
        }
        let file = node.bed.folder.join("critest.json");
        let mut command = node.bed.space.command(site::critest()?);
        command
            .arg(format!("--runtime-endpoint=unix://{}", node.bed.socket().display()))
            .arg(format!("--runtime-handler={handler}"))
            .arg("--nri-socket=/run/nri/nri.sock")
            .arg(format!("--ginkgo.json-report={}", file.display()))
            // In the same order each time.
            .arg("--ginkgo.seed=1");
        let said = process::run(&mut command, LIMIT)?;
        let report = fs::read(&file).with_context(|| format!("no report; critest said: {}", said.stdout))?;
        let report: Value = serde_json::from_slice(&report)?;
        let specifications =
            report[0]["SpecReports"].as_array().context("a report without specifications")?;
        let in_states = |states: &[&str]| {
            let of_state = specifications
                .iter()
                .filter(|one| one["State"].as_str().is_some_and(|state| states.contains(&state)));
            of_state.filter_map(name).collect::<BTreeSet<_>>()
        };
        Ok(Self {
            handler,
            passed: in_states(&["passed"]),
            failed: in_states(&["failed", "panicked", "timedout", "interrupted", "aborted"]),
            skipped: in_states(&["skipped"]),
        })
    }

    #[allow(clippy::print_stdout)] // it is what the person who asked for it is to read
    fn print(&self) {
        let Self { handler, passed, failed, skipped } = self;
        println!("{handler}: {} passed, {} failed, {} skipped", passed.len(), failed.len(), skipped.len());
        failed.iter().for_each(|name| println!("  failed   {name}"));
        skipped.iter().for_each(|name| println!("  skipped  {name}"));
    }
}

/// The whole name of a specification; none of what only sets up, and none of its benchmarks.
fn name(specification: &Value) -> Option<String> {
    let containers = specification["ContainerHierarchyTexts"].as_array()?.iter().filter_map(Value::as_str);
    let name: Vec<_> = containers.chain(specification["LeafNodeText"].as_str()).collect();
    Some(name.join(" / ")).filter(|name| !name.contains("benchmark"))
}
