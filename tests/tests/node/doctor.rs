//! `wisp doctor` on nodes that are well and on nodes that are not.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use wisp_tests::machine::{CONFIG, Machine};
use wisp_tests::suite::Case;
use wisp_tests::{Outcome, cases};

pub(crate) const CASES: &[Case] = cases![Once:
    a_node_without_wisp_is_told_what_to_do,
    a_node_with_wisp_is_well,
    a_handler_in_the_wrong_table_is_found,
    a_sandboxer_that_containerd_does_not_bear_is_found,
    a_file_that_containerd_has_not_read_yet_is_found,
    cgroup_drivers_that_disagree_are_found,
    a_missing_program_is_found,
    images_for_wasm_are_warned_of_only_where_they_are_not_unpacked,
];

/// What doctor found of one check, and how it is; and its exit code.
fn finding(machine: &Machine, check: &str) -> Result<(String, String, i32)> {
    let said = machine.wisp(&["doctor", "--json"])?;
    let report: Value = serde_json::from_str(&said.stdout).with_context(|| format!("{said:?}"))?;
    ensure!(report["healthy"] == (said.code == 0), "{said:?}");
    let mut findings = report["findings"].as_array().into_iter().flatten();
    let found = findings.find(|finding| finding["check"] == check).with_context(|| format!("{report:#}"))?;
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    Ok((text("state"), format!("{}; {}", text("found"), text("cure")), said.code))
}

fn expect(machine: &Machine, check: &str, state: &str, words: &str) -> Outcome {
    let (is, found, code) = finding(machine, check)?;
    ensure!(is == state && found.contains(words), "{check} is {is}: {found}");
    ensure!(state != "failed" || code == 1, "exit code {code}");
    Ok(())
}

fn a_node_without_wisp_is_told_what_to_do() -> Outcome {
    let machine = Machine::start("2.4", CONFIG, &[(CONFIG, "version = 3\n")])?;
    expect(&machine, "programs", "failed", "containerd-shim-wisp-v1 is not on containerd's PATH")?;
    expect(&machine, "handler", "failed", "none called wisp (it has runc); run `wisp install`")?;
    expect(&machine, "image pull", "warning", "set use_local_image_pull = true")
}

fn a_node_with_wisp_is_well() -> Outcome {
    for version in ["1.6", "1.7", "2.2", "2.4"] {
        let machine = Machine::start(version, CONFIG, &[(CONFIG, "version = 2\n")])?;
        machine.install(&[])?.success()?;
        let said = machine.wisp(&["doctor"])?;
        ensure!(said.code == 0 && !said.stdout.contains("FAILED"), "{said:?}");
        expect(&machine, "handler", "ok", if version == "2.4" { "sandboxer shim" } else { "podsandbox" })?;
        expect(&machine, "runc", "ok", "/runc")?;
    }
    Ok(())
}

fn a_handler_in_the_wrong_table_is_found() -> Outcome {
    let handler = |plugin: &str| {
        format!("[plugins.'{plugin}'.containerd.runtimes.wisp]\nruntime_type = 'io.containerd.wisp.v1'\n")
    };
    let v2 = format!("version = 2\n{}", handler("io.containerd.cri.v1.runtime"));
    let machine = Machine::start("1.7", CONFIG, &[(CONFIG, &v2)])?;
    expect(
        &machine,
        "handler",
        "failed",
        "move it to [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.wisp]",
    )?;
    let v3 = format!("version = 3\n{}", handler("io.containerd.grpc.v1.cri"));
    let machine = Machine::start("2.2", CONFIG, &[(CONFIG, &v3)])?;
    expect(
        &machine,
        "handler",
        "failed",
        "move it to [plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.wisp]",
    )
}

fn a_sandboxer_that_containerd_does_not_bear_is_found() -> Outcome {
    let text = "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.wisp]\n\
                runtime_type = 'io.containerd.wisp.v1'\nsandboxer = 'shim'\n";
    let machine = Machine::start("2.2", CONFIG, &[(CONFIG, text)])?;
    expect(&machine, "handler", "failed", "crashes with the first such pod on the host's network")
}

fn a_file_that_containerd_has_not_read_yet_is_found() -> Outcome {
    let machine = Machine::start("2.4", CONFIG, &[(CONFIG, "version = 3\n")])?;
    machine.wisp(&["install", "--no-restart"])?.success()?;
    // Of a time that is past the start whatever the grain of clocks is.
    machine.run("/usr/bin/touch", &["--date=+1 hour", CONFIG])?.success()?;
    expect(
        &machine,
        "configuration",
        "warning",
        "has changed since containerd was started; restart containerd",
    )
}

fn cgroup_drivers_that_disagree_are_found() -> Outcome {
    let kubelet = ("/var/lib/kubelet/config.yaml", "kind: KubeletConfiguration\ncgroupDriver: systemd\n");
    let machine = Machine::start("2.4", CONFIG, &[(CONFIG, "version = 3\n"), kubelet])?;
    expect(&machine, "cgroups", "warning", "kubelet's driver is systemd")
}

fn a_missing_program_is_found() -> Outcome {
    let machine = Machine::start("2.4", CONFIG, &[(CONFIG, "version = 3\n")])?;
    machine.install(&[])?.success()?;
    machine.run("/bin/rm", &["/usr/local/libexec/wisp/wisp-guest"])?.success()?;
    expect(&machine, "programs", "failed", "wisp-guest is not beside")
}

fn images_for_wasm_are_warned_of_only_where_they_are_not_unpacked() -> Outcome {
    let machine = Machine::start("2.2", CONFIG, &[(CONFIG, "version = 3\n")])?;
    let said = machine.wisp(&["doctor", "--json"])?.stdout;
    let report: Value = serde_json::from_str(&said)?;
    let mut findings = report["findings"].as_array().into_iter().flatten();
    ensure!(findings.all(|finding| finding["check"] != "image pull"), "{report:#}");
    let local =
        "version = 3\n[plugins.'io.containerd.cri.v1.images']\nuse_local_image_pull = true\n".to_owned();
    let machine = Machine::start("2.4", CONFIG, &[(CONFIG, &local)])?;
    expect(&machine, "image pull", "ok", "every platform")
}
