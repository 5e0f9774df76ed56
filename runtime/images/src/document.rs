//! Manifests and indexes: the documents that say which blobs an image has.
//!
//! See the OCI image specification (`manifest.md`, `image-index.md`) and the CNCF's Wasm OCI artifact layout
//! (<https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/>).

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use wisp_contract::digest::Digest;

/// The media types of a layer that is a Wasm module or component: the CNCF's, and the two that came before it.
pub const WASM: [&str; 3] = [
    "application/wasm",
    "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
    "application/vnd.wasm.content.layer.v1+wasm",
];
/// The media type of the CNCF's configuration.
pub const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
/// The annotation with a layer's file name.
pub const TITLE: &str = "org.opencontainers.image.title";
/// How the media types of layers begin that are unpacked.
const FILES: [&str; 2] = ["application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs."];

/// Why a document makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither a manifest nor an index.
    #[error("the image's manifest cannot be read: {0}")]
    Manifest(String),
    /// A configuration of no known form.
    #[error("the image's configuration cannot be read: {0}")]
    Config(String),
}

/// A manifest, or an index of manifests.
#[derive(Debug)]
pub enum Document {
    /// An index: what it lists.
    Index(Vec<Descriptor>),
    /// A manifest.
    Manifest(Box<Manifest>),
}

/// What of a manifest matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its configuration.
    pub config: Descriptor,
    /// Its Wasm layers, in their order.
    pub wasm: Vec<Wasm>,
    /// Its layers that are unpacked, in their order.
    pub files: Vec<Descriptor>,
    /// Every layer, in their order.
    pub layers: Vec<Descriptor>,
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
            return Ok(Self::Index(index.manifests().clone()));
        }
        let manifest: ImageManifest =
            serde_json::from_slice(bytes).map_err(|error| Error::Manifest(error.to_string()))?;
        let wasm = manifest.layers().iter().filter(|layer| is_wasm(layer)).map(Wasm::of);
        Ok(Self::Manifest(Box::new(Manifest {
            config: manifest.config().clone(),
            wasm: wasm.collect::<Result<_, _>>()?,
            files: manifest.layers().iter().filter(|layer| is_files(layer)).cloned().collect(),
            layers: manifest.layers().clone(),
        })))
    }

    /// What the document names.
    #[must_use]
    pub fn names(&self) -> Vec<&Descriptor> {
        match self {
            Self::Index(manifests) => manifests.iter().collect(),
            Self::Manifest(manifest) => std::iter::once(&manifest.config).chain(&manifest.layers).collect(),
        }
    }
}

/// The digest of what a descriptor describes.
///
/// # Errors
/// If it is of another algorithm than SHA-256.
pub fn digest(of: &Descriptor) -> Result<Digest, Error> {
    of.digest().as_ref().parse().map_err(|error| Error::Manifest(format!("{error}")))
}

/// Whether a descriptor is, by its media type, of a manifest or an index.
#[must_use]
pub fn is_document(descriptor: &Descriptor) -> bool {
    let media_type = descriptor.media_type().to_string();
    ["manifest.v1+json", "manifest.v2+json", "image.index.v1+json", "manifest.list.v2+json"]
        .iter()
        .any(|end| media_type.ends_with(end))
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(byte: u8) -> Digest {
        Digest([byte; 32])
    }

    fn descriptor(media_type: &str, byte: u8, title: Option<&str>) -> Value {
        let mut descriptor = json!({"mediaType": media_type, "digest": of(byte), "size": 8});
        if let Some(title) = title {
            descriptor["annotations"] = json!({TITLE: title});
        }
        descriptor
    }

    fn parse(layers: &[Value]) -> Result<Manifest, Error> {
        let config = descriptor(WASM_CONFIG, 9, None);
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
        match Document::parse(&serde_json::to_vec(&manifest).unwrap())? {
            Document::Manifest(manifest) => Ok(*manifest),
            Document::Index(_) => panic!("a manifest was taken for an index"),
        }
    }

    #[test]
    fn all_three_media_types_are_wasm_layers_with_their_titles() {
        for media_type in WASM {
            let manifest = parse(&[descriptor(media_type, 1, Some("app.wasm"))]).unwrap();
            assert_eq!(digest(&manifest.config).unwrap(), of(9));
            assert_eq!(manifest.wasm, [Wasm { title: Some("app.wasm".into()), digest: of(1) }]);
            assert!(manifest.files.is_empty());
        }
    }

    #[test]
    fn layers_that_are_unpacked_are_told_from_those_that_nobody_reads() {
        let tar = descriptor("application/vnd.oci.image.layer.v1.tar+gzip", 2, None);
        let note = descriptor("text/plain", 3, Some("README"));
        let wasm = descriptor(WASM[0], 1, None);
        assert!(parse(&[wasm.clone(), note.clone()]).unwrap().files.is_empty());
        let mixed = parse(&[tar, wasm, note]).unwrap();
        assert_eq!((mixed.files.len(), mixed.wasm.len(), mixed.layers.len()), (1, 1, 3));
    }

    #[test]
    fn an_index_is_told_from_a_manifest() {
        let entry = descriptor("application/vnd.oci.image.manifest.v1+json", 7, None);
        let index = json!({"schemaVersion": 2, "manifests": [entry]});
        let Document::Index(entries) = Document::parse(&serde_json::to_vec(&index).unwrap()).unwrap() else {
            panic!("an index was taken for a manifest");
        };
        assert_eq!(entries.len(), 1);
        assert_eq!(digest(&entries[0]).unwrap(), of(7));
        assert!(is_document(&entries[0]));
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
}
