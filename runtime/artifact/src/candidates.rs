//! The images of containerd's content store that have a container's configuration.

use wisp_contract::digest::Digest;
use wisp_images::blobs::Blobs;
use wisp_images::document::{self, Document};

use crate::Error;
use crate::image::{Candidate, Image};

/// How deep indexes may be nested.
const MAX_DEPTH: u32 = 4;

/// The images that `target` leads to and that have this configuration. What an index names and the node does not have
/// is of another platform.
///
/// # Errors
/// If what is there cannot be read, or the target itself is no image.
pub(crate) fn of(blobs: &Blobs, target: &Digest, config: &Digest) -> Result<Vec<Candidate>, Error> {
    let mut found = Vec::new();
    let mut level = vec![*target];
    for _ in 0..MAX_DEPTH {
        let mut next = Vec::new();
        for digest in level {
            let Some(bytes) = blobs.read(&digest)? else { continue };
            match Document::parse(&bytes) {
                Ok(Document::Index(list)) => {
                    next.extend(list.iter().filter_map(|entry| document::digest(entry).ok()));
                }
                Ok(Document::Manifest(manifest)) => {
                    let image = Image::of(*manifest)?;
                    if image.config == *config {
                        found.push(Candidate { target: *target, manifest: digest, image });
                    }
                }
                // Of a form that only others read.
                Err(_) => {}
            }
        }
        level = next;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    struct Bed {
        _dir: tempfile::TempDir,
        blobs: Blobs,
    }

    impl Bed {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let blobs = Blobs::at(dir.path());
            Self { _dir: dir, blobs }
        }

        fn keep(&self, bytes: &[u8]) -> Digest {
            self.blobs.put(bytes).unwrap().digest
        }

        fn manifest(&self, config: &Digest, layer: u8) -> Digest {
            let layer = json!({"mediaType": "application/wasm", "digest": Digest([layer; 32]), "size": 8});
            let config =
                json!({"mediaType": "application/vnd.wasm.config.v0+json", "digest": config, "size": 2});
            self.keep(json!({"schemaVersion": 2, "config": config, "layers": [layer]}).to_string().as_bytes())
        }

        fn index(&self, manifests: &[Digest]) -> Digest {
            let entry = |digest| json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 9});
            let manifests: Vec<_> = manifests.iter().map(entry).collect();
            self.keep(json!({"schemaVersion": 2, "manifests": manifests}).to_string().as_bytes())
        }
    }

    #[test]
    fn an_index_leads_to_the_manifest_with_the_containers_configuration() {
        let bed = Bed::new();
        let (config, other) = (bed.keep(b"{}"), Digest([3; 32]));
        let (meant, another) = (bed.manifest(&config, 1), bed.manifest(&other, 2));
        let index = bed.index(&[another, Digest([4; 32]), meant]);
        for target in [index, bed.index(&[index])] {
            let found = of(&bed.blobs, &target, &config).unwrap();
            assert_eq!(found.len(), 1);
            assert_eq!((found[0].target, found[0].manifest), (target, meant));
            assert_eq!(found[0].image.wasm[0].digest, Digest([1; 32]));
        }
    }
}
