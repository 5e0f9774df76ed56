//! What a caller chooses of a registry, and what it is told while it waits.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::credentials::{Credential, Credentials};

/// How registries are spoken to. The default is what a node has: containerd's `certs.d`, TLS but on loopback.
#[derive(Clone)]
pub struct Options {
    /// Speak plain HTTP, on the registry itself; loopback addresses get it unasked.
    pub plain_http: bool,
    /// Do not check the registry's certificate.
    pub insecure_skip_verify: bool,
    /// A PEM file of certificate authorities that are trusted beside the usual ones.
    pub ca: Option<PathBuf>,
    /// A folder of `HOST/hosts.toml` files, as containerd reads them.
    pub certs_d: Option<PathBuf>,
    /// Where logins are looked up; those of the user by default.
    pub credentials: Credentials,
    /// The login to use in place of those.
    pub credential: Option<Credential>,
    /// How long is waited, and how often tried.
    pub patience: Patience,
    /// Who is told of progress and of waiting.
    pub watch: Arc<dyn Watch>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            plain_http: false,
            insecure_skip_verify: false,
            ca: None,
            certs_d: Some(PathBuf::from("/etc/containerd/certs.d")),
            credentials: Credentials::of_user(),
            credential: None,
            patience: Patience::default(),
            watch: Arc::new(Silent),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("plain_http", &self.plain_http)
            .field("insecure_skip_verify", &self.insecure_skip_verify)
            .field("ca", &self.ca)
            .field("certs_d", &self.certs_d)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

/// How long is waited for a registry, and how often it is tried.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a connection, TLS included.
    pub connect: Duration,
    /// For the next byte of an answer or of its body; `None` waits for ever.
    pub silence: Option<Duration>,
    /// For a registry to take in a blob that was sent, which it may copy to another store first.
    pub commit: Option<Duration>,
    /// How often a request is tried in all. A blob of which a MiB came in the meantime starts to count again.
    pub attempts: usize,
    /// Before the second attempt; the pause doubles with each further one and has jitter.
    pub first_wait: Duration,
    /// No pause is longer, whatever `Retry-After` says.
    pub longest_wait: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            silence: Some(Duration::from_secs(30)),
            commit: Some(Duration::from_secs(300)),
            attempts: 6,
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(60),
        }
    }
}

/// Who is told what goes on; called from the threads that a [`crate::Registry`] is used from.
pub trait Watch: Send + Sync {
    /// The next attempt is that far away, for this reason.
    fn waits(&self, why: &str, pause: Duration) {
        let _ = (why, pause);
    }

    /// So many further bytes of the blob with this digest came or went.
    fn moved(&self, digest: &str, bytes: u64) {
        let _ = (digest, bytes);
    }
}

/// A [`Watch`] that keeps it to itself.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Watch for Silent {}
