//! What a test may ask of a node, wherever it is.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::cri::Cri;
use crate::cri::api::PodSandboxState;
use crate::kube::config::{self, NEWEST, Shape};
use crate::kube::{eventually, private, registry};
use crate::process::Finished;
use crate::site;

/// How long to leave a node alone on which something is left: to look at all of it is much of what its processor can do.
const AGAIN: Duration = Duration::from_secs(3);

/// The two servers of every node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// containerd.
    Containerd,
    /// kubelet.
    Kubelet,
}

impl Service {
    /// The name of its process.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Kubelet => "kubelet",
        }
    }
}

/// A node that the tests started.
pub trait Node: std::fmt::Debug + Send + Sync {
    /// Its name in the cluster.
    fn name(&self) -> &'static str;

    /// Runs a shell script as root on it, with its programs on `PATH`.
    ///
    /// # Errors
    /// Where it does not start or end; that it fails is an answer.
    fn shell(&self, script: &str) -> Result<Finished>;

    /// Stops a server with a signal; its pods run on.
    ///
    /// # Errors
    /// Where it does not end.
    fn stop(&self, service: Service, signal: Signal) -> Result<()>;

    /// Where the control groups of its pods are: the path of `kubepods` or `kubepods.slice`, with a hierarchy to be filled in
    /// for `*` where it has version 1.
    fn control_groups(&self) -> String;

    /// The folder of its servers' logs, as its shell names it.
    fn logs(&self) -> String;

    /// The last that its servers have logged of a Kubernetes namespace, for the message of a case that failed in it.
    fn logged(&self, namespace: &str) -> String {
        let of = |service: Service| {
            format!("grep {namespace} {}/{}.log | tail -n 40", self.logs(), service.name())
        };
        let script = format!("{}; {}", of(Service::Containerd), of(Service::Kubelet));
        self.shell(&script).map_or_else(|error| format!("{error:#}"), |said| said.stdout)
    }

    /// Everything on it that a pod could leave behind, one line each.
    ///
    /// # Errors
    /// Where it cannot be looked at.
    fn inventory(&self) -> Result<BTreeSet<String>> {
        let lines = self.shell(&INVENTORY.replace("CONTROL-GROUPS", &self.control_groups()))?.success()?;
        Ok(lines.lines().map(str::to_owned).collect())
    }

    /// CRI of its containerd.
    ///
    /// # Errors
    /// Where it does not answer.
    fn cri(&self) -> Result<Cri>;

    /// Removes the pods that have ended, as kubelet does for those that are deleted: but it does so once a minute, which no
    /// configuration changes.
    ///
    /// # Errors
    /// What CRI answered.
    fn remove_ended_pods(&self) -> Result<()> {
        let cri = self.cri()?;
        for pod in cri.pods()?.iter().filter(|pod| pod.state == i32::from(PodSandboxState::SandboxNotready)) {
            cri.remove_pod(&pod.id)?;
        }
        Ok(())
    }

    /// Waits until it holds nothing but what its inventory had `before`. All its pods are deleted by then.
    ///
    /// # Errors
    /// What is left.
    fn nothing_new(&self, before: &BTreeSet<String>) -> Result<()> {
        let (mut new, mut refused) = (Vec::new(), String::new());
        let gone = eventually("nothing is left", || {
            // kubelet may be removing the same pod, and containerd refuses one of two: the next look tells what has come of it.
            if let Err(error) = self.remove_ended_pods() {
                refused = format!("\nlast refused: {error:#}");
            }
            new = self.inventory()?.difference(before).cloned().collect();
            if !new.is_empty() {
                thread::sleep(AGAIN);
            }
            Ok(new.is_empty().then_some(()))
        });
        gone.with_context(|| format!("left behind on {}:\n{}{refused}", self.name(), new.join("\n")))
    }

    /// Stops the whole node and boots it again.
    ///
    /// # Errors
    /// Where it does not come back, or is the machine itself.
    fn reboot(&self) -> Result<()>;

    /// Starts a server again.
    ///
    /// # Errors
    /// Where it does not start.
    fn start(&self, service: Service) -> Result<()>;
}

/// Prints what pods leave behind: control groups, mounts, network interfaces and namespaces, addresses, files.
pub(crate) const INVENTORY: &str = "
find CONTROL-GROUPS -type d -name '*pod[0-9a-f][0-9a-f]*' 2>/dev/null | sed 's/^/control group /'
awk '$5 ~ /^.(run.(wisp|containerd)|var.lib.kubelet.pods)/ {print \"mount \" $5}' /proc/self/mountinfo
ip -o link | awk '/veth/ {print \"link \" $2}'
find /run/wisp /run/netns /var/lib/kubelet/pods /run/containerd/io.containerd.* -mindepth 1 2>/dev/null |
  grep -vE '^/run/wisp/(checked|compile.lock|digests)|/(k8s.io|[.]pods|containers|sandboxes|image-volumes)$' |  # made once, for all pods
  grep -vE '/io.containerd.mount-manager.v1.bolt/(t|mounts.db)$'  # made by containerd 2 as it starts
find /var/lib/cni/networks/pods -name '[0-9]*' -o -name '*:*'
ps -eo pid,args | awk '/^ *[0-9]+ [^ ]*(containerd-shim|wisp-guest|wisp-runtime)/'
true";

/// Puts what a node runs under `programs`: `bin/` with a containerd of this version, `cni/` and Wisp as `make install` would.
///
/// # Errors
/// Where something is missing.
pub(crate) fn install(programs: &Path, version: &str) -> Result<()> {
    install_containerd(programs, version)?;
    put(&site::server(NEWEST, "runc")?, &programs.join("bin/runc"))?;
    put(&site::kubernetes("kubelet")?, &programs.join("bin/kubelet"))?;
    for name in ["bridge", "host-local", "portmap", "loopback"] {
        put(&site::server(NEWEST, &format!("cni/{name}"))?, &programs.join("cni").join(name))?;
    }
    install_wisp(programs)
}

/// Puts a containerd there; a second time replaces it, as an upgrade does.
///
/// # Errors
/// Where something is missing.
pub(crate) fn install_containerd(programs: &Path, version: &str) -> Result<()> {
    for name in ["containerd", "ctr", "containerd-shim-runc-v2"] {
        put(&site::server(version, name)?, &programs.join("bin").join(name))?;
    }
    Ok(())
}

/// Where what belongs to Wisp is installed.
const WISP: [&str; 6] = [
    "bin/containerd-shim-wisp-v1",
    "bin/wisp-runtime",
    "bin/wisp",
    "libexec/wisp/wisp-guest",
    "libexec/wisp/wisp-compiler",
    "libexec/wisp/wisp-artifact",
];

/// Puts Wisp there; a second time replaces it, as an upgrade does.
///
/// # Errors
/// Where something is missing.
pub(crate) fn install_wisp(programs: &Path) -> Result<()> {
    WISP.iter().try_for_each(|path| {
        let name = path.rsplit('/').next().unwrap_or_default();
        put(&site::binary(name)?, &programs.join(path))
    })
}

/// The same of another build, which is installed in `from`.
///
/// # Errors
/// Where something is missing.
pub(crate) fn install_wisp_of(from: &Path, programs: &Path) -> Result<()> {
    WISP.iter().try_for_each(|path| put(&from.join(path), &programs.join(path)))
}

fn put(from: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().context("a program without a folder")?;
    fs::create_dir_all(folder)?;
    let new = to.with_extension("new");
    fs::copy(from, &new).with_context(|| format!("copying {}", from.display()))?;
    Ok(fs::rename(new, to)?)
}

/// Writes the configuration of a node into `folder`, for programs that will be in `programs` and read it in `seen`.
///
/// # Errors
/// Those of writing.
pub(crate) fn configure(
    shape: Shape,
    folder: &Path,
    programs: &str,
    seen: &str,
    cgroup_root: Option<&str>,
) -> Result<()> {
    let private = private::server();
    for (name, url) in [(registry::NAME, registry::url()), (&*private, format!("http://{private}"))] {
        let certs = folder.join("certs.d").join(name);
        fs::create_dir_all(&certs)?;
        fs::write(certs.join("hosts.toml"), config::hosts(&url))?;
    }
    fs::create_dir_all(folder.join("net.d"))?;
    fs::write(folder.join("net.d/10-pods.conflist"), config::network(shape).to_string())?;
    fs::write(folder.join("containerd.toml"), config::containerd(shape, programs, seen))?;
    fs::write(folder.join("kubelet.yaml"), config::kubelet(shape, cgroup_root).to_string())?;
    Ok(fs::write(folder.join("kubeconfig"), config::kubeconfig().to_string())?)
}

/// Writes an executable script.
///
/// # Errors
/// Those of writing.
pub(crate) fn write_script(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}
