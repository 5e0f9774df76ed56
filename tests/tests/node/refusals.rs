//! What `wisp install` refuses, each time with one sentence and nothing changed.

use anyhow::ensure;
use wisp_tests::machine::{CONFIG, Machine};
use wisp_tests::suite::Case;
use wisp_tests::{Outcome, cases};

pub(crate) const CASES: &[Case] = cases![Once:
    a_containerd_without_cri_is_refused,
    a_handler_of_another_kind_is_refused,
    a_folder_that_is_not_on_the_path_is_refused,
    a_containerd_that_nobody_can_restart_is_refused,
    a_file_that_cannot_be_extended_is_refused,
    the_shim_as_sandbox_is_refused_before_2_3,
];

/// Requires that an install with these arguments fails with these words, in a line, and changes nothing.
fn refused(version: &'static str, text: &str, arguments: &[&str], words: &str) -> Outcome {
    let machine = Machine::start(version, CONFIG, &[(CONFIG, text)])?;
    let (before, pid) = (machine.tree("/etc")?, machine.pid()?);
    let said = machine.wisp(&[&["install"], arguments].concat())?;
    ensure!(said.code == 1 && said.stderr.contains(words), "{said:?}");
    ensure!(said.stderr.trim_end().lines().count() == 1, "more than a sentence: {}", said.stderr);
    ensure!(machine.tree("/etc")? == before && machine.pid()? == pid, "something has changed");
    ensure!(machine.run("/usr/bin/find", &["/usr/local", "-type", "f"])?.success()?.is_empty());
    Ok(())
}

fn a_containerd_without_cri_is_refused() -> Outcome {
    let text = "disabled_plugins = [\"cri\"]\n";
    refused("1.7", text, &["--restart-command", "true"], "disables containerd's CRI plugin")
}

fn a_handler_of_another_kind_is_refused() -> Outcome {
    let text = "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.wisp]\nruntime_type = 'io.containerd.runc.v2'\n";
    refused(
        "2.2",
        text,
        &["--restart-command", "true"],
        "has a handler wisp of another kind (io.containerd.runc.v2)",
    )
}

fn a_folder_that_is_not_on_the_path_is_refused() -> Outcome {
    let arguments = ["--restart-command", "true", "--bin-dir", "/opt/elsewhere"];
    refused("2.4", "version = 3\n", &arguments, "/opt/elsewhere is not on containerd's PATH")
}

fn a_containerd_that_nobody_can_restart_is_refused() -> Outcome {
    refused("2.4", "version = 3\n", &[], "say how it is restarted with --restart-command")
}

fn a_file_that_cannot_be_extended_is_refused() -> Outcome {
    let arguments = ["--restart-command", "true"];
    refused("2.4", "version = 3\nplugins = {}\n", &arguments, "write its `plugins` as [tables]")
}

fn the_shim_as_sandbox_is_refused_before_2_3() -> Outcome {
    let arguments = ["--restart-command", "true", "--sandboxer", "shim"];
    refused("2.2", "version = 2\n", &arguments, "does not bear every pod under the sandboxer shim")
}
