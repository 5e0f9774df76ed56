//! A node on this machine that one case has for itself: it begins with containerd 1.7 and, where `WISP_TESTS_OLDER` names one, with
//! an older Wisp, and gets newer ones under its pods.

use std::sync::Arc;

use anyhow::Result;
use nix::sys::signal::Signal;

use crate::kube::cluster::Cluster;
use crate::kube::config::{NEWEST, Shape};
use crate::kube::ground;
use crate::kube::host::Host;
use crate::kube::node::{self, Node, Service};
use crate::kube::server::Servers;
use crate::space::{Cache, Space};
use crate::{leaks, site};

/// The network between it and the cluster's space, and that of its pods.
const ADDRESS: &str = "192.168.78.2";
const GATEWAY: &str = "192.168.78.1";
const PODS: &str = "10.88.8.0/22";
/// Both ends of that wire have this name.
const WIRE: &str = "upgraded";

const OLDER: Shape = Shape {
    name: "upgraded",
    containerd: "1.7",
    addresses: &[ADDRESS],
    pods: &[PODS],
    systemd: false,
    lowers_scores: false,
    local_pull: false,
    // 1.7 does not have all that kubelet would ask for.
    figures: false,
    of_one_case: true,
};

/// The node; it leaves the cluster with this value.
#[derive(Debug)]
pub struct Upgraded {
    /// What may be asked of it.
    pub node: Host,
}

impl Upgraded {
    /// Starts it with containerd 1.7, and waits until it is ready.
    ///
    /// # Errors
    /// One sentence with what is missing or did not start.
    pub fn join(cluster: Arc<Cluster>) -> Result<Self> {
        let name = format!("{}-upgraded", site::run_name());
        let folder = cluster.folder.join("upgraded");
        let space = Space::new(Cache::Folder(cluster.folder.join("cache")), None)?;
        ground::claim(&space, &folder)?;
        let servers = Arc::new(Servers::new(&name, folder.join("logs"))?);
        let upgraded = Self { node: Host { shape: OLDER, name, space, servers, folder, cluster } };
        upgraded.make_network()?;
        upgraded.node.set_up()?;
        if let Some(older) = site::older() {
            node::install_wisp_of(&older, &upgraded.node.programs())?;
        }
        upgraded.node.cluster.until_node_ready(OLDER.name)?;
        Ok(upgraded)
    }

    fn make_network(&self) -> Result<()> {
        let (cluster, space) = (&self.node.cluster.space, &self.node.space);
        let (near, far) = (format!("{GATEWAY}/24"), format!("{ADDRESS}/24"));
        for args in [
            &["link", "add", WIRE, "type", "veth", "peer", "name", WIRE, "netns", &space.network()]
                as &[&str],
            &["address", "add", &near, "dev", WIRE],
            &["link", "set", WIRE, "up"],
        ] {
            cluster.ip(args)?;
        }
        for args in [
            &["address", "add", &far, "dev", WIRE] as &[&str],
            &["link", "set", WIRE, "up"],
            &["route", "add", "default", "via", GATEWAY],
        ] {
            space.ip(args)?;
        }
        cluster.ip(&["route", "add", PODS, "via", ADDRESS])?;
        space.inside(|| Ok(std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?))
    }

    /// Stops its containerd, and starts the newer in its place, with the newer's configuration; its pods run on.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn upgrade_containerd(&mut self) -> Result<()> {
        self.node.stop(Service::Containerd, Signal::SIGTERM)?;
        self.node.shape.containerd = NEWEST;
        node::install_containerd(&self.node.programs(), NEWEST)?;
        self.node.configure()?;
        self.node.start(Service::Containerd)
    }

    /// Puts the Wisp that is tested in the place of what is there.
    ///
    /// # Errors
    /// Where something is missing.
    pub fn upgrade_wisp(&self) -> Result<()> {
        node::install_wisp(&self.node.programs())
    }
}

impl Drop for Upgraded {
    fn drop(&mut self) {
        if let Ok(kubectl) = self.node.cluster.kubectl() {
            let _ = kubectl.finish(&["delete", "node", OLDER.name, "--ignore-not-found"]);
        }
        self.node.servers.end();
        leaks::sweep(&self.node.name, &self.node.folder);
    }
}
