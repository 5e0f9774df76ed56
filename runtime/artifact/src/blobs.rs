//! containerd's content store: one file a blob, called by its digest, on the node's own disk.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};
use wisp_contract::digest::Digest;

use crate::image::{Candidate, Document, Error as ImageError};

/// The largest manifest or configuration that is read; the distribution specification lets registries refuse larger ones.
const MAX_BYTES: u64 = 4 << 20;
/// How deep indexes may be nested.
const MAX_DEPTH: u32 = 4;

/// Why a blob is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("{0} cannot be read")]
    Io(PathBuf, #[source] io::Error),
    /// It is larger than any manifest or configuration.
    #[error("{0} is larger than {MAX_BYTES} bytes, which no manifest or configuration is")]
    TooLarge(PathBuf),
    /// It is not what its name says.
    #[error("{0} is not what its digest says; remove the image and pull it again")]
    Altered(PathBuf),
}

/// The blobs.
#[derive(Debug)]
pub struct Blobs {
    root: PathBuf,
}

impl Blobs {
    /// The store with this root, as containerd's plugin `io.containerd.content.v1.content` exports it.
    #[must_use]
    pub fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// Where a blob is, if it is there.
    #[must_use]
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    /// A small blob, checked against its digest; `None` if it is not there.
    ///
    /// # Errors
    /// If it is no such blob.
    pub fn read(&self, digest: &Digest) -> Result<Option<Vec<u8>>, Error> {
        let path = self.path(digest);
        let mut bytes = Vec::new();
        match File::open(&path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::Io(path, error)),
        }
        if bytes.len() as u64 > MAX_BYTES {
            return Err(Error::TooLarge(path));
        }
        if <[u8; 32]>::from(Sha256::digest(&bytes)) != digest.0 {
            return Err(Error::Altered(path));
        }
        Ok(Some(bytes))
    }

    /// The images that `target` leads to and that have this configuration. What an index names and the node does not have
    /// is of another platform.
    ///
    /// # Errors
    /// If what is there cannot be read, or the target itself is no image.
    pub fn candidates(&self, target: &Digest, config: &Digest) -> Result<Vec<Candidate>, crate::Error> {
        let mut found = Vec::new();
        let mut level = vec![*target];
        for _ in 0..MAX_DEPTH {
            let mut next = Vec::new();
            for digest in level {
                let Some(bytes) = self.read(&digest)? else { continue };
                match Document::parse(&bytes) {
                    Ok(Document::Index(digests)) => next.extend(digests),
                    Ok(Document::Manifest(image)) if image.config == *config => {
                        found.push(Candidate { target: *target, manifest: digest, image });
                    }
                    // Another platform's, or of a form that only others read.
                    Ok(Document::Manifest(_)) | Err(ImageError::Manifest(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            level = next;
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    struct Bed {
        dir: tempfile::TempDir,
        blobs: Blobs,
    }

    impl Bed {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(dir.path().join("blobs/sha256")).unwrap();
            let blobs = Blobs::at(dir.path().to_owned());
            Self { dir, blobs }
        }

        fn keep(&self, bytes: &[u8]) -> Digest {
            let digest = Digest(Sha256::digest(bytes).into());
            std::fs::write(self.blobs.path(&digest), bytes).unwrap();
            digest
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
    fn a_blob_that_is_not_what_its_digest_says_is_refused() {
        let bed = Bed::new();
        let digest = bed.keep(b"{}");
        assert_eq!(bed.blobs.read(&digest).unwrap().unwrap(), b"{}");
        assert_eq!(bed.blobs.read(&Digest([0; 32])).unwrap(), None);
        std::fs::write(bed.blobs.path(&digest), b"[]").unwrap();
        assert!(matches!(bed.blobs.read(&digest), Err(Error::Altered(_))));
        assert!(bed.dir.path().join("blobs/sha256").join(digest.hex()).exists());
    }

    #[test]
    fn a_blob_that_no_manifest_can_be_is_not_read() {
        let bed = Bed::new();
        let path = bed.blobs.path(&Digest([1; 32]));
        File::create(&path).unwrap().set_len(MAX_BYTES + 1).unwrap();
        assert!(matches!(bed.blobs.read(&Digest([1; 32])), Err(Error::TooLarge(_))));
    }

    #[test]
    fn an_index_leads_to_the_manifest_with_the_containers_configuration() {
        let bed = Bed::new();
        let (config, other) = (bed.keep(b"{}"), Digest([3; 32]));
        let (meant, another) = (bed.manifest(&config, 1), bed.manifest(&other, 2));
        let index = bed.index(&[another, Digest([4; 32]), meant]);
        for target in [index, bed.index(&[index])] {
            let found = bed.blobs.candidates(&target, &config).unwrap();
            assert_eq!(found.len(), 1);
            assert_eq!((found[0].target, found[0].manifest), (target, meant));
            assert_eq!(found[0].image.wasm[0].digest, Digest([1; 32]));
        }
    }
}
