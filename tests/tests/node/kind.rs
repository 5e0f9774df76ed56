//! `kind-config.yaml`: its patch on a file of kind's form, as kind would merge it, under real containerds.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use wisp_tests::machine::{CONFIG, Machine};
use wisp_tests::suite::Case;
use wisp_tests::{Outcome, cases, site};

use crate::forms::KIND;

pub(crate) const CASES: &[Case] = cases![Once: kinds_patch_gives_its_containerd_the_handler];

/// The first of `containerdConfigPatches`: an indented block of text.
fn patch() -> Result<String> {
    let text = std::fs::read_to_string(site::checkout().join("kind-config.yaml"))?;
    let (_, rest) = text.split_once("containerdConfigPatches:\n  - |-\n").context("there is no patch")?;
    let lines = rest.lines().take_while(|line| line.starts_with("    "));
    Ok(lines.map(|line| format!("{}\n", &line[4..])).collect())
}

/// kind merges a patch as RFC 7386 says.
fn merge(target: &mut Value, patch: &Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    target.remove(key);
                } else {
                    merge(target.entry(key).or_insert_with(|| Value::Object(Default::default())), value);
                }
            }
        }
        (target, patch) => *target = patch.clone(),
    }
}

fn merged() -> Result<String> {
    let mut table: Value = serde_json::to_value(toml::from_str::<toml::Table>(KIND)?)?;
    merge(&mut table, &serde_json::to_value(toml::from_str::<toml::Table>(&patch()?)?)?);
    Ok(toml::to_string(&table)?)
}

fn kinds_patch_gives_its_containerd_the_handler() -> Outcome {
    let text = merged()?;
    for version in ["2.2", "2.4"] {
        let base = ("/etc/containerd/base.json", "{}");
        let machine = Machine::start(version, CONFIG, &[(CONFIG, &text), base])?;
        let dump = machine.dump()?;
        ensure!(dump.contains("runtime_type = \"io.containerd.wisp.v1\""), "{dump}");
        ensure!(!dump.contains("sandboxer = \"shim\""), "not every containerd of kind bears it: {dump}");
        // What kind's own file says is still there.
        for kept in [
            "runtimes.test-handler]",
            "base_runtime_spec = \"/etc/containerd/base.json\"",
            "pause.test/pause:1",
        ] {
            ensure!(dump.contains(kept), "{kept} is lost: {dump}");
        }
        machine.install(&[])?.success()?;
        ensure!(machine.file(CONFIG).as_deref() == Some(&text), "an install changed what was there already");
    }
    Ok(())
}
