//! The client as tests use it: quick to give up, with nothing of the user who runs them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use oci_spec::distribution::Reference;
use oci_spec::image::{Descriptor, Digest, MediaType};
use sha2::{Digest as _, Sha256};
use wisp_registry::{Credential, Credentials, Options, Patience, Registry, Watch};

use crate::server::Server;

/// No pause is longer; longer than any that is not asked for.
pub(crate) const LONGEST: Duration = Duration::from_millis(40);

/// What was told.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) waits: Mutex<Vec<(String, Duration)>>,
    pub(crate) moved: Mutex<u64>,
}

impl Watch for Told {
    fn waits(&self, why: &str, pause: Duration) {
        self.waits.lock().unwrap().push((why.to_owned(), pause));
    }

    fn moved(&self, _: &str, bytes: u64) {
        *self.moved.lock().unwrap() += bytes;
    }
}

pub(crate) fn options() -> Options {
    let patience = Patience {
        silence: Some(Duration::from_millis(300)),
        first_wait: Duration::from_millis(1),
        longest_wait: LONGEST,
        ..Patience::default()
    };
    Options { certs_d: None, credentials: Credentials::in_files(&[]), patience, ..Options::default() }
}

/// Options whose progress can be looked at.
pub(crate) fn watched() -> (Options, Arc<Told>) {
    let told = Arc::new(Told::default());
    (Options { watch: told.clone(), ..options() }, told)
}

pub(crate) fn with_login(password: &str) -> Options {
    let credential = Credential::Login { user: "ada".to_owned(), password: password.to_owned() };
    Options { credential: Some(credential), ..options() }
}

/// `team/app:1` of a server.
pub(crate) fn app(server: &Server) -> Reference {
    format!("{}/team/app:1", server.name()).parse().unwrap()
}

pub(crate) fn registry(server: &Server, options: &Options) -> Registry {
    Registry::of(&app(server), options).unwrap()
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

pub(crate) fn descriptor(bytes: &[u8]) -> Descriptor {
    let digest: Digest = digest(bytes).parse().unwrap();
    Descriptor::new(MediaType::ImageLayer, bytes.len() as u64, digest)
}

/// Bytes that differ from place to place.
pub(crate) fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + at / 251) as u8).collect()
}

/// Pulls a blob; what was written, and how it ended in words.
pub(crate) fn pull(server: &Server, blob: &Descriptor, options: &Options) -> (Vec<u8>, Result<(), String>) {
    let mut into = Vec::new();
    let done = registry(server, options).blob(&app(server), blob, &mut into);
    (into, done.map_err(|error| error.to_string()))
}
