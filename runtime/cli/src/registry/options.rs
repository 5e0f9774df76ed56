//! How a registry is spoken to, in the words of oras and ctr.

use std::path::PathBuf;
use std::sync::Arc;

use wisp_registry::{Options, Watch};

/// The options.
#[derive(Debug, Default, Clone, clap::Args)]
pub(crate) struct Remote {
    /// Speak plain HTTP; a registry on a loopback address gets it unasked
    #[arg(long)]
    plain_http: bool,
    /// Do not check the registry's certificate
    #[arg(long)]
    insecure: bool,
    /// Trust the certificate authorities of this PEM file too
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Take mirrors and certificates from here, as containerd does
    #[arg(long, value_name = "DIR", default_value = "/etc/containerd/certs.d")]
    hosts_dir: PathBuf,
}

impl Remote {
    /// For the registry's client.
    pub(crate) fn options(&self, watch: Arc<dyn Watch>) -> Options {
        Options {
            plain_http: self.plain_http,
            insecure_skip_verify: self.insecure,
            ca: self.ca.clone(),
            certs_d: Some(self.hosts_dir.clone()),
            watch,
            ..Options::default()
        }
    }
}
