//! What an image is: the manifest that a name leads to on this machine, and its configuration.

use oci_spec::image::{Arch, Config, Descriptor, ImageConfiguration, Os, Platform};
use wisp_contract::digest::Digest;

use crate::blobs::Blobs;
use crate::document::{self, Document, Manifest};
use crate::{Error, unpack};

/// How deep indexes may be nested.
const MAX_DEPTH: u32 = 4;
/// How many manifests one index may list; the largest in use have some twenty.
const MAX_MANIFESTS: usize = 256;

/// An image that can be run here.
#[derive(Debug)]
pub struct Image {
    /// The digest of its manifest.
    pub digest: Digest,
    /// Its manifest.
    pub manifest: Manifest,
    configuration: Option<ImageConfiguration>,
}

impl Image {
    /// The image that `target`, a manifest or an index, leads to on this machine: one for this architecture's Linux before one
    /// for Wasm, as kubelet's node chooses.
    ///
    /// # Errors
    /// If there is none, or if a document makes no sense.
    pub fn open(blobs: &Blobs, target: &Descriptor) -> Result<Self, Error> {
        Self::at(blobs, document::digest(target)?)
    }

    /// The same of a manifest or index with this digest.
    ///
    /// # Errors
    /// As [`Image::open`].
    pub fn at(blobs: &Blobs, mut digest: Digest) -> Result<Self, Error> {
        for _ in 0..MAX_DEPTH {
            let bytes = blobs.read(&digest)?.ok_or(Error::Missing(digest))?;
            match Document::parse(&bytes)? {
                Document::Manifest(manifest) => return Self::with_config(blobs, digest, *manifest),
                Document::Index(list) => digest = document::digest(choose(&list)?)?,
            }
        }
        Err(Error::Refused(format!(
            "the index {digest} leads to further indexes, more than {MAX_DEPTH} deep"
        )))
    }

    fn with_config(blobs: &Blobs, digest: Digest, manifest: Manifest) -> Result<Self, Error> {
        let configuration = if manifest.files.is_empty() {
            None
        } else {
            let config = document::digest(&manifest.config)?;
            let bytes = blobs.read(&config)?.ok_or(Error::Missing(config))?;
            let parsed = serde_json::from_slice(&bytes);
            Some(parsed.map_err(|error| document::Error::Config(error.to_string()))?)
        };
        Ok(Self { digest, manifest, configuration })
    }

    /// What the image says of its process; nothing for one that has no files.
    #[must_use]
    pub fn config(&self) -> Option<&Config> {
        self.configuration.as_ref()?.config().as_ref()
    }

    /// When the image was made, as its configuration says.
    #[must_use]
    pub fn created(&self) -> Option<&str> {
        self.configuration.as_ref()?.created().as_deref()
    }

    /// Unpacks the image's files into an empty folder.
    ///
    /// # Errors
    /// If a layer is not what the image says, leads out of the folder, or is beyond the limits.
    pub fn unpack(&self, blobs: &Blobs, folder: &std::path::Path) -> Result<(), Error> {
        let no_ids = Vec::new();
        let diff_ids = self.configuration.as_ref().map_or(&no_ids, |config| config.rootfs().diff_ids());
        // Wasm layers of an image that has both stand in the list too, each as itself.
        let ids = |index: usize| diff_ids.get(index).and_then(|id| id.parse().ok());
        let layers = self.manifest.layers.iter().enumerate();
        let files = layers.filter(|(_, layer)| self.manifest.files.contains(layer));
        unpack::all(blobs, files.map(|(index, layer)| (layer, ids(index))), folder, unpack::Limits::default())
    }
}

/// The architecture of this machine in Go's words.
#[must_use]
pub fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

/// The entry of an index that runs on this machine: for its own Linux, then for Wasm, then one that does not say.
pub(crate) fn choose(list: &[Descriptor]) -> Result<&Descriptor, Error> {
    if list.len() > MAX_MANIFESTS {
        return Err(Error::Refused(format!(
            "the index lists {} manifests; at most {MAX_MANIFESTS} were expected",
            list.len()
        )));
    }
    let ranked = list.iter().filter_map(|entry| Some((rank(entry.platform().as_ref())?, entry)));
    // The first of equals.
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, entry)| entry).ok_or_else(|| Error::Platform {
        there: if list.is_empty() { "no platform".into() } else { platforms(list) },
        here: architecture(),
    })
}

fn rank(platform: Option<&Platform>) -> Option<u8> {
    let Some(platform) = platform else { return Some(2) };
    let (os, architecture_there) = (platform.os().to_string(), platform.architecture().to_string());
    match (os.as_str(), architecture_there.as_str()) {
        ("linux", there) if there == architecture() => Some(0),
        ("wasi" | "wasip1" | "wasip2" | "linux", "wasm" | "wasm32") => Some(1),
        _ => None,
    }
}

fn platforms(list: &[Descriptor]) -> String {
    let name = |platform: &Platform| format!("{}/{}", platform.os(), platform.architecture());
    let mut names: Vec<_> = list.iter().filter_map(|entry| entry.platform().as_ref().map(name)).collect();
    names.dedup();
    names.join(", ")
}

/// A platform of Linux.
#[must_use]
pub(crate) fn linux(architecture: Arch) -> Platform {
    let mut platform = Platform::default();
    platform.set_os(Os::Linux).set_architecture(architecture);
    platform
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(byte: u8, platform: &str) -> Descriptor {
        let digest = Digest([byte; 32]);
        let mut entry =
            json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 9});
        if let Some((os, architecture)) = platform.split_once('/') {
            entry["platform"] = json!({"os": os, "architecture": architecture});
        }
        serde_json::from_value(entry).unwrap()
    }

    #[test]
    fn this_machines_linux_comes_before_wasm_and_wasm_before_what_says_nothing() {
        let here = format!("linux/{}", architecture());
        let list = |platforms: &[&str]| -> Vec<_> {
            (1..).zip(platforms).map(|(byte, platform)| entry(byte, platform)).collect()
        };
        for (platforms, expected) in [
            (&["wasi/wasm", &here][..], 1),
            (&["", "wasip2/wasm"], 1),
            (&["linux/s390x", ""], 1),
            (&["unknown/unknown", "wasi/wasm32", "wasi/wasm"], 1),
        ] {
            let list = list(platforms);
            assert_eq!(choose(&list).unwrap(), &list[expected], "{platforms:?}");
        }
        let error = choose(&list(&["linux/s390x", "windows/amd64"])).unwrap_err().to_string();
        assert!(error.contains("linux/s390x, windows/amd64; expected linux/"), "{error}");
        assert!(choose(&[]).is_err());
    }

    #[test]
    fn an_index_that_leads_to_itself_ends() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::at(dir.path());
        // No index can hold its own digest, so this is the longest way round: each lists the next.
        let mut inner = entry(7, "");
        for _ in 0..6 {
            let index = json!({"schemaVersion": 2, "manifests": [inner]});
            let stored = blobs.put(index.to_string().as_bytes()).unwrap();
            inner = stored.descriptor(oci_spec::image::MediaType::ImageIndex);
        }
        let error = Image::open(&blobs, &inner).unwrap_err().to_string();
        assert!(error.contains("more than 4 deep"), "{error}");
    }

    #[test]
    fn an_index_with_too_many_manifests_and_a_configuration_with_too_many_entries_are_refused() {
        let many: Vec<_> = (0..300).map(|_| entry(1, "wasi/wasm")).collect();
        assert!(choose(&many).unwrap_err().to_string().contains("300 manifests"));
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::at(dir.path());
        let variables: Vec<_> = (0..1_000_000).map(|n| format!("V{n}=")).collect();
        let config = json!({"os": "linux", "architecture": "amd64", "config": {"Env": variables},
            "rootfs": {"type": "layers", "diff_ids": []}});
        let config = blobs.put(config.to_string().as_bytes()).unwrap();
        let layer = json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": Digest([1; 32]), "size": 1});
        let config = config.descriptor(oci_spec::image::MediaType::ImageConfig);
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
        let manifest = blobs.put(manifest.to_string().as_bytes()).unwrap();
        let target = manifest.descriptor(oci_spec::image::MediaType::ImageManifest);
        let error = Image::open(&blobs, &target).unwrap_err().to_string();
        assert!(error.contains("larger than"), "{error}");
    }
}
