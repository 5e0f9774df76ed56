//! The node on this machine: its kernel and its version of control groups, in the cluster's space.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::kube::PATIENCE;
use crate::kube::cluster::{ADDRESS, ADDRESS6, Cluster};
use crate::kube::config::{CONTAINERD, Shape};
use crate::kube::eventually;
use crate::kube::node::{self, Node, Service};
use crate::leaks;
use crate::process::{self, Finished};

/// What is particular to it. What a test's root may lack on this machine: it may not lower scores for the OOM killer.
const SHAPE: Shape = Shape {
    name: "host",
    addresses: &[ADDRESS, ADDRESS6],
    pods: &["10.88.0.0/22", "fd88::/64"],
    systemd: false,
    lowers_scores: false,
    local_pull: false,
};

/// kubelet's name among the cluster's servers.
const KUBELET: &str = "kubelet";
/// When kubelet is started again that has ended: systemd's `RestartSec`.
const RESTART: Duration = Duration::from_secs(1);

/// The node.
#[derive(Debug, Clone)]
pub struct Host {
    cluster: Arc<Cluster>,
    folder: PathBuf,
}

impl Host {
    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// One sentence with what is missing or did not start.
    pub fn join(cluster: Arc<Cluster>) -> Result<Self> {
        let folder = cluster.folder.join("host");
        node::install(&folder.join("programs"))?;
        let seen = folder.display().to_string();
        let root = format!("/{}", cluster.name);
        make_control_groups(&cluster.name)?;
        node::configure(SHAPE, &folder, &format!("{seen}/programs"), &seen, Some(&root))?;
        fs::create_dir_all(cluster.folder.join("var/lib/kubelet/manifests"))?;
        let host = Self { cluster, folder };
        host.start(Service::Containerd)?;
        host.start(Service::Kubelet)?;
        host.watch_kubelet();
        host.cluster.until_node_ready(SHAPE.name)?;
        Ok(host)
    }

    fn command(&self, name: &str) -> Command {
        let mut command = self.cluster.space.command(self.folder.join("programs/bin").join(name));
        let bin = self.folder.join("programs/bin");
        command.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bin.display()));
        command
    }

    fn start_containerd(&self) -> Result<()> {
        let mut containerd = self.command("containerd");
        containerd.arg("--config").arg(self.folder.join("containerd.toml"));
        self.cluster.servers.start("containerd", containerd)?;
        eventually("containerd answers", || {
            self.cluster.servers.require("containerd")?;
            let mut ctr = self.command("ctr");
            let asked = process::run(ctr.args(["--address", CONTAINERD, "version"]), PATIENCE)?;
            Ok((asked.code == 0).then_some(()))
        })
    }

    fn kubelet(&self) -> Command {
        let mut kubelet = self.command("kubelet");
        kubelet.arg("--config").arg(self.folder.join("kubelet.yaml"));
        kubelet.arg("--kubeconfig").arg(self.folder.join("kubeconfig"));
        kubelet.args(["--node-ip", &SHAPE.addresses.join(","), "--hostname-override", SHAPE.name, "-v=2"]);
        kubelet
    }

    fn start_kubelet(&self) -> Result<()> {
        self.cluster.servers.start(KUBELET, self.kubelet())
    }

    /// Sees to it that kubelet runs, as systemd does on a node: 1.37 panics where it asks for the figures of a pod whose last network
    /// interface is just gone, with the gate that the tests need on.
    fn watch_kubelet(&self) {
        let host = self.clone();
        thread::spawn(move || {
            loop {
                thread::sleep(RESTART);
                // What does not start is told of by whoever waits for it.
                let _ = host.cluster.servers.revive(KUBELET, || host.kubelet());
            }
        });
    }
}

impl Node for Host {
    fn name(&self) -> &'static str {
        SHAPE.name
    }

    fn shell(&self, script: &str) -> Result<Finished> {
        let mut shell = self.cluster.space.command("sh");
        let bin = self.folder.join("programs/bin");
        shell.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bin.display()));
        process::run(shell.args(["-c", script]), PATIENCE)
    }

    fn control_groups(&self) -> String {
        let top = if leaks::has_cgroup_v1() { "/sys/fs/cgroup/*" } else { "/sys/fs/cgroup" };
        format!("{top}/{}/kubepods", self.cluster.name)
    }

    /// Of the machine's processes only those that are the cluster's.
    fn inventory(&self) -> Result<BTreeSet<String>> {
        let lines =
            self.shell(&node::INVENTORY.replace("CONTROL-GROUPS", &self.control_groups()))?.success()?;
        let processes: BTreeSet<_> =
            leaks::processes(&self.cluster.name).into_iter().map(|process| process.pid.to_string()).collect();
        let ours = |line: &&str| {
            line.starts_with(char::is_alphabetic)
                || line.starts_with('/')
                || line.split_whitespace().next().is_some_and(|pid| processes.contains(pid))
        };
        Ok(lines.lines().filter(ours).map(str::to_owned).collect())
    }

    fn reboot(&self) -> Result<()> {
        bail!("node {} is the machine that the tests run on", SHAPE.name)
    }

    fn stop(&self, service: Service, signal: Signal) -> Result<()> {
        self.cluster.servers.stop(service.name(), signal)
    }

    fn start(&self, service: Service) -> Result<()> {
        match service {
            Service::Containerd => self.start_containerd(),
            Service::Kubelet => self.start_kubelet(),
        }
    }
}

/// kubelet wants its root to exist; version 1 wants processors in it before any process comes.
fn make_control_groups(name: &str) -> Result<()> {
    let top = Path::new("/sys/fs/cgroup");
    if !leaks::has_cgroup_v1() {
        fs::create_dir_all(top.join(name))?;
        let all = fs::read_to_string(top.join("cgroup.controllers"))?;
        let on: Vec<_> = all.split_whitespace().map(|controller| format!("+{controller}")).collect();
        return fs::write(top.join("cgroup.subtree_control"), on.join(" ")).context("giving out controllers");
    }
    for hierarchy in fs::read_dir(top)?.flatten() {
        let group = hierarchy.path().join(name);
        // Some are links, or take no groups of ours.
        let _ = fs::create_dir(&group);
        for file in ["cpuset.cpus", "cpuset.mems"].iter().filter(|file| group.join(file).exists()) {
            fs::write(group.join(file), fs::read(hierarchy.path().join(file))?)?;
        }
    }
    Ok(())
}
