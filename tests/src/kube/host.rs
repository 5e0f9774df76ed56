//! A node on this machine: its kernel and its version of control groups, in the cluster's space or in one of its own.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::cri::Cri;
use crate::kube::PATIENCE;
use crate::kube::cluster::{ADDRESS, ADDRESS6, Cluster};
use crate::kube::config::{CONTAINERD, NEWEST, Shape};
use crate::kube::eventually;
use crate::kube::node::{self, Node, Service};
use crate::kube::server::Servers;
use crate::leaks::{self, Process};
use crate::process::{self, Finished};
use crate::space::Space;

/// What is particular to the first. What a test's root may lack on this machine: it may not lower scores for the OOM killer.
const SHAPE: Shape = Shape {
    name: "host",
    containerd: NEWEST,
    addresses: &[ADDRESS, ADDRESS6],
    pods: &["10.88.0.0/22", "fd88::/64"],
    systemd: false,
    lowers_scores: false,
    local_pull: false,
    figures: true,
    of_one_case: false,
};

/// kubelet's name among the cluster's servers.
const KUBELET: &str = "kubelet";
/// When kubelet is started again that has ended: systemd's `RestartSec`.
const RESTART: Duration = Duration::from_secs(1);

/// A node on this machine.
#[derive(Debug, Clone)]
pub struct Host {
    /// What is particular to it.
    pub(super) shape: Shape,
    /// What its processes and control groups are marked with.
    pub(super) name: String,
    /// The namespaces that it runs in.
    pub(super) space: Space,
    /// Where its servers are.
    pub(super) servers: Arc<Servers>,
    /// The folder of its programs and configuration.
    pub(super) folder: PathBuf,
    /// Its cluster.
    pub(super) cluster: Arc<Cluster>,
}

impl Host {
    /// Starts the one that is in the cluster's own space, and waits until it is ready.
    ///
    /// # Errors
    /// One sentence with what is missing or did not start.
    pub fn join(cluster: Arc<Cluster>) -> Result<Self> {
        let host = Self {
            shape: SHAPE,
            name: cluster.name.clone(),
            space: cluster.space.clone(),
            servers: Arc::clone(&cluster.servers),
            folder: cluster.folder.join("host"),
            cluster,
        };
        host.set_up()?;
        host.watch_kubelet();
        host.cluster.until_node_ready(host.shape.name)?;
        Ok(host)
    }

    /// Puts its programs and configuration in their place, and starts its servers.
    pub(super) fn set_up(&self) -> Result<()> {
        node::install(&self.programs(), self.shape.containerd)?;
        make_control_groups(&self.name)?;
        self.configure()?;
        self.space.inside(|| Ok(fs::create_dir_all("/var/lib/kubelet/manifests")?))?;
        self.start(Service::Containerd)?;
        self.start(Service::Kubelet)
    }

    /// Writes the configuration for its shape.
    pub(super) fn configure(&self) -> Result<()> {
        let (programs, seen) = (self.programs().display().to_string(), self.folder.display().to_string());
        node::configure(self.shape, &self.folder, &programs, &seen, Some(&format!("/{}", self.name)))
    }

    /// Its processes, those of its pods too.
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        leaks::processes(&self.name)
    }

    /// Where its programs are.
    pub(super) fn programs(&self) -> PathBuf {
        self.folder.join("programs")
    }

    fn command(&self, name: &str) -> Command {
        let bin = self.programs().join("bin");
        let mut command = self.space.command(bin.join(name));
        command.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bin.display()));
        command
    }

    fn start_containerd(&self) -> Result<()> {
        let mut containerd = self.command("containerd");
        containerd.arg("--config").arg(self.folder.join("containerd.toml"));
        self.servers.start("containerd", containerd)?;
        eventually("containerd answers", || {
            self.servers.require("containerd")?;
            let mut ctr = self.command("ctr");
            let asked = process::run(ctr.args(["--address", CONTAINERD, "version"]), PATIENCE)?;
            Ok((asked.code == 0).then_some(()))
        })
    }

    fn kubelet(&self) -> Command {
        let mut kubelet = self.command("kubelet");
        kubelet.arg("--config").arg(self.folder.join("kubelet.yaml"));
        kubelet.arg("--kubeconfig").arg(self.folder.join("kubeconfig"));
        kubelet.args([
            "--node-ip",
            &self.shape.addresses.join(","),
            "--hostname-override",
            self.shape.name,
            "-v=2",
        ]);
        kubelet
    }

    fn start_kubelet(&self) -> Result<()> {
        self.servers.start(KUBELET, self.kubelet())
    }

    /// Sees to it that kubelet runs, as systemd does on a node: 1.37 panics where it asks for the figures of a pod whose last network
    /// interface is just gone, with the gate that the tests need on.
    fn watch_kubelet(&self) {
        let host = self.clone();
        thread::spawn(move || {
            loop {
                thread::sleep(RESTART);
                // What does not start is told of by whoever waits for it.
                let _ = host.servers.revive(KUBELET, || host.kubelet());
            }
        });
    }
}

impl Node for Host {
    fn name(&self) -> &'static str {
        self.shape.name
    }

    fn shell(&self, script: &str) -> Result<Finished> {
        let mut shell = self.space.command("sh");
        let bin = self.programs().join("bin");
        shell.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bin.display()));
        process::run(shell.args(["-c", script]), PATIENCE)
    }

    fn control_groups(&self) -> String {
        let top = if leaks::has_cgroup_v1() { "/sys/fs/cgroup/*" } else { "/sys/fs/cgroup" };
        format!("{top}/{}/kubepods", self.name)
    }

    fn logs(&self) -> String {
        self.servers.logs().display().to_string()
    }

    fn cri(&self) -> Result<Cri> {
        self.space.inside(|| Cri::connect(Path::new(CONTAINERD)))
    }

    /// Of the machine's processes only those that are the cluster's.
    fn inventory(&self) -> Result<BTreeSet<String>> {
        let lines =
            self.shell(&node::INVENTORY.replace("CONTROL-GROUPS", &self.control_groups()))?.success()?;
        let processes: BTreeSet<_> =
            self.processes().into_iter().map(|process| process.pid.to_string()).collect();
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
        self.servers.stop(service.name(), signal)
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
