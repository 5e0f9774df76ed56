//! Containers in a version 2 hierarchy, whatever this machine's own is: one without controllers is mounted for each test.

use std::fs;

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};
use wisp_tests::bundle::Bundle;
use wisp_tests::suite::Case;
use wisp_tests::{Outcome, cases, site};

pub(crate) const CASES: &[Case] = cases![Once:
    device_rules_hold_wasm_and_native_programs,
    a_device_rule_that_makes_no_sense_is_refused_with_a_sentence,
    a_container_lives_and_ends_in_a_hierarchy_of_version_2,
];

/// A device that no machine has: the rules decide before the kernel looks for it.
const NUMBERS: (u32, u32) = (240, 7);

/// A looping guest, whose runtime finds nothing but version 2.
fn unified() -> Result<Bundle> {
    let bundle = Bundle::new(&["/rust-0.1.wasm", "loop"])?;
    bundle.file("/native", &fs::read(site::guest("native")?)?)?;
    bundle.space.inside(|| {
        mount(Some("cgroup2"), "/sys/fs/cgroup", Some("cgroup2"), MsFlags::empty(), None::<&str>)
            .context("mounting a version 2 hierarchy")
    })?;
    Ok(bundle)
}

fn start(bundle: &Bundle) -> Result<()> {
    bundle.create()?;
    bundle.runtime(&["start", &bundle.id])?.success()?;
    bundle.until("looping")
}

/// Whether programs in a container get as far as the device's driver, which is not there (`ENXIO`, for which WASI has only
/// an I/O error), under these further rules.
fn opens(rules: &[Value], program: &str) -> Result<bool> {
    let mut bundle = unified()?;
    let (major, minor) = NUMBERS;
    bundle.spec["linux"]["devices"] =
        json!([{"path": "/dev/wisp-none", "type": "c", "major": major, "minor": minor, "fileMode": 0o666}]);
    let rules = [&[json!({"allow": false, "access": "rwm"})], rules].concat();
    bundle.spec["linux"]["resources"]["devices"] = json!(rules);
    start(&bundle)?;
    // What every container's /dev has is there under any rules.
    let ordinary = bundle.runtime(&["exec", &bundle.id, program, "cat", "/dev/null"])?;
    ensure!(ordinary.code == 0, "{ordinary:?}");
    let said = bundle.runtime(&["exec", &bundle.id, program, "cat", "/dev/wisp-none"])?.stderr;
    match (
        said.contains("No such device") || said.contains("I/O error"),
        said.contains("ermission denied") || said.contains("not permitted"),
    ) {
        (true, false) => Ok(true),
        (false, true) => Ok(false),
        _ => anyhow::bail!("{program}: {said}"),
    }
}

fn device_rules_hold_wasm_and_native_programs() -> Outcome {
    for program in ["/rust-0.1.wasm", "/native"] {
        let rule = |access| [json!({"allow": true, "type": "c", "major": NUMBERS.0, "access": access})];
        ensure!(!opens(&[], program)?, "{program} opened a device without a rule");
        ensure!(!opens(&rule("wm"), program)?, "{program} opened a device by a rule for another access");
        ensure!(opens(&rule("r"), program)?, "{program} did not open a device that a rule allows");
    }
    Ok(())
}

fn a_device_rule_that_makes_no_sense_is_refused_with_a_sentence() -> Outcome {
    let mut bundle = unified()?;
    bundle.spec["linux"]["resources"]["devices"] = json!([{"allow": true, "type": "c", "access": "rx"}]);
    let error = bundle.create().err().context("created")?.to_string();
    ensure!(error.contains("expected letters of rwm"), "{error}");
    ensure!(!groups(&bundle)?.exists(), "the refused container's group is still there");
    Ok(())
}

/// The container's group.
fn groups(bundle: &Bundle) -> Result<std::path::PathBuf> {
    let mounted = fs::read_to_string("/proc/self/mountinfo")?;
    let mount =
        mounted.lines().find(|line| line.contains(" - cgroup2 ")).context("no version 2 hierarchy")?;
    let root = mount.split(' ').nth(4).context("mountinfo")?;
    Ok(std::path::Path::new(root).join(&bundle.id).join(&bundle.id))
}

fn a_container_lives_and_ends_in_a_hierarchy_of_version_2() -> Outcome {
    let bundle = unified()?;
    start(&bundle)?;
    bundle.runtime(&["pause", &bundle.id])?.success()?;
    ensure!(bundle.status()? == "paused");
    bundle.runtime(&["resume", &bundle.id])?.success()?;
    let event: Value = serde_json::from_str(&bundle.runtime(&["events", "--stats", &bundle.id])?.success()?)?;
    let total = event["data"]["cpu"]["usage"]["total"].as_u64();
    ensure!(total.is_some_and(|time| time > 0), "without controllers and pressure: {event}");
    ensure!(groups(&bundle)?.exists(), "no group at {}", groups(&bundle)?.display());
    bundle.runtime(&["delete", "--force", &bundle.id])?.success()?;
    ensure!(!groups(&bundle)?.exists(), "the group is still there");
    Ok(())
}
