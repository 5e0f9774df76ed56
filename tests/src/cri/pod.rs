//! One pod: its description, and what runs.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cri::api::{
    DnsConfig, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption,
    PodSandboxConfig, PodSandboxMetadata, PodSandboxState, PodSandboxStatus, PortMapping,
};
use crate::cri::container::ContainerSpec;
use crate::cri::node::Node;
use crate::leaks;

/// A pod that is to be made.
#[derive(Debug, Clone)]
pub struct PodSpec<'a> {
    node: &'a Node,
    /// What CRI is asked for.
    pub config: PodSandboxConfig,
}

impl Node {
    /// A pod as a kubelet describes an ordinary one.
    #[must_use]
    pub fn pod(&self) -> PodSpec<'_> {
        let name = self.bed.id("pod");
        let uid = format!("{}-{name}", self.bed.name);
        let config = PodSandboxConfig {
            log_directory: self.bed.folder.join("logs").join(&name).display().to_string(),
            hostname: name.clone(),
            metadata: Some(PodSandboxMetadata {
                name,
                uid: uid.clone(),
                namespace: "tests".into(),
                attempt: 0,
            }),
            dns_config: Some(DnsConfig::default()),
            labels: HashMap::from([("app".into(), "test".into())]),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: format!("/{}/{uid}", self.bed.name),
                security_context: Some(LinuxSandboxSecurityContext {
                    // Each container has its own processes; network and IPC are the pod's.
                    namespace_options: Some(NamespaceOption {
                        pid: NamespaceMode::Container.into(),
                        ..Default::default()
                    }),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        PodSpec { node: self, config }
    }
}

impl<'a> PodSpec<'a> {
    /// Changes what CRI is asked for.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut PodSandboxConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// Puts the pod into the node's network, where a kubelet gives it no name of its own.
    #[must_use]
    pub fn in_nodes_network(self) -> Self {
        self.namespaces(|namespaces| namespaces.network = NamespaceMode::Node.into())
            .with(|config| config.hostname = String::new())
    }

    /// Changes which namespaces are the node's, the pod's or each container's own.
    #[must_use]
    pub fn namespaces(mut self, change: impl FnOnce(&mut NamespaceOption)) -> Self {
        let linux = self.config.linux.get_or_insert_default();
        let context = linux.security_context.get_or_insert_default();
        change(context.namespace_options.get_or_insert_default());
        self
    }

    /// Sets a kernel parameter of the pod.
    #[must_use]
    pub fn sysctl(mut self, name: &str, value: &str) -> Self {
        let linux = self.config.linux.get_or_insert_default();
        linux.sysctls.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Makes a port of the node lead to one of the pod.
    #[must_use]
    pub fn port(mut self, node: i32, pod: i32) -> Self {
        self.config.port_mappings.push(PortMapping {
            host_port: node,
            container_port: pod,
            ..Default::default()
        });
        self
    }

    /// Makes the pod. It is stopped and removed when the value is dropped.
    ///
    /// # Errors
    /// What CRI said.
    pub fn run(self) -> Result<Pod<'a>> {
        fs::create_dir_all(&self.config.log_directory)?;
        let answer = self.node.cri.run_pod(self.config.clone(), self.node.handler.get());
        let id = answer.map_err(|status| {
            // What containerd could not take down itself is still there.
            anyhow::anyhow!("making a pod: {}", status.message())
        })?;
        Ok(Pod { node: self.node, id, config: self.config })
    }

    /// Requires that the pod is refused; with which words.
    ///
    /// # Errors
    /// Where it is made all the same.
    pub fn refused(self) -> Result<String> {
        let (node, name) = (self.node, self.config.metadata.clone().unwrap_or_default().name);
        let said = match self.run() {
            Ok(_) => bail!("the pod {name} was not refused"),
            Err(error) => format!("{error:#}"),
        };
        for pod in node.cri.pods()? {
            if pod.metadata.is_some_and(|metadata| metadata.name == name) {
                node.cri.remove_pod(&pod.id).context("removing what was refused")?;
            }
        }
        Ok(said)
    }
}

/// A pod that was made.
#[derive(Debug)]
pub struct Pod<'a> {
    /// Where it runs.
    pub node: &'a Node,
    /// Its id.
    pub id: String,
    /// What was asked for.
    pub config: PodSandboxConfig,
}

impl<'a> Pod<'a> {
    /// A container of the guests' image that runs `args`, of which the first is the program.
    #[must_use]
    pub fn container(&self, args: &[&str]) -> ContainerSpec<'_, 'a> {
        ContainerSpec::new(self, args)
    }

    /// How it is.
    ///
    /// # Errors
    /// What CRI said.
    pub fn status(&self) -> Result<PodSandboxStatus> {
        self.node.cri.pod_status(&self.id)?.status.context("a status without a status")
    }

    /// Whether it is ready.
    ///
    /// # Errors
    /// What CRI said.
    pub fn ready(&self) -> Result<bool> {
        Ok(self.status()?.state() == PodSandboxState::SandboxReady)
    }

    /// What containerd adds to the status, of a key: JSON.
    ///
    /// # Errors
    /// Where there is none, or it is no JSON.
    pub fn info(&self, key: &str) -> Result<Value> {
        let info = self.node.cri.pod_status(&self.id)?.info;
        let text = info.get(key).with_context(|| format!("no {key} in {info:?}"))?;
        serde_json::from_str(text).with_context(|| format!("not JSON: {text}"))
    }

    /// The process whose namespaces are the pod's.
    ///
    /// # Errors
    /// Where containerd does not say it.
    pub fn pid(&self) -> Result<u32> {
        let pid = self.info("info")?["pid"].as_u64().context("no pid in the pod's status")?;
        Ok(u32::try_from(pid)?)
    }

    /// Its first address.
    ///
    /// # Errors
    /// Where it has none.
    pub fn ip(&self) -> Result<String> {
        let network = self.status()?.network.context("a pod without a network")?;
        anyhow::ensure!(!network.ip.is_empty(), "a pod without an address");
        Ok(network.ip)
    }

    /// Stops it, and all that runs in it.
    ///
    /// # Errors
    /// What CRI said.
    pub fn stop(&self) -> Result<()> {
        self.node.cri.stop_pod(&self.id).context("stopping a pod")
    }

    /// Removes it.
    ///
    /// # Errors
    /// What CRI said.
    pub fn remove(&self) -> Result<()> {
        self.node.cri.remove_pod(&self.id).context("removing a pod")
    }

    /// Where its containers log.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.config.log_directory.clone().into()
    }

    fn cgroup_parent(&self) -> &str {
        self.config.linux.as_ref().map_or("", |linux| &linux.cgroup_parent)
    }
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        // What cannot be removed is found by the case that looks at what is left behind.
        let _ = self.stop();
        let _ = self.remove();
        leaks::remove_empty_groups(self.cgroup_parent());
        let _ = fs::remove_dir_all(self.logs());
    }
}
