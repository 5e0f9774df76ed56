//! The configuration files of a node and of its clients.

use serde_json::{Value, json};

use crate::kube::cluster::ADDRESS;

/// The image of the pause container.
pub const PAUSE: &str = "registry.test/pause:1";
/// The token of the one user, who may do anything.
pub(crate) const TOKEN: &str = "token-of-the-tests";
/// Where a cluster's Services are, in both families.
pub(crate) const SERVICES: &str = "10.96.0.0/16,fd96::/112";
/// Where the pods of all nodes are, in both families.
const PODS: &str = "10.88.0.0/20,fd88::/61";
/// The containerd that nodes have; `1.7` is the other that is configured here.
pub(crate) const NEWEST: &str = "2.4";
/// The taint of a node that one case has for itself; the pods of other cases do not come there.
pub(crate) const TAINT: &str = "tests/of-one-case";
/// Where containerd listens, on every node.
pub(crate) const CONTAINERD: &str = "/run/containerd/containerd.sock";

/// What differs between the nodes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// The name of the node.
    pub(crate) name: &'static str,
    /// The version of its containerd.
    pub(crate) containerd: &'static str,
    /// Its addresses.
    pub(crate) addresses: &'static [&'static str],
    /// The networks of its pods, one in each family.
    pub(crate) pods: &'static [&'static str],
    /// Whether systemd makes its control groups.
    pub(crate) systemd: bool,
    /// Whether its root may lower scores for the OOM killer.
    pub(crate) lowers_scores: bool,
    /// Whether its containerd pulls by itself and unpacks images for any platform, or by its transfer service.
    pub(crate) local_pull: bool,
    /// Whether kubelet has the figures of pods from CRI.
    pub(crate) figures: bool,
    /// Whether it has the [`TAINT`].
    pub(crate) of_one_case: bool,
}

/// kubeconfig: JSON is YAML.
pub(crate) fn kubeconfig() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "tests", "cluster": {"server": format!("https://{ADDRESS}:6443"), "insecure-skip-tls-verify": true}}],
        "users": [{"name": "tests", "user": {"token": TOKEN}}],
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
        "current-context": "tests",
    })
}

/// containerd's, with the handlers `runc`, `wisp` and, from 2.x on, `wisp-podsandbox`. `programs` has its plugins for networks in `cni/`,
/// `folder` what [`network`] and [`hosts`] say, in `net.d/` and `certs.d/registry.test/hosts.toml`.
pub(crate) fn containerd(shape: Shape, programs: &str, folder: &str) -> String {
    let write = if shape.containerd == NEWEST { version_3 } else { version_2 };
    write(shape, programs, folder)
}

fn version_3(shape: Shape, programs: &str, folder: &str) -> String {
    let (images, runtime) =
        ("plugins.'io.containerd.cri.v1.images'", "plugins.'io.containerd.cri.v1.runtime'");
    let (restrict, local_pull) = (!shape.lowers_scores, shape.local_pull);
    let runc = format!("runtime_type = 'io.containerd.runc.v2'\noptions.SystemdCgroup = {}\n", shape.systemd);
    let wisp = "runtime_type = 'io.containerd.wisp.v1'\npod_annotations = ['wisp.dev/*']\n";
    let shim = format!("{wisp}sandboxer = 'shim'\ndisable_pause_image_pull = true\n");
    let pause = format!("{wisp}sandboxer = 'podsandbox'\n");
    let handlers: String = [("runc", &runc), ("wisp", &shim), ("wisp-podsandbox", &pause)]
        .iter()
        .map(|(name, keys)| format!("[{runtime}.containerd.runtimes.{name}]\n{keys}"))
        .collect();
    format!(
        // By default each shim is asked twice a second, for figures that kubelet looks at every ten.
        "version = 3\n\
         [{images}]\nuse_local_image_pull = {local_pull}\n\
         [{images}.pinned_images]\nsandbox = '{PAUSE}'\n\
         [{images}.registry]\nconfig_path = '{folder}/certs.d'\n\
         [{runtime}]\nstats_collect_period = '10s'\nrestrict_oom_score_adj = {restrict}\ndisable_apparmor = true\n\
         [{runtime}.cni]\nbin_dirs = ['{programs}/cni']\nconf_dir = '{folder}/net.d'\n\
         [{runtime}.containerd]\ndefault_runtime_name = 'runc'\n{handlers}"
    )
}

/// That of 1.7, which knows no sandbox but a pause container.
fn version_2(shape: Shape, programs: &str, folder: &str) -> String {
    let cri = "plugins.'io.containerd.grpc.v1.cri'";
    let handlers: String =
        [("runc", "io.containerd.runc.v2"), ("wisp", "io.containerd.wisp.v1")]
            .map(|(name, kind)| {
                format!("[{cri}.containerd.runtimes.{name}]\nruntime_type = '{kind}'\npod_annotations = ['wisp.dev/*']\n")
            })
            .concat();
    format!(
        "version = 2\n\
         [{cri}]\nsandbox_image = '{PAUSE}'\nrestrict_oom_score_adj = {}\ndisable_apparmor = true\n\
         [{cri}.registry]\nconfig_path = '{folder}/certs.d'\n\
         [{cri}.cni]\nbin_dir = '{programs}/cni'\nconf_dir = '{folder}/net.d'\n\
         [{cri}.containerd]\ndefault_runtime_name = 'runc'\n{handlers}\
         [{cri}.containerd.runtimes.runc.options]\nSystemdCgroup = {}\n",
        !shape.lowers_scores, shape.systemd,
    )
}

/// `hosts.toml` of a registry that is at this address.
pub(crate) fn hosts(url: &str) -> String {
    format!("server = '{url}'\n[host.'{url}']\ncapabilities = ['pull', 'resolve']\n")
}

/// The network of a node's pods.
pub(crate) fn network(shape: Shape) -> Value {
    let ranges: Vec<_> = shape.pods.iter().map(|pods| json!([{"subnet": pods}])).collect();
    let everywhere = |pods: &&str| if pods.contains(':') { "::/0" } else { "0.0.0.0/0" };
    let routes: Vec<_> = shape.pods.iter().map(|pods| json!({"dst": everywhere(pods)})).collect();
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
                "ipam": {"type": "host-local", "ranges": ranges, "routes": routes},
            },
            {"type": "portmap", "capabilities": {"portMappings": true}, "backend": "nftables"},
        ],
    })
}

/// kubelet's. `cgroup_root` is where its pods' control groups begin, on a node that is not a machine of its own.
pub(crate) fn kubelet(shape: Shape, cgroup_root: Option<&str>) -> Value {
    let mut config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": if shape.systemd { "systemd" } else { "cgroupfs" },
        "failCgroupV1": false,
        "failSwapOn": false,
        "clusterDomain": "cluster.local",
        "clusterDNS": ["10.96.0.10"],
        "resolvConf": "/dev/null",
        "containerRuntimeEndpoint": format!("unix://{CONTAINERD}"),
        "volumePluginDir": "/var/lib/kubelet/volumeplugins",
        "staticPodPath": "/var/lib/kubelet/manifests",
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "maxPods": 400,
        // A pod without a pause container has its network figures from CRI only.
        "featureGates": {"PodAndContainerStatsFromCRI": shape.figures, "ContainerStopSignals": true},
        // What a person would wait a minute or more for.
        "syncFrequency": "5s",
        "containerLogMaxSize": "1Mi",
        "containerLogMonitorInterval": "3s",
        "serializeImagePulls": false,
        "registryPullQPS": 0,
        "eventRecordQPS": 0,
        "kubeAPIQPS": 200,
        "kubeAPIBurst": 400,
    });
    if shape.of_one_case {
        config["registerWithTaints"] = json!([{"key": TAINT, "effect": "NoSchedule"}]);
    }
    if !shape.lowers_scores {
        config["oomScoreAdj"] = json!(0);
    }
    if let Some(root) = cgroup_root {
        config["cgroupRoot"] = json!(root);
        config["enforceNodeAllocatable"] = json!(["pods"]);
    }
    config
}

/// kube-proxy's, for the pods of both nodes.
pub(crate) fn proxy(kubeconfig: &str) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": kubeconfig},
        "mode": "nftables",
        "clusterCIDR": PODS,
        // Where the node on this machine was not asked for, it goes by the address alone after a while.
        "hostnameOverride": "host",
        "bindAddress": ADDRESS,
        "oomScoreAdj": 0,
        // Of the whole machine, and so not the tests' to set.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        // Between pods of one bridge the answers would go past the translation.
        "nftables": {"masqueradeAll": true},
    })
}
