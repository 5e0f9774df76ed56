//! metrics-server, which `kubectl top` and a HorizontalPodAutoscaler ask: a process of the control plane that the API server knows as
//! a group of its own.

use std::sync::OnceLock;

use anyhow::{Result, anyhow};
use serde_json::json;

use crate::kube::PATIENCE;
use crate::kube::cluster::{ADDRESS, Cluster};
use crate::site;

/// Where it listens.
const PORT: u16 = 4443;
/// The object by which the API server knows it.
const GROUP: &str = "v1beta1.metrics.k8s.io";

/// Starts it in a cluster, once, and waits until the API server has found it.
///
/// # Errors
/// Why it could not be started, each time.
pub fn serve(cluster: &Cluster) -> Result<()> {
    static SERVED: OnceLock<Result<(), String>> = OnceLock::new();
    let served = SERVED.get_or_init(|| start(cluster).map_err(|error| format!("{error:#}")));
    served.clone().map_err(|error| anyhow!("metrics-server: {error}"))
}

fn start(cluster: &Cluster) -> Result<()> {
    let mut server = cluster.space.command(site::metrics_server()?);
    for flag in ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"] {
        server.arg(format!("--{flag}={}", cluster.kubeconfig().display()));
    }
    server.arg(format!("--cert-dir={}", cluster.key("metrics-server")));
    server.arg(format!("--bind-address={ADDRESS}")).arg(format!("--secure-port={PORT}"));
    server.args(["--kubelet-insecure-tls", "--kubelet-preferred-address-types=InternalIP"]);
    // As often as it lets itself be told to ask.
    server.args(["--metric-resolution=10s", "--kubelet-request-timeout=9s"]);
    cluster.servers.start("metrics-server", server)?;
    let kubectl = cluster.kubectl()?.within("kube-system");
    kubectl.apply(&json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "metrics-server"},
            "spec": {"ports": [{"name": "https", "port": 443, "targetPort": PORT}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": "metrics-server", "labels": {"kubernetes.io/service-name": "metrics-server"}},
            "addressType": "IPv4",
            "ports": [{"name": "https", "port": PORT}],
            "endpoints": [{"addresses": [ADDRESS]}],
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": GROUP},
            "spec": {
                "service": {"name": "metrics-server", "namespace": "kube-system"},
                "group": "metrics.k8s.io",
                "version": "v1beta1",
                "insecureSkipTLSVerify": true,
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
            },
        },
    ]}))?;
    let object = format!("apiservice/{GROUP}");
    let limit = format!("--timeout={}s", PATIENCE.as_secs());
    let found = kubectl.run(&["wait", "--for=condition=Available", &object, &limit]);
    cluster.servers.require("metrics-server")?;
    found.map(drop)
}
