//! A control plane in a space of its own, which is the first node's too.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use anyhow::Result;
use serde_json::Value;

use crate::bed::LIMIT;
use crate::kube::config::{self, SERVICES, TOKEN, kubeconfig};
use crate::kube::eventually;
use crate::kube::kubectl::Kubectl;
use crate::kube::server::Servers;
use crate::kube::{PATIENCE, ground, private, registry};
use crate::space::{Cache, Space};
use crate::{leaks, process, site};

/// The address of the control plane, of the registry and of the node on this machine, in the cluster's own network.
pub const ADDRESS: &str = "192.168.77.1";
/// The same in IPv6, which the node on this machine and its pods have too.
pub(crate) const ADDRESS6: &str = "fd77::1";
/// The cluster's end of the wire to the other node.
pub(crate) const WIRE: &str = "tap0";

/// A control plane that runs.
#[derive(Debug)]
pub struct Cluster {
    /// What its processes and control groups are marked with.
    pub name: String,
    /// The namespaces that it and the node on this machine run in.
    pub space: Space,
    /// The folder of everything that it writes.
    pub folder: PathBuf,
    /// Its processes.
    pub servers: Arc<Servers>,
}

impl Cluster {
    /// Starts one and waits until it answers.
    ///
    /// # Errors
    /// One sentence with what is missing or did not start.
    pub fn start() -> Result<Arc<Self>> {
        let name = format!("{}-kube", site::run_name());
        let folder = site::run_folder()?.join("kube");
        let space = Space::new(Cache::Folder(folder.join("cache")), None)?;
        let servers = Arc::new(Servers::new(&name, folder.join("logs"))?);
        let cluster = Arc::new(Self { name, space, folder, servers });
        ground::claim(&cluster.space, &cluster.folder)?;
        cluster.make_network()?;
        cluster.start_servers()?;
        Ok(cluster)
    }

    fn make_network(&self) -> Result<()> {
        let (address, address6) = (format!("{ADDRESS}/24"), format!("{ADDRESS6}/64"));
        // kubelet wants a default route: it leads to a bridge with nothing behind it.
        for args in [
            &["tuntap", "add", WIRE, "mode", "tap"] as &[&str],
            &["address", "add", &address, "dev", WIRE],
            &["address", "add", &address6, "dev", WIRE, "nodad"],
            &["link", "set", WIRE, "up"],
            &["link", "add", "nowhere", "type", "bridge"],
            &["link", "set", "nowhere", "up"],
            &["route", "add", "default", "dev", "nowhere"],
        ] {
            self.space.ip(args)?;
        }
        self.space.inside(|| {
            fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
            Ok(fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1")?)
        })
    }

    fn start_servers(&self) -> Result<()> {
        self.write_keys()?;
        self.servers.start("registry", registry::command(self)?)?;
        self.servers.start("private-registry", private::command(self)?)?;
        let mut etcd = self.server("etcd")?;
        etcd.arg("--data-dir").arg(self.folder.join("etcd")).arg("--unsafe-no-fsync");
        etcd.args(["--listen-client-urls", "http://127.0.0.1:2379", "--advertise-client-urls"]);
        etcd.args(["http://127.0.0.1:2379", "--listen-peer-urls", "http://127.0.0.1:2380"]);
        self.servers.start("etcd", etcd)?;
        self.servers.start("kube-apiserver", self.api_server()?)?;
        self.until_ready()?;
        let limits = ["--kube-api-qps=200", "--kube-api-burst=400", "--leader-elect=false"];
        let mut manager = self.client("kube-controller-manager")?;
        manager.args(limits).arg("--concurrent-namespace-syncs=20");
        manager.arg("--horizontal-pod-autoscaler-sync-period=5s");
        manager.arg(format!("--service-account-private-key-file={}", self.key("account.key")));
        manager.arg(format!("--root-ca-file={}", self.key("apiserver.crt")));
        self.servers.start("kube-controller-manager", manager)?;
        let mut scheduler = self.client("kube-scheduler")?;
        scheduler.args(limits);
        self.servers.start("kube-scheduler", scheduler)?;
        self.start_proxy()
    }

    /// kube-proxy, once for both nodes: what leaves the one under User Mode Linux, whose kernel has no NAT, comes through here.
    fn start_proxy(&self) -> Result<()> {
        let file = self.folder.join("proxy.yaml");
        fs::write(&file, config::proxy(&self.kubeconfig().display().to_string()).to_string())?;
        let mut proxy = self.server("kube-proxy")?;
        proxy.arg("--config").arg(file);
        self.servers.start("kube-proxy", proxy)
    }

    fn write_keys(&self) -> Result<()> {
        let keys = self.folder.join("keys");
        fs::create_dir_all(&keys)?;
        fs::write(keys.join("tokens.csv"), format!("{TOKEN},admin,1,\"system:masters\"\n"))?;
        fs::write(self.kubeconfig(), kubeconfig().to_string())?;
        let (private, public) = (self.key("account.key"), self.key("account.pub"));
        for args in [
            &["genrsa", "-out", &private, "2048"] as &[&str],
            &["rsa", "-in", &private, "-pubout", "-out", &public],
        ] {
            process::run(Command::new("openssl").args(args), LIMIT)?.success()?;
        }
        Ok(())
    }

    /// The path of a key or certificate.
    pub(crate) fn key(&self, name: &str) -> String {
        self.folder.join("keys").join(name).display().to_string()
    }

    fn api_server(&self) -> Result<Command> {
        let mut command = self.server("kube-apiserver")?;
        command.args([
            "--etcd-servers=http://127.0.0.1:2379".to_owned(),
            format!("--advertise-address={ADDRESS}"),
            format!("--bind-address={ADDRESS}"),
            format!("--cert-dir={}", self.key("")),
            format!("--token-auth-file={}", self.key("tokens.csv")),
            "--authorization-mode=AlwaysAllow".to_owned(),
            format!("--service-cluster-ip-range={SERVICES}"),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", self.key("account.pub")),
            format!("--service-account-signing-key-file={}", self.key("account.key")),
            "--allow-privileged=true".to_owned(),
            "--feature-gates=ContainerStopSignals=true".to_owned(),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            // metrics-server is at the address of its endpoint, wherever its Service may be.
            "--enable-aggregator-routing=true".to_owned(),
        ]);
        Ok(command)
    }

    /// A server of Kubernetes that asks the API server.
    fn client(&self, name: &str) -> Result<Command> {
        let mut command = self.server(name)?;
        command.arg(format!("--kubeconfig={}", self.kubeconfig().display()));
        command.arg(format!("--cert-dir={}", self.key(name)));
        Ok(command)
    }

    fn server(&self, name: &str) -> Result<Command> {
        Ok(self.space.command(site::kubernetes(name)?))
    }

    /// The path of its kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    fn until_ready(&self) -> Result<()> {
        let url = format!("https://{ADDRESS}:6443/readyz");
        eventually("the API server is ready", || {
            self.servers.require("etcd")?;
            self.servers.require("kube-apiserver")?;
            let mut curl = self.space.command("curl");
            let asked = process::run(
                curl.args(["--silent", "--insecure", "--fail", "--oauth2-bearer", TOKEN, &url]),
                LIMIT,
            )?;
            Ok((asked.code == 0).then_some(()))
        })
    }

    /// `kubectl` for it.
    ///
    /// # Errors
    /// Where it is missing.
    pub fn kubectl(&self) -> Result<Kubectl> {
        let folder = self.folder.join("kubectl");
        Kubectl::new(site::kubernetes("kubectl")?, self.kubeconfig(), Some(self.space.clone()), folder)
    }

    /// Waits until a node is ready, and gives it the labels that the RuntimeClass `wisp` wants of a node.
    ///
    /// # Errors
    /// Where it does not get ready.
    pub(crate) fn until_node_ready(&self, name: &str) -> Result<()> {
        let (kubectl, node) = (self.kubectl()?, format!("node/{name}"));
        kubectl.run(&["wait", "--for=create", &node, "--timeout=120s"])?;
        kubectl.until(&node, "ready", PATIENCE, is_ready)?;
        let class = kubectl.get(&["runtimeclass", "wisp"])?;
        for (label, value) in class["scheduling"]["nodeSelector"].as_object().into_iter().flatten() {
            let label = format!("{label}={}", value.as_str().unwrap_or_default());
            kubectl.run(&["label", "--overwrite", &node, &label])?;
        }
        Ok(())
    }

    /// Ends everything, on the nodes too.
    pub fn end(&self) {
        self.servers.end();
        // A node that one case has for itself has a name of its own.
        leaks::sweep(&format!("{}-", site::run_name()), &self.folder);
    }
}

/// Whether a node or a pod has the condition `Ready`.
#[must_use]
pub fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}
