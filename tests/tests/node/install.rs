//! What an install does beside the handler: programs, running tasks, rolling back.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use wisp_tests::image::Image;
use wisp_tests::machine::{self, CONFIG, Machine, RESTART};
use wisp_tests::suite::Case;
use wisp_tests::{Outcome, cases, process, site};

use crate::kind;

pub(crate) const CASES: &[Case] = cases![Once:
    a_wasm_task_runs_after_an_install,
    running_tasks_survive_an_install_and_an_uninstall,
    an_install_that_containerd_does_not_survive_is_rolled_back,
    an_upgrade_replaces_programs_and_restarts_nothing,
    an_install_from_a_container_reaches_the_node,
    the_installers_image_installs_and_outlives_the_restart,
    an_uninstall_waits_for_pods,
    an_uninstall_keeps_what_others_wrote_since,
    a_node_can_be_prepared_before_containerd_runs,
];

const PLAIN: &str = "version = 2\n";

fn guests() -> Result<Image> {
    let image =
        Image::new("wisp.test/node:1").config("Entrypoint", json!(["/rust-0.1.wasm"])).folder("/tmp", 0o1777);
    Ok(image
        .file_of("/rust-0.1.wasm", site::guest("rust-0.1.wasm")?)
        .file_of("/native", site::guest("native")?))
}

/// A node whose configuration says more than that of the others.
fn node_of_kind() -> Result<Machine> {
    Machine::start("2.2", CONFIG, &[(CONFIG, &kind::config()?), kind::BASE])
}

/// Runs a native program that goes on for as long as the case may take.
fn run_for_long(machine: &Machine, runtime: &str) -> Outcome {
    machine.import(&guests()?)?;
    let run =
        ["run", "--detach", "--runtime", runtime, "wisp.test/node:1", "stays", "/native", "sleep", "600"];
    machine.ctr(&run)?.success().map(drop)
}

fn a_wasm_task_runs_after_an_install() -> Outcome {
    for version in ["1.6", "2.4"] {
        let machine = Machine::start(version, CONFIG, &[(CONFIG, PLAIN)])?;
        machine.install(&[])?.success()?;
        machine.import(&guests()?)?;
        let runtime = ["run", "--rm", "--runtime", "io.containerd.wisp.v1"];
        let said =
            machine.ctr(&[&runtime[..], &["wisp.test/node:1", "one", "/rust-0.1.wasm", "hello"]].concat())?;
        ensure!(said.clone().success()?.contains("hello from Rust"), "{said:?}");
    }
    Ok(())
}

fn running_tasks_survive_an_install_and_an_uninstall() -> Outcome {
    let machine = Machine::start("2.4", CONFIG, &[(CONFIG, PLAIN)])?;
    run_for_long(&machine, "io.containerd.runc.v2")?;
    let tasks = || machine.ctr(&["task", "ls"])?.success();
    let before = tasks()?;
    ensure!(before.contains("RUNNING"), "{before}");
    machine.install(&[])?.success()?;
    ensure!(tasks()? == before, "after an install: {}", tasks()?);
    machine.install(&["--uninstall"])?.success()?;
    ensure!(tasks()? == before, "after an uninstall: {}", tasks()?);
    machine.ctr(&["task", "kill", "--signal", "KILL", "stays"])?.success().map(drop)
}

fn an_install_that_containerd_does_not_survive_is_rolled_back() -> Outcome {
    let machine = node_of_kind()?;
    let before = machine.tree("/etc")?;
    // containerd does not come while the handler is in its file.
    let script = "while grep -q runtimes.wisp /etc/containerd/config.toml; do sleep 0.1; done\n";
    machine::before_next_start(&machine, script)?;
    let failed = machine.install(&["--timeout", "3"])?;
    ensure!(failed.code == 1, "{failed:?}");
    let sentence = "the change was rolled back, and containerd runs as before";
    ensure!(failed.stderr.contains(sentence) && failed.stderr.lines().count() == 1, "{}", failed.stderr);
    ensure!(machine.tree("/etc")? == before, "something is left in /etc");
    ensure!(machine.run("/usr/bin/find", &["/usr/local", "-type", "f"])?.success()?.is_empty());
    ensure!(machine.ctr(&["version"])?.code == 0, "containerd does not answer: {}", machine.log());
    Ok(())
}

fn an_upgrade_replaces_programs_and_restarts_nothing() -> Outcome {
    let machine = Machine::start("2.4", CONFIG, &[(CONFIG, PLAIN)])?;
    machine.install(&[])?.success()?;
    let pid = machine.pid()?;
    // An older program is one of other bytes.
    machine.run("/bin/sh", &["-c", "echo older >>/usr/local/bin/wisp-runtime"])?.success()?;
    let again = machine.install(&[])?.success()?;
    ensure!(
        again.contains("wrote /usr/local/bin/wisp-runtime") && again.matches("wrote").count() == 1,
        "{again}"
    );
    ensure!(machine.pid()? == pid, "containerd was restarted");
    machine
        .run("/usr/bin/cmp", &["/usr/local/bin/wisp-runtime", "/opt/wisp/bin/wisp-runtime"])?
        .success()
        .map(drop)
}

fn an_install_from_a_container_reaches_the_node() -> Outcome {
    let machine = node_of_kind()?;
    let root = format!("/proc/{}/root", machine.pid()?);
    let mut command = std::process::Command::new(site::binary("wisp")?);
    command.args(["install", "--root", &root, "--restart-command", RESTART]);
    process::run(&mut command, machine::LIMIT)?.success()?;
    let text = machine.file(CONFIG).context("no configuration")?;
    ensure!(text.contains("runtimes.wisp]"), "{text}");
    machine.run("/usr/local/bin/wisp", &["--version"])?.success()?;
    let mut command = std::process::Command::new(site::binary("wisp")?);
    let root = format!("/proc/{}/root", machine.pid()?);
    command.args(["install", "--uninstall", "--root", &root, "--restart-command", RESTART]);
    process::run(&mut command, machine::LIMIT)?.success()?;
    ensure!(machine.file(CONFIG) == Some(kind::config()?));
    Ok(())
}

fn the_installers_image_installs_and_outlives_the_restart() -> Outcome {
    let machine = Machine::start("2.4", CONFIG, &[(CONFIG, PLAIN)])?;
    let copy = "mkdir -p /tmp/image/usr/local && cp -r /opt/wisp/. /tmp/image/usr/local/";
    machine.run("/bin/sh", &["-c", copy])?.success()?;
    let archive = "/var/installer.tar";
    machine.wisp(&["installer-image", "--name", "wisp-installer:1", "/tmp/image", archive])?.success()?;
    machine.ctr(&["images", "import", archive])?.success()?;
    let root = format!("/proc/{}/root", machine.pid()?);
    // The node's processes, as a pod with hostPID sees them.
    let processes = format!("pid:/proc/{}/ns/pid", machine.pid()?);
    let run = [
        "run",
        "--detach",
        "--privileged",
        "--with-ns",
        &processes,
        "--log-uri",
        "file:///var/log/installer",
    ];
    let install = ["/usr/local/bin/wisp", "install", "--stay", "--root", &root, "--restart-command", RESTART];
    machine.ctr(&[&run[..], &["wisp-installer:1", "installer"], &install].concat())?.success()?;
    wisp_tests::bed::eventually("the installer says that it is done", machine::LIMIT, || {
        let said = machine.file("/var/log/installer").unwrap_or_default();
        ensure!(!said.contains("wisp: "), "{said}");
        Ok(said.contains("done; staying until SIGTERM").then_some(()))
    })?;
    ensure!(machine.file(CONFIG).is_some_and(|text| text.contains("runtimes.wisp]")));
    ensure!(machine.ctr(&["task", "ls"])?.success()?.contains("RUNNING"), "it did not stay");
    machine.ctr(&["task", "kill", "installer"])?.success()?;
    wisp_tests::bed::eventually("it ends on SIGTERM", machine::LIMIT, || {
        Ok(machine.ctr(&["task", "ls"])?.success()?.contains("STOPPED").then_some(()))
    })
}

fn an_uninstall_waits_for_pods() -> Outcome {
    let machine = Machine::start("2.4", CONFIG, &[(CONFIG, PLAIN)])?;
    machine.install(&[])?.success()?;
    run_for_long(&machine, "io.containerd.wisp.v1")?;
    let refused = machine.install(&["--uninstall"])?;
    ensure!(refused.code == 1 && refused.stderr.contains("drain the node first"), "{refused:?}");
    ensure!(
        machine.file(CONFIG).is_some_and(|text| text.contains("runtimes.wisp")),
        "it was taken back all the same"
    );
    machine.ctr(&["task", "delete", "--force", "stays"])?.success()?;
    wisp_tests::bed::eventually("the shim has gone", machine::LIMIT, || {
        Ok((machine.install(&["--uninstall"])?.code == 0).then_some(()))
    })?;
    ensure!(machine.file(CONFIG).as_deref() == Some(PLAIN));
    Ok(())
}

fn an_uninstall_keeps_what_others_wrote_since() -> Outcome {
    let machine = Machine::start("2.4", CONFIG, &[(CONFIG, PLAIN)])?;
    machine.install(&[])?.success()?;
    machine
        .run("/bin/sh", &["-c", &format!("printf '[debug]\\n  level = \"info\"\\n' >>{CONFIG}")])?
        .success()?;
    let said = machine.install(&["--uninstall"])?.success()?;
    ensure!(said.contains("has other changes since the install"), "{said}");
    let text = machine.file(CONFIG).context("no configuration")?;
    ensure!(text == "version = 2\n[debug]\n  level = \"info\"\n", "{text}");
    Ok(())
}

fn a_node_can_be_prepared_before_containerd_runs() -> Outcome {
    let machine = Machine::new("2.4", CONFIG, &[(CONFIG, PLAIN)])?;
    let refused = machine.install(&[])?;
    ensure!(
        refused.code == 1 && refused.stderr.contains("prepare its files with --no-restart"),
        "{refused:?}"
    );
    machine.wisp(&["install", "--no-restart"])?.success()?;
    machine.boot()?;
    ensure!(machine.dump()?.contains("runtime_type = \"io.containerd.wisp.v1\""));
    machine.wisp(&["doctor"])?.success().map(drop)
}
