//! `kind-config.yaml`: what kind's own code makes of it and of the file that its nodes have, under real containerds.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use wisp_tests::machine::{CONFIG, LIMIT, Machine};
use wisp_tests::suite::Case;
use wisp_tests::{Outcome, cases, process, site};

pub(crate) const CASES: &[Case] = cases![Once: kinds_patch_gives_its_containerd_the_handler];

/// What its handlers begin with on a node of kind, and what is enough of it for containerd to start.
pub(crate) const BASE: (&str, &str) = (
    "/etc/containerd/cri-base.json",
    r#"{"ociVersion": "1.1.0", "root": {"path": "rootfs"}, "process": {"cwd": "/"}}"#,
);

/// The configuration that containerd has on a node of kind.
pub(crate) fn config() -> Result<String> {
    let path = site::kind("config.toml")?;
    std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}

/// What it is once kind has created a cluster from this file.
fn patched(cluster: &Path) -> Result<String> {
    let mut command = Command::new(site::kind("bin/kind-patched")?);
    process::run(command.arg(cluster).arg(site::kind("config.toml")?), LIMIT)?.success()
}

fn kinds_patch_gives_its_containerd_the_handler() -> Outcome {
    let text = patched(&site::checkout().join("kind-config.yaml"))?;
    for version in ["2.2", "2.4"] {
        let machine = Machine::start(version, CONFIG, &[(CONFIG, &text), BASE])?;
        let dump = machine.dump()?;
        ensure!(dump.contains("runtime_type = \"io.containerd.wisp.v1\""), "{dump}");
        ensure!(!dump.contains("sandboxer = \"shim\""), "not every containerd of kind bears it: {dump}");
        // What kind's own file says is still there.
        for kept in ["runtimes.test-handler]", &format!("base_runtime_spec = \"{}\"", BASE.0), "/pause:3"] {
            ensure!(dump.contains(kept), "{kept} is lost: {dump}");
        }
        machine.install(&[])?.success()?;
        ensure!(machine.file(CONFIG).as_deref() == Some(&text), "an install changed what was there already");
    }
    Ok(())
}
