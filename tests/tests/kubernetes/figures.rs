//! How long a pod takes from `kubectl apply` until it is ready, beside runc in the same run. Printed and not judged: the figures
//! are those of the machine that it runs on.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;
use wisp_tests::kube::PATIENCE;
use wisp_tests::kube::pod::Pod;
use wisp_tests::kube::scene::Scene;
use wisp_tests::kube::suite::{Case, HOST};
use wisp_tests::kube::world::PODSANDBOX;
use wisp_tests::{Outcome, kube_cases};

pub(crate) const CASES: &[&[Case]] = &[kube_cases![OnRequest, HOST; the_time_until_pods_are_ready]];

/// How often one pod is measured, and how many are created at once.
const TIMES: usize = 11;
const AT_ONCE: usize = 50;

/// What is compared: the same source as a native program and as a component.
fn kinds(scene: &Scene<'_>) -> Vec<(&'static str, Pod)> {
    let sleeping = |program: &'static str| [program, "sleep", "3600"];
    let native = scene.native("", &sleeping("/native"));
    let wasm = scene.pod("", &sleeping("/rust-0.2.wasm"));
    let paused = wasm.clone().spec("runtimeClassName", json!(PODSANDBOX));
    vec![("runc", native), ("wisp", wasm), ("wisp with a pause container", paused)]
}

fn named(pod: &Pod, name: &str) -> Pod {
    pod.clone().called(name).spec("terminationGracePeriodSeconds", json!(0))
}

/// Creates pods, waits until all are ready, and removes them; the time until they were.
fn time(scene: &Scene<'_>, pods: &[Pod]) -> Result<Duration> {
    let items: Vec<_> = pods.iter().map(Pod::manifest).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    let start = Instant::now();
    scene.kubectl.apply(&list)?;
    scene.kubectl.run(&["wait", "--for=condition=Ready", "pods", "--all", "--timeout=110s"])?;
    let took = start.elapsed();
    let mut delete = scene.kubectl.command(&["delete", "pods", "--all", "--timeout=220s"]);
    wisp_tests::process::run(&mut delete, 2 * PATIENCE)?.success()?;
    Ok(took)
}

#[allow(clippy::print_stdout)] // the figures are what it is run for
fn the_time_until_pods_are_ready(scene: &Scene<'_>) -> Outcome {
    let kinds = kinds(scene);
    let mut single = vec![Vec::new(); kinds.len()];
    for round in 0..=TIMES {
        for (times, (_, pod)) in single.iter_mut().zip(&kinds) {
            let took = time(scene, &[named(pod, &format!("one-{round}"))])?;
            // The first pulls the image and compiles the program.
            if round > 0 {
                times.push(took);
            }
        }
    }
    for (times, (name, _)) in single.iter_mut().zip(&kinds) {
        times.sort();
        println!(
            "1 pod, {name}: {:.2?} (median of {TIMES}; {:.2?} to {:.2?})",
            times[TIMES / 2],
            times[0],
            times[TIMES - 1]
        );
    }
    for (name, pod) in &kinds {
        let pods: Vec<_> = (0..AT_ONCE).map(|number| named(pod, &format!("many-{number}"))).collect();
        println!("{AT_ONCE} pods at once, {name}: {:.2?}", time(scene, &pods)?);
    }
    Ok(())
}
