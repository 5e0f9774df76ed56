//! The node's label in Kubernetes, which the RuntimeClass selects nodes by.

use std::time::Duration;
use std::{env, fs};

use anyhow::{Context, Result, bail};
use serde_json::json;
use ureq::Agent;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

/// The label.
pub(crate) const LABEL: &str = "wisp.dev/installed";
/// Where a pod finds its service account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The API server as a pod reaches it.
#[derive(Debug)]
pub(crate) struct Node {
    agent: Agent,
    url: String,
    token: String,
}

impl Node {
    /// The node that this pod is on, by the service account and the environment that Kubernetes gives a pod and `NODE_NAME`.
    ///
    /// # Errors
    /// One sentence with what is missing.
    pub(crate) fn of_this_pod() -> Result<Self> {
        let variable = |name: &str| {
            env::var(name).with_context(|| {
            format!("--label-node needs {name} in its environment, as a pod with a service account and NODE_NAME from spec.nodeName has it")
        })
        };
        let host = variable("KUBERNETES_SERVICE_HOST")?;
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let url = format!(
            "https://{host}:{}/api/v1/nodes/{}",
            variable("KUBERNETES_SERVICE_PORT")?,
            variable("NODE_NAME")?
        );
        let read = |name: &str| {
            let path = format!("{ACCOUNT}/{name}");
            fs::read(&path).with_context(|| format!("reading {path}"))
        };
        let token = String::from_utf8(read("token")?)
            .context("the service account's token is no text")?
            .trim()
            .to_owned();
        let roots = certificates(&read("ca.crt")?)?;
        let tls = TlsConfig::builder().root_certs(roots).build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .proxy(None)
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(30)))
            .build()
            .new_agent();
        Ok(Self { agent, url, token })
    }

    /// Sets the label, or takes it away.
    ///
    /// # Errors
    /// One sentence with what the API server said.
    pub(crate) fn label(&self, installed: bool) -> Result<()> {
        let value = if installed { json!("true") } else { json!(null) };
        let patch = json!({"metadata": {"labels": {LABEL: value}}}).to_string();
        let mut answer = self
            .agent
            .patch(&self.url)
            .header("Authorization", format!("Bearer {}", self.token))
            .header("Content-Type", "application/merge-patch+json")
            .send(patch)
            .with_context(|| format!("asking {}", self.url))?;
        if !answer.status().is_success() {
            let text = answer.body_mut().read_to_string().unwrap_or_default();
            let status: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            let said = status["message"].as_str().unwrap_or("nothing");
            bail!("labelling the node: {} answered {}: {said}", self.url, answer.status());
        }
        Ok(())
    }
}

fn certificates(pem: &[u8]) -> Result<RootCerts> {
    let found: Vec<_> = parse_pem(pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if found.is_empty() {
        bail!("{ACCOUNT}/ca.crt holds no certificate");
    }
    Ok(RootCerts::new_with_certs(&found))
}
