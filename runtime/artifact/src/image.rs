//! Which image a container means.

use serde::Deserialize;
use wisp_contract::digest::Digest;
use wisp_images::document::{self, Manifest, Wasm};

use crate::containerd::Asked;

/// Why there is no image that could be run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Several images are equally meant.
    #[error(
        "{0} different images of this node share the configuration {1}, which does not name its layers, so that nobody can \
         tell which of them is meant; push the Wasm with a configuration of the CNCF's form \
         (application/vnd.wasm.config.v0+json, as wkg does), or, from containerd 2.0 on, name the image by its digest"
    )]
    Ambiguous(usize, Digest),
}

/// What of a manifest matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The digest of its configuration.
    pub config: Digest,
    /// Its Wasm layers, in their order.
    pub wasm: Vec<Wasm>,
    /// Whether it has layers that are unpacked.
    pub has_files: bool,
}

impl Image {
    /// What a manifest says.
    ///
    /// # Errors
    /// If its configuration's digest is of another algorithm than SHA-256.
    pub fn of(manifest: Manifest) -> Result<Self, document::Error> {
        Ok(Self {
            config: document::digest(&manifest.config)?,
            has_files: !manifest.files.is_empty(),
            wasm: manifest.wasm,
        })
    }
}

/// What an image's configuration says of its layers.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Config {
    /// All layers: a CNCF Wasm configuration.
    layer_digests: Vec<String>,
    /// Layers without their compression: an OCI image configuration.
    rootfs: RootFs,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RootFs {
    diff_ids: Vec<String>,
}

impl Config {
    /// Reads a configuration of whatever form; one that says nothing of layers is empty.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_default()
    }

    /// Whether the digest of this configuration is also a promise of this layer.
    fn names(&self, layer: &Wasm) -> bool {
        let digest = layer.digest.to_string();
        self.layer_digests.iter().chain(&self.rootfs.diff_ids).any(|named| *named == digest)
    }

    /// Whether no other image with this configuration could mean something else: one layer, which is named here.
    #[must_use]
    pub fn settles(&self, candidates: &[Candidate]) -> bool {
        matches!(candidates, [Candidate { image, .. }] if matches!(image.wasm.as_slice(), [layer] if self.names(layer)))
    }
}

/// An image that has the configuration that is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// What the image's name leads to: the manifest, or the index that has it.
    pub target: Digest,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// The image.
    pub image: Image,
}

/// Which of the images with the container's configuration the container means; `None` if it has no Wasm layers.
///
/// # Errors
/// If that cannot be told.
pub fn pick(candidates: Vec<Candidate>, config: &Config, asked: &Asked) -> Result<Option<Image>, Error> {
    let mut candidates = candidates;
    if candidates.iter().any(|candidate| candidate.image.wasm.iter().any(|layer| config.names(layer))) {
        candidates.retain(|candidate| candidate.image.wasm.iter().all(|layer| config.names(layer)));
    }
    if let Some(asked) = asked.reference
        && candidates.iter().any(|candidate| candidate.is(&asked))
    {
        candidates.retain(|candidate| candidate.is(&asked));
    }
    let mut images: Vec<Image> = Vec::new();
    for candidate in candidates {
        if !images.contains(&candidate.image) {
            images.push(candidate.image);
        }
    }
    match images.len() {
        0 | 1 => Ok(images.pop().filter(|image| !image.wasm.is_empty())),
        several => Err(Error::Ambiguous(several, asked.config)),
    }
}

impl Candidate {
    fn is(&self, digest: &Digest) -> bool {
        self.target == *digest || self.manifest == *digest
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn digest(byte: u8) -> Digest {
        Digest([byte; 32])
    }

    fn candidate(byte: u8, layers: &[u8]) -> Candidate {
        let wasm = layers.iter().map(|layer| Wasm { title: None, digest: digest(*layer) }).collect();
        let image = Image { config: digest(9), wasm, has_files: false };
        Candidate { target: digest(byte), manifest: digest(byte), image }
    }

    fn asked(reference: Option<Digest>) -> Asked {
        Asked { config: digest(9), reference }
    }

    #[test]
    fn a_configuration_that_names_its_layers_decides() {
        let config = Config::parse(&serde_json::to_vec(&json!({"layerDigests": [digest(1)]})).unwrap());
        assert!(config.settles(&[candidate(5, &[1])]));
        assert!(!config.settles(&[candidate(5, &[2])]) && !config.settles(&[]));
        let picked = pick(vec![candidate(5, &[1]), candidate(6, &[2])], &config, &asked(None)).unwrap();
        assert_eq!(picked.unwrap().wasm[0].digest, digest(1));
    }

    #[test]
    fn images_that_share_a_configuration_without_layers_are_told_apart_by_digest_only() {
        let config = Config::parse(b"{}");
        let two = || vec![candidate(5, &[1]), candidate(6, &[2]), candidate(7, &[2])];
        let error = pick(two(), &config, &asked(None)).unwrap_err().to_string();
        assert!(error.starts_with("2 different images"), "{error}");
        let picked = pick(two(), &config, &asked(Some(digest(5)))).unwrap().unwrap();
        assert_eq!(picked.wasm[0].digest, digest(1));
        let alone = pick(vec![candidate(6, &[2]), candidate(7, &[2])], &config, &asked(None)).unwrap();
        assert_eq!(alone.unwrap().wasm[0].digest, digest(2));
    }

    #[test]
    fn an_image_without_wasm_layers_is_none() {
        assert_eq!(pick(vec![candidate(5, &[])], &Config::default(), &asked(None)).unwrap(), None);
        assert_eq!(pick(Vec::new(), &Config::default(), &asked(None)).unwrap(), None);
    }
}
