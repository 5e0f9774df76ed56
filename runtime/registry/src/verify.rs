//! Digests: what came is what was asked for.

use std::str::FromStr;

use oci_spec::image::{Digest, DigestAlgorithm};
use sha2::{Digest as _, Sha256};

use crate::Error;

/// A running digest of what comes.
#[derive(Clone, Default)]
pub(crate) struct Hasher(Sha256);

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// `sha256:…`.
    pub(crate) fn finish(self) -> String {
        let hex: String = self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sha256:{hex}")
    }
}

/// `sha256:…` of bytes.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let mut hasher = Hasher::default();
    hasher.update(bytes);
    hasher.finish()
}

/// A digest whose algorithm can be checked.
pub(crate) fn checkable(text: &str, what: &str) -> Result<Digest, Error> {
    let known = Digest::from_str(text).ok().filter(|digest| *digest.algorithm() == DigestAlgorithm::Sha256);
    known.ok_or_else(|| Error::Algorithm { what: what.to_owned(), digest: crate::error::clean(text) })
}
