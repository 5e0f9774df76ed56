//! Manifests, indexes and configurations of images, and which image a container means.
//!
//! See the OCI image specification (`manifest.md`, `image-index.md`) and the CNCF's Wasm OCI artifact layout
//! (<https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/>).

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use serde::Deserialize;
use wisp_contract::digest::Digest;

use crate::containerd::Asked;

/// The media types of a layer that is a Wasm module or component: the CNCF's, and the two that came before it.
const WASM: [&str; 3] = [
    "application/wasm",
    "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
    "application/vnd.wasm.content.layer.v1+wasm",
];
/// How the media types of layers begin that are unpacked.
const FILES: [&str; 2] = ["application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs."];
/// The annotation with a layer's file name.
const TITLE: &str = "org.opencontainers.image.title";

/// Why there is no image that could be run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither a manifest nor an index.
    #[error("the image's manifest cannot be read: {0}")]
    Manifest(String),
    /// Several images are equally meant.
    #[error(
        "{0} different images of this node share the configuration {1}, which does not name its layers, so that nobody can \
         tell which of them is meant; push the Wasm with a configuration of the CNCF's form \
         (application/vnd.wasm.config.v0+json, as wkg does), or, from containerd 2.0 on, name the image by its digest"
    )]
    Ambiguous(usize, Digest),
}

/// A manifest, or an index of manifests.
#[derive(Debug)]
pub enum Document {
    /// An index: the digests of its manifests.
    Index(Vec<Digest>),
    /// A manifest.
    Manifest(Image),
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

/// A Wasm layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wasm {
    /// Its file name.
    pub title: Option<String>,
    /// The SHA-256 of the Wasm.
    pub digest: Digest,
}

impl Document {
    /// Reads a manifest or an index, of OCI's form or Docker's.
    ///
    /// # Errors
    /// If it is neither.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if let Ok(index) = serde_json::from_slice::<ImageIndex>(bytes) {
            let digests = index.manifests().iter().filter_map(|entry| entry.digest().as_ref().parse().ok());
            return Ok(Self::Index(digests.collect()));
        }
        let manifest: ImageManifest =
            serde_json::from_slice(bytes).map_err(|error| Error::Manifest(error.to_string()))?;
        let (wasm, others): (Vec<_>, Vec<_>) = manifest.layers().iter().partition(|layer| is_wasm(layer));
        Ok(Self::Manifest(Image {
            config: digest(manifest.config())?,
            wasm: wasm.into_iter().map(Wasm::of).collect::<Result<_, _>>()?,
            has_files: others.into_iter().any(is_files),
        }))
    }
}

impl Wasm {
    fn of(layer: &Descriptor) -> Result<Self, Error> {
        let title = layer.annotations().as_ref().and_then(|annotations| annotations.get(TITLE));
        Ok(Self { title: title.filter(|title| !title.is_empty()).cloned(), digest: digest(layer)? })
    }
}

fn is_wasm(layer: &Descriptor) -> bool {
    WASM.contains(&layer.media_type().to_string().as_str())
}

fn is_files(layer: &Descriptor) -> bool {
    let media_type = layer.media_type().to_string();
    FILES.iter().any(|prefix| media_type.starts_with(prefix))
}

fn digest(of: &Descriptor) -> Result<Digest, Error> {
    of.digest().as_ref().parse().map_err(|error| Error::Manifest(format!("{error}")))
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
    use serde_json::{Value, json};

    use super::*;

    fn digest(byte: u8) -> Digest {
        Digest([byte; 32])
    }

    fn descriptor(media_type: &str, byte: u8, title: Option<&str>) -> Value {
        let mut descriptor = json!({"mediaType": media_type, "digest": digest(byte), "size": 8});
        if let Some(title) = title {
            descriptor["annotations"] = json!({TITLE: title});
        }
        descriptor
    }

    fn parse(layers: &[Value]) -> Result<Image, Error> {
        let config = descriptor("application/vnd.wasm.config.v0+json", 9, None);
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
        match Document::parse(&serde_json::to_vec(&manifest).unwrap())? {
            Document::Manifest(image) => Ok(image),
            Document::Index(_) => panic!("a manifest was taken for an index"),
        }
    }

    fn candidate(byte: u8, layers: &[u8]) -> Candidate {
        let layers: Vec<_> = layers.iter().map(|layer| descriptor(WASM[0], *layer, None)).collect();
        Candidate { target: digest(byte), manifest: digest(byte), image: parse(&layers).unwrap() }
    }

    fn asked(reference: Option<Digest>) -> Asked {
        Asked { config: digest(9), reference }
    }

    #[test]
    fn all_three_media_types_are_wasm_layers_with_their_titles() {
        for media_type in WASM {
            let image = parse(&[descriptor(media_type, 1, Some("app.wasm"))]).unwrap();
            assert_eq!(image.config, digest(9));
            assert_eq!(image.wasm, [Wasm { title: Some("app.wasm".into()), digest: digest(1) }]);
            assert!(!image.has_files);
        }
    }

    #[test]
    fn layers_that_are_unpacked_are_told_from_those_that_nobody_reads() {
        let tar = descriptor("application/vnd.oci.image.layer.v1.tar+gzip", 2, None);
        let note = descriptor("text/plain", 3, Some("README"));
        let wasm = descriptor(WASM[0], 1, None);
        assert!(!parse(&[wasm.clone(), note.clone()]).unwrap().has_files);
        let mixed = parse(&[tar, wasm, note]).unwrap();
        assert_eq!((mixed.has_files, mixed.wasm.len()), (true, 1));
    }

    #[test]
    fn an_index_is_told_from_a_manifest() {
        let entry = descriptor("application/vnd.oci.image.manifest.v1+json", 7, None);
        let index = json!({"schemaVersion": 2, "manifests": [entry]});
        let Document::Index(digests) = Document::parse(&serde_json::to_vec(&index).unwrap()).unwrap() else {
            panic!("an index was taken for a manifest");
        };
        assert_eq!(digests, [digest(7)]);
    }

    #[test]
    fn what_is_neither_is_refused_and_so_is_a_digest_of_another_algorithm() {
        for bytes in [&b""[..], b"{}", b"[]", b"{\"config\":1,\"layers\":2}"] {
            Document::parse(bytes).unwrap_err();
        }
        let mut layer = descriptor(WASM[0], 1, None);
        layer["digest"] = json!(format!("sha512:{}", "0".repeat(128)));
        assert!(parse(&[layer]).unwrap_err().to_string().contains("sha256"));
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
