//! Everything that an image consists of, wherever it is: the same walk finds what to pull, what to push and what to keep.

use std::collections::HashMap;

use oci_spec::image::Descriptor;
use wisp_contract::digest::Digest;

use crate::Error;
use crate::blobs::Blobs;
use crate::document::{self, Document};
use crate::image::choose;

/// As many documents as an image of many platforms has, hundredfold.
const MOST_DOCUMENTS: usize = 1 << 10;
/// The same of blobs.
const MOST_BLOBS: usize = 1 << 16;
/// How deep indexes may be nested.
const MAX_DEPTH: usize = 4;

/// Which of an index's manifests are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platforms {
    /// All.
    All,
    /// The one that runs on this machine.
    Here,
}

/// What an image consists of, each once.
#[derive(Debug, Default)]
pub struct Contents {
    /// Configurations and layers.
    pub blobs: Vec<Descriptor>,
    /// Manifests and indexes with their bytes, each after those that it names, as registries want them.
    pub documents: Vec<(Descriptor, Vec<u8>)>,
    /// Manifests and indexes that were not to be had.
    pub missing: Vec<Descriptor>,
}

impl Contents {
    /// Walks from a manifest or index; `fetch` gives a document, or `None` where it is not to be had.
    ///
    /// # Errors
    /// Those of `fetch`, and if a document makes no sense or there are more than any honest image has.
    pub fn of<E: From<Error>>(
        target: &Descriptor,
        platforms: Platforms,
        fetch: impl FnMut(&Descriptor) -> Result<Option<Vec<u8>>, E>,
    ) -> Result<Self, E> {
        let mut walk = Walk { platforms, fetch, seen: HashMap::new(), contents: Self::default() };
        walk.document(target, 0)?;
        Ok(walk.contents)
    }

    /// What of an image is in a store. What is not there is of other platforms.
    ///
    /// # Errors
    /// As [`Contents::of`].
    pub fn in_store(blobs: &Blobs, target: &Descriptor) -> Result<Self, Error> {
        let read = |descriptor: &Descriptor| Ok::<_, Error>(blobs.read(&document::digest(descriptor)?)?);
        let mut contents = Self::of(target, Platforms::All, read)?;
        contents.blobs.retain(|blob| document::digest(blob).is_ok_and(|digest| blobs.path(&digest).exists()));
        Ok(contents)
    }

    /// The digests of all that was found.
    pub fn digests(&self) -> impl Iterator<Item = Digest> {
        self.descriptors().filter_map(|descriptor| document::digest(descriptor).ok())
    }

    /// All that was found, documents last.
    pub fn descriptors(&self) -> impl Iterator<Item = &Descriptor> {
        self.blobs.iter().chain(self.documents.iter().map(|(descriptor, _)| descriptor))
    }

    fn bound(&self) -> Result<(), Error> {
        if self.documents.len() > MOST_DOCUMENTS || self.blobs.len() + self.missing.len() > MOST_BLOBS {
            return Err(Error::Refused(format!(
                "the image names more than {MOST_DOCUMENTS} manifests or {MOST_BLOBS} blobs"
            )));
        }
        Ok(())
    }
}

/// How far the walk is with something.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// What it names is being walked.
    Open,
    Done,
}

/// A walk that takes what a document names before the document, wherever else it is named.
struct Walk<F> {
    platforms: Platforms,
    fetch: F,
    seen: HashMap<Digest, Seen>,
    contents: Contents,
}

impl<E: From<Error>, F: FnMut(&Descriptor) -> Result<Option<Vec<u8>>, E>> Walk<F> {
    fn visit(&mut self, descriptor: &Descriptor, depth: usize) -> Result<(), E> {
        if document::is_document(descriptor) {
            self.document(descriptor, depth)?;
        } else if self.seen.insert(digest(descriptor)?, Seen::Done).is_none() {
            self.contents.blobs.push(descriptor.clone());
        }
        Ok(self.contents.bound()?)
    }

    fn document(&mut self, descriptor: &Descriptor, depth: usize) -> Result<(), E> {
        let digest = digest(descriptor)?;
        match self.seen.get(&digest) {
            Some(Seen::Done) => return Ok(()),
            Some(Seen::Open) => {
                return Err(Error::Refused(format!("the index {digest} leads to itself")).into());
            }
            None if depth >= MAX_DEPTH => {
                let deep = format!("the image's indexes are nested more than {MAX_DEPTH} deep");
                return Err(Error::Refused(deep).into());
            }
            None => self.seen.insert(digest, Seen::Open),
        };
        if let Some(bytes) = (self.fetch)(descriptor)? {
            let document = Document::parse(&bytes).map_err(Error::from)?;
            let named = match (&document, self.platforms) {
                (Document::Index(list), Platforms::Here) => vec![choose(list)?],
                _ => document.names(),
            };
            named.into_iter().try_for_each(|named| self.visit(named, depth + 1))?;
            self.contents.documents.push((descriptor.clone(), bytes));
        } else {
            self.contents.missing.push(descriptor.clone());
        }
        self.seen.insert(digest, Seen::Done);
        Ok(())
    }
}

fn digest(of: &Descriptor) -> Result<Digest, Error> {
    Ok(document::digest(of)?)
}

#[cfg(test)]
mod tests {
    use oci_spec::image::MediaType;
    use serde_json::json;

    use super::*;
    use crate::image::architecture;

    struct Bed {
        _dir: tempfile::TempDir,
        blobs: Blobs,
    }

    impl Bed {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            Self { blobs: Blobs::at(dir.path()), _dir: dir }
        }

        fn manifest(&self, layer: &[u8], architecture: &str) -> Descriptor {
            let config = self.blobs.put(b"{}").unwrap().descriptor(MediaType::ImageConfig);
            let layer = self.blobs.put(layer).unwrap().descriptor(MediaType::ImageLayer);
            let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
            let stored = self.blobs.put(manifest.to_string().as_bytes()).unwrap();
            let mut descriptor = serde_json::to_value(stored.descriptor(MediaType::ImageManifest)).unwrap();
            descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
            serde_json::from_value(descriptor).unwrap()
        }

        fn index(&self, manifests: &[&Descriptor]) -> Descriptor {
            let index = json!({"schemaVersion": 2, "manifests": manifests});
            self.blobs.put(index.to_string().as_bytes()).unwrap().descriptor(MediaType::ImageIndex)
        }

        fn of(&self, target: &Descriptor, platforms: Platforms) -> Result<Contents, Error> {
            Contents::of(target, platforms, |descriptor| {
                Ok::<_, Error>(self.blobs.read(&document::digest(descriptor)?)?)
            })
        }
    }

    #[test]
    fn what_is_named_comes_before_what_names_it_and_each_once() {
        let bed = Bed::new();
        let (here, there) = (bed.manifest(b"layer", architecture()), bed.manifest(b"layer", "s390x"));
        let index = bed.index(&[&here, &there]);
        let contents = bed.of(&index, Platforms::All).unwrap();
        // Both have the same bytes, and so the same digest.
        assert_eq!((contents.blobs.len(), contents.documents.len()), (2, 2));
        assert_eq!(contents.documents[1].0, index);
        let other = bed.manifest(b"another layer", "s390x");
        let index = bed.index(&[&here, &other]);
        assert_eq!(bed.of(&index, Platforms::All).unwrap().descriptors().count(), 6);
        assert_eq!(bed.of(&index, Platforms::Here).unwrap().descriptors().count(), 4);
    }

    #[test]
    fn a_manifest_that_a_nested_index_names_too_comes_before_both() {
        let bed = Bed::new();
        let here = bed.manifest(b"layer", architecture());
        let inner = bed.index(&[&here]);
        let outer = bed.index(&[&here, &inner]);
        let contents = bed.of(&outer, Platforms::All).unwrap();
        let order: Vec<_> = contents.documents.iter().map(|(document, _)| document.digest()).collect();
        assert_eq!(order, [here.digest(), inner.digest(), outer.digest()]);
    }

    #[test]
    fn an_index_that_leads_to_itself_is_refused() {
        let index = Bed::new().index(&[]);
        let names_itself = json!({"schemaVersion": 2, "manifests": [&index]}).to_string();
        // Of a source that does not check digests.
        let fetch = |_: &Descriptor| Ok::<_, Error>(Some(names_itself.clone().into_bytes()));
        let error = Contents::of(&index, Platforms::All, fetch).unwrap_err().to_string();
        assert!(error.contains("leads to itself"), "{error}");
    }

    #[test]
    fn what_is_not_there_is_told() {
        let bed = Bed::new();
        let here = bed.manifest(b"layer", architecture());
        let mut gone = serde_json::to_value(&here).unwrap();
        gone["digest"] = json!(Digest([7; 32]));
        let gone: Descriptor = serde_json::from_value(gone).unwrap();
        let index = bed.index(&[&here, &gone]);
        let contents = Contents::in_store(&bed.blobs, &index).unwrap();
        assert_eq!(contents.missing, [gone]);
        assert_eq!(contents.digests().count(), 4);
    }

    #[test]
    fn indexes_without_end_are_refused() {
        let bed = Bed::new();
        let mut inner = bed.manifest(b"layer", architecture());
        for _ in 0..6 {
            inner = bed.index(&[&inner]);
        }
        for platforms in [Platforms::All, Platforms::Here] {
            assert!(bed.of(&inner, platforms).unwrap_err().to_string().contains("nested more than"));
        }
        let many: Vec<_> = (0..1100_u32)
            .map(|n| {
                let manifest = json!({"schemaVersion": 2, "n": n, "manifests": []});
                bed.blobs.put(manifest.to_string().as_bytes()).unwrap().descriptor(MediaType::ImageIndex)
            })
            .collect();
        let index = bed.index(&many.iter().collect::<Vec<_>>());
        assert!(bed.of(&index, Platforms::All).unwrap_err().to_string().contains("more than 1024 manifests"));
    }
}
