//! The node as production's are, with systemd and version 2 of control groups: Debian under User Mode Linux, whose kernel is a
//! process in the cluster's space. It has one CPU and is slow: for what is right, never for how fast.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::cri::Cri;
use crate::kube::PATIENCE;
use crate::kube::cluster::{Cluster, WIRE};
use crate::kube::config::{CONTAINERD, NEWEST, Shape};
use crate::kube::eventually;
use crate::kube::node::{self, Node, Service};
use crate::process::{self, Finished};
use crate::site;

/// What is particular to it.
const ADDRESS: &str = "192.168.77.2";
const ADDRESS6: &str = "fd77::2";
/// Its root, as ssh is told.
const HOST: &str = "root@192.168.77.2";
/// The name of the connection to it among the cluster's servers.
const CONNECTION: &str = "ssh";
const PODS: &str = "10.88.4.0/22";
const PODS6: &str = "fd88:0:0:4::/64";
const SHAPE: Shape = Shape {
    name: "uml",
    containerd: NEWEST,
    addresses: &[ADDRESS, ADDRESS6],
    pods: &[PODS, PODS6],
    systemd: true,
    lowers_scores: true,
    local_pull: true,
    figures: true,
    of_one_case: false,
};

/// Where it sees the folder that it shares with this machine, and where its programs are.
const SHARED: &str = "/host";
const PROGRAMS: &str = "/opt/bed";

/// The services of the node, as packages bring them; but that they log to files: the journal takes too much of the processor.
const CONTAINERD_UNIT: &str = "[Unit]\nRequiresMountsFor=/host\nAfter=network.target\n\
    [Service]\nEnvironment=PATH=/opt/bed/bin:/usr/sbin:/usr/bin:/sbin:/bin GOGC=400\n\
    ExecStart=/opt/bed/bin/containerd --config /host/containerd.toml\n\
    Type=notify\nDelegate=yes\nKillMode=process\nRestart=always\nRestartSec=1\nLimitNOFILE=infinity\nTasksMax=infinity\nOOMScoreAdjust=-999\n\
    StandardOutput=append:/host/containerd.log\nStandardError=inherit\n\
    [Install]\nWantedBy=multi-user.target\n";
const KUBELET_UNIT: &str = "[Unit]\nRequiresMountsFor=/host\nAfter=containerd.service\n\
    [Service]\nEnvironment=GOGC=400\nExecStartPre=/host/before-kubelet\n\
    ExecStart=/opt/bed/bin/kubelet --config=/host/kubelet.yaml --kubeconfig=/host/kubeconfig --node-ip=ADDRESSES --hostname-override=uml -v=2\n\
    Restart=always\nRestartSec=1\n\
    StandardOutput=append:/host/kubelet.log\nStandardError=inherit\n\
    [Install]\nWantedBy=multi-user.target\n";

/// kubelet reads the clock rate of the processors, which this kernel does not tell; and what is not here is behind the other end of
/// the wire: pods of the other node, and Services, since this kernel has no NAT for a kube-proxy of its own.
const BEFORE_KUBELET: &str = "#!/bin/sh -e\n\
    ip route replace 10.88.0.0/22 via 192.168.77.1\n\
    ip address replace fd77::2/64 dev vec0 nodad\n\
    ip -6 route replace default via fd77::1\n\
    grep -q 'cpu MHz' /proc/cpuinfo && exit\n\
    cp /proc/cpuinfo /run/cpuinfo && echo 'cpu MHz : 1000.000' >>/run/cpuinfo && mount --bind /run/cpuinfo /proc/cpuinfo\n";

/// Its one processor is what its cases wait for; those of the other node have what it leaves.
const PRIORITY: &str = "-10";

/// How long it may take to power off: systemd gives each service that does not end 90 seconds.
const TO_POWER_OFF: Duration = Duration::from_secs(240);

/// Copies the programs and starts the services.
const JOIN: &str = "set -e; mkdir -p /opt/bed /var/lib/kubelet/manifests; cp -a /host/programs/. /opt/bed/; cp /host/*.service /etc/systemd/system/; sync; \
    systemctl daemon-reload; systemctl enable --now containerd kubelet";

/// The node.
#[derive(Debug)]
pub struct Uml {
    cluster: Arc<Cluster>,
    folder: PathBuf,
}

impl Uml {
    /// Boots it and waits until it is ready.
    ///
    /// # Errors
    /// One sentence with what is missing or did not start.
    pub fn join(cluster: Arc<Cluster>) -> Result<Self> {
        let folder = cluster.folder.join("uml");
        let shared = folder.join("shared");
        node::install(&shared.join("programs"), SHAPE.containerd)?;
        node::configure(SHAPE, &shared, PROGRAMS, SHARED, None)?;
        fs::write(shared.join("containerd.service"), CONTAINERD_UNIT)?;
        let kubelet = KUBELET_UNIT.replace("ADDRESSES", &SHAPE.addresses.join(","));
        fs::write(shared.join("kubelet.service"), kubelet)?;
        node::write_script(&shared.join("before-kubelet"), BEFORE_KUBELET)?;
        let node = Self { cluster, folder };
        node.boot()?;
        node.shell(JOIN)?.success().context("starting the services of node uml")?;
        node.cluster.space.ip(&["route", "replace", PODS, "via", ADDRESS])?;
        node.cluster.space.ip(&["-6", "route", "replace", PODS6, "via", ADDRESS6])?;
        node.cluster.until_node_ready(SHAPE.name)?;
        Ok(node)
    }

    fn boot(&self) -> Result<()> {
        let disk = site::node("disk.raw")?;
        let changes = self.folder.join("changes");
        let mut linux = self.cluster.space.command("nice");
        linux.args(["-n", PRIORITY, "taskset", "--cpu-list", &last_processor()?]).arg(site::node("linux")?);
        linux.env("TMPDIR", "/dev/shm");
        linux.arg(format!("ubda={},{}", changes.display(), disk.display()));
        linux.args([
            "root=/dev/ubda",
            "rw",
            "mem=3G",
            "seccomp=on",
            "con0=null,fd:1",
            "con=null",
            "ssl=null",
        ]);
        linux.arg(format!("hostfs={}", self.folder.join("shared").display()));
        linux.arg(format!("vec0:transport=tap,ifname={WIRE},depth=128"));
        self.cluster.servers.start("linux", linux)?;
        self.until_reachable()?;
        // One connection for all shells: to make one is most of what a short one costs the node's processor. The socket of one that was
        // killed is in its way.
        let _ = fs::remove_file(self.folder.join("ssh"));
        let mut connection = self.ssh()?;
        connection.args(["-M", "-N"]).arg(HOST);
        self.cluster.servers.start(CONNECTION, connection)
    }

    /// `ssh` without a destination, by the connection of all shells where there is one.
    fn ssh(&self) -> Result<Command> {
        let mut ssh = self.cluster.space.command("ssh");
        ssh.arg("-qi").arg(site::node("id")?).arg("-S").arg(self.folder.join("ssh"));
        for option in
            ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "ConnectTimeout=5", "BatchMode=yes"]
        {
            ssh.args(["-o", option]);
        }
        Ok(ssh)
    }

    fn until_reachable(&self) -> Result<()> {
        eventually("node uml has booted", || {
            self.cluster.servers.require("linux")?;
            Ok((self.shell("true")?.code == 0).then_some(()))
        })
    }
}

/// The processor of this machine that is the node's. Its kernel and its programs are processes that take turns, with each system call
/// and page fault: on two processors each turn would wake the other one.
fn last_processor() -> Result<String> {
    let allowed = sched_getaffinity(Pid::this())?;
    let last = (0..CpuSet::count()).rev().find(|&processor| allowed.is_set(processor) == Ok(true));
    Ok(last.context("a processor that may be used")?.to_string())
}

impl Node for Uml {
    fn name(&self) -> &'static str {
        SHAPE.name
    }

    fn shell(&self, script: &str) -> Result<Finished> {
        let script = format!("export PATH={PROGRAMS}/bin:$PATH; {script}");
        process::run(self.ssh()?.arg(HOST).arg(script), PATIENCE)
    }

    fn control_groups(&self) -> String {
        "/sys/fs/cgroup/kubepods.slice".to_owned()
    }

    fn logs(&self) -> String {
        "/host".to_owned()
    }

    /// By the connection of all shells, which may be another than the last time.
    fn cri(&self) -> Result<Cri> {
        let socket = self.folder.join("cri");
        let forward = || {
            let _ = fs::remove_file(&socket);
            let ports = format!("{}:{CONTAINERD}", socket.display());
            let forwarded = process::run(self.ssh()?.args(["-O", "forward", "-L", &ports, HOST]), PATIENCE)?;
            forwarded.success().with_context(|| format!("having ssh forward {ports}"))?;
            Cri::connect(&socket)
        };
        Cri::connect(&socket).or_else(|_| forward())
    }

    /// Not by a reboot of its own: the kernel would start itself anew and find its end of the wire taken.
    fn reboot(&self) -> Result<()> {
        self.shell("systemctl poweroff --no-block")?;
        // On SIGTERM it would first say goodbye to a node that may not hear it any more.
        self.cluster.servers.stop(CONNECTION, Signal::SIGKILL)?;
        self.cluster.servers.until_ended("linux", TO_POWER_OFF)?;
        self.boot()
    }

    fn stop(&self, service: Service, signal: Signal) -> Result<()> {
        let name = service.name();
        // Killed without notice and kept down: systemd would start it again.
        let script = match signal {
            Signal::SIGKILL => {
                format!("systemctl kill --kill-whom=main -s KILL {name}; systemctl stop {name}")
            }
            _ => format!("systemctl stop {name}"),
        };
        self.shell(&script)?.success().map(drop)
    }

    fn start(&self, service: Service) -> Result<()> {
        self.shell(&format!("systemctl start {}", service.name()))?.success().map(drop)
    }
}
