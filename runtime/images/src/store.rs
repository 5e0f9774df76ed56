//! A person's own images: one OCI layout whose index gives names to manifests and indexes.
//!
//! Any number of processes use it at once. Who adds blobs holds the content ([`Store::hold`]) until a name leads to them; unnamed
//! blobs are removed only while nobody does. A name is written when what it leads to is on the disk, so that after a power cut it
//! leads to all of it, or is what it was before.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use oci_spec::distribution::Reference;
use oci_spec::image::{Descriptor, ImageIndex};
use tempfile::NamedTempFile;

use crate::Error;
use crate::blobs::{Blobs, MAX_DOCUMENT};
use crate::contents::Contents;
use crate::name::reference;

/// The annotation with an image's whole name, as containerd writes and reads it.
pub const NAME: &str = "io.containerd.image.name";
/// The annotation with an image's name or tag, as the image specification has it.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The fewest digits of a digest that may stand for an image.
const MIN_DIGITS: usize = 6;

/// The store.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    blobs: Blobs,
}

/// An image that has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its whole name.
    pub name: String,
    /// The manifest or index that the name leads to.
    pub target: Descriptor,
}

/// Keeps unnamed blobs from being removed.
#[derive(Debug)]
pub struct Hold {
    _lock: File,
}

impl Store {
    /// The store of who calls: `$XDG_DATA_HOME/wisp/images`, or `~/.local/share/wisp/images`.
    ///
    /// # Errors
    /// If there is no such folder and none can be made.
    pub fn personal() -> Result<Self, Error> {
        let set = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let data = set("XDG_DATA_HOME").or_else(|| Some(set("HOME")?.join(".local/share")));
        let data = data.ok_or_else(|| {
            let why =
                "neither XDG_DATA_HOME nor HOME names a folder for images; set XDG_DATA_HOME to one of yours";
            Error::Io("images".into(), io::Error::other(why))
        })?;
        Self::open(data.join("wisp/images"))
    }

    /// The store at this root, made if it is not there.
    ///
    /// # Errors
    /// Those of making it.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, Error> {
        let root = root.into();
        fs::create_dir_all(root.join("blobs/sha256")).map_err(Error::at(&root))?;
        let layout = root.join("oci-layout");
        // After a power cut it may be empty.
        if !fs::metadata(&layout).is_ok_and(|layout| layout.len() > 0) {
            let layout_file = br#"{"imageLayoutVersion":"1.0.0"}"#;
            place(&root, &layout, layout_file, |_| Ok(())).map_err(Error::at(&layout))?;
        }
        Ok(Self { blobs: Blobs::at(&root), root })
    }

    /// Its blobs.
    #[must_use]
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// Its folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Every image, by name.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn images(&self) -> Result<Vec<Named>, Error> {
        let mut images: Vec<_> = named(&self.root)?;
        images.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(images)
    }

    /// The image that a person means: by its name, by the beginning of its digest, or by the repository and the digest of an image
    /// or of one of its manifests, as registries take it.
    ///
    /// # Errors
    /// If there is none, or several.
    pub fn find(&self, text: &str) -> Result<Named, Error> {
        let images = self.images()?;
        let asked = reference(text);
        let name = asked.as_ref().map(Reference::whole);
        if let Some(image) = images.iter().find(|image| name.as_ref().is_ok_and(|name| image.name == *name)) {
            return Ok(image.clone());
        }
        if let Some((asked, digest)) = asked.as_ref().ok().and_then(|asked| Some((asked, asked.digest()?))) {
            let target = self.manifest(&images, asked, digest)?;
            return target
                .map(|target| Named { name: asked.whole(), target })
                .ok_or_else(|| Error::Unknown(asked.whole()));
        }
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        if digits.len() < MIN_DIGITS || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(asked.map_or_else(|error| error, |asked| Error::Unknown(asked.whole())));
        }
        let mut found = images.into_iter().filter(|image| {
            let digest = image.target.digest().to_string();
            digest.strip_prefix("sha256:").is_some_and(|hex| hex.starts_with(digits))
        });
        let image = found.next().ok_or_else(|| Error::Unknown(text.to_owned()))?;
        match found.any(|other| other.target.digest() != image.target.digest()) {
            true => Err(Error::Ambiguous(text.to_owned())),
            false => Ok(image),
        }
    }

    /// The manifest or index with this digest among those of a repository's images.
    fn manifest(
        &self,
        images: &[Named],
        asked: &Reference,
        digest: &str,
    ) -> Result<Option<Descriptor>, Error> {
        let repository = |name: &Reference| (name.registry().to_owned(), name.repository().to_owned());
        for image in images {
            if reference(&image.name).is_ok_and(|name| repository(&name) == repository(asked)) {
                let contents = Contents::in_store(&self.blobs, &image.target)?;
                let mut documents = contents.documents.into_iter().map(|(document, _)| document);
                if let Some(found) = documents.find(|document| document.digest().as_ref() == digest) {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// Keeps blobs that have no name yet, until it is dropped.
    ///
    /// # Errors
    /// Those of locking.
    pub fn hold(&self) -> Result<Hold, Error> {
        let lock = self.lock("content.lock")?;
        lock.lock_shared().map_err(Error::at(&self.root))?;
        Ok(Hold { _lock: lock })
    }

    /// Gives an image a name, which leads nowhere else afterwards.
    ///
    /// # Errors
    /// Those of writing.
    pub fn tag(&self, name: &Reference, target: &Descriptor) -> Result<(), Error> {
        self.blobs.flush(Contents::in_store(&self.blobs, target)?.digests())?;
        let image = Named { name: name.whole(), target: target.clone() };
        self.change(|images| {
            images.retain(|other| other.name != image.name);
            images.push(image);
        })
    }

    /// Takes an image's name away, and removes the blobs that no other image has; gives the bytes that this freed. Where somebody
    /// adds an image at the same time, the blobs stay until the next removal.
    ///
    /// # Errors
    /// Those of writing.
    pub fn remove(&self, name: &str) -> Result<u64, Error> {
        self.change(|images| images.retain(|other| other.name != name))?;
        self.collect()
    }

    /// Removes blobs that no image has, unless somebody holds the content; gives the bytes that this freed.
    ///
    /// # Errors
    /// Those of removing.
    pub fn collect(&self) -> Result<u64, Error> {
        let lock = self.lock("content.lock")?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(0),
            Err(TryLockError::Error(error)) => return Err(Error::Io(self.root.clone(), error)),
        }
        let mut used = HashSet::new();
        for image in named(&self.root)? {
            used.extend(Contents::in_store(&self.blobs, &image.target)?.digests());
        }
        self.blobs.retain(|digest| used.contains(digest)).map_err(Error::at(&self.root))
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Named>)) -> Result<(), Error> {
        let lock = self.lock("index.lock")?;
        lock.lock().map_err(Error::at(&self.root))?;
        let mut images = named(&self.root)?;
        change(&mut images);
        let path = self.root.join("index.json");
        place(&self.root, &path, &index(&images)?, File::sync_all).map_err(Error::at(path))
    }

    fn lock(&self, name: &str) -> Result<File, Error> {
        let path = self.root.join(name);
        File::options().create(true).truncate(false).write(true).open(&path).map_err(Error::at(path))
    }
}

/// The images that the index of a layout names. An entry without a name of its own has the layout's folder's name.
///
/// # Errors
/// If there is an index and it cannot be read.
pub fn named(root: &Path) -> Result<Vec<Named>, Error> {
    let path = root.join("index.json");
    let bytes = match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Ok(meta) if meta.len() > MAX_DOCUMENT => {
            return Err(Error::Refused(format!("{} is larger than {MAX_DOCUMENT} bytes", path.display())));
        }
        _ => fs::read(&path).map_err(Error::at(&path))?,
    };
    parse(&bytes).map_err(|why| Error::Refused(format!("{} is no image index: {why}", path.display())))
}

/// The images that an index names.
pub(crate) fn parse(bytes: &[u8]) -> Result<Vec<Named>, serde_json::Error> {
    let index: ImageIndex = serde_json::from_slice(bytes)?;
    let named = index.manifests().iter().map(|entry| {
        let mut target = entry.clone();
        let mut annotations = target.annotations().clone().unwrap_or_default();
        let (name, ref_name) = (annotations.remove(NAME), annotations.remove(REF_NAME));
        target.set_annotations(Some(annotations).filter(|rest| !rest.is_empty()));
        Named { name: name.or(ref_name).unwrap_or_default(), target }
    });
    Ok(named.collect())
}

/// An index that names these images.
pub(crate) fn index(images: &[Named]) -> Result<Vec<u8>, Error> {
    let entries = images.iter().map(|image| {
        let mut entry = image.target.clone();
        let mut annotations: HashMap<_, _> = entry.annotations().clone().unwrap_or_default();
        annotations.insert(NAME.to_owned(), image.name.clone());
        let tag = reference(&image.name).ok().and_then(|name| name.tag().map(str::to_owned));
        annotations.insert(REF_NAME.to_owned(), tag.unwrap_or_else(|| image.name.clone()));
        entry.set_annotations(Some(annotations));
        entry
    });
    let mut index = ImageIndex::default();
    index.set_schema_version(2);
    index.set_media_type(Some(oci_spec::image::MediaType::ImageIndex));
    index.set_manifests(entries.collect());
    stable(&index)
}

/// A document whose bytes are the same each time: maps are sorted, which those of `oci-spec` are not.
pub(crate) fn stable(document: &impl serde::Serialize) -> Result<Vec<u8>, Error> {
    let bytes = serde_json::to_value(document).and_then(|value| serde_json::to_vec(&value));
    bytes.map_err(|error| Error::Refused(format!("a document cannot be written: {error}")))
}

/// Writes a file whole or not at all; `flush` comes before its name.
fn place(
    root: &Path,
    path: &Path,
    bytes: &[u8],
    flush: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    let mut file = NamedTempFile::new_in(root)?;
    file.write_all(bytes)?;
    flush(file.as_file())?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use oci_spec::image::MediaType;
    use serde_json::json;

    use super::*;

    struct Bed {
        dir: tempfile::TempDir,
        store: Store,
    }

    impl Bed {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(dir.path().join("images")).unwrap();
            Self { dir, store }
        }

        /// An image with one layer of these bytes.
        fn image(&self, layer: &[u8]) -> Descriptor {
            let blobs = self.store.blobs();
            let config = blobs.put(b"{}").unwrap().descriptor(MediaType::EmptyJSON);
            let layer = blobs.put(layer).unwrap().descriptor(MediaType::from("application/wasm"));
            let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
            blobs.put(manifest.to_string().as_bytes()).unwrap().descriptor(MediaType::ImageManifest)
        }

        fn tag(&self, name: &str, image: &Descriptor) {
            self.store.tag(&reference(name).unwrap(), image).unwrap();
        }

        fn blobs(&self) -> usize {
            fs::read_dir(self.dir.path().join("images/blobs/sha256")).unwrap().count()
        }
    }

    #[test]
    fn an_image_is_found_by_its_name_and_by_the_beginning_of_its_digest() {
        let bed = Bed::new();
        let (one, two) = (bed.image(b"one"), bed.image(b"two"));
        bed.tag("wisp.test/app:1", &one);
        bed.tag("wisp.test/app", &two);
        assert_eq!(bed.store.find("wisp.test/app:1").unwrap().target, one);
        assert_eq!(bed.store.find("wisp.test/app:latest").unwrap().target, two);
        let digest = one.digest().to_string();
        for text in [&digest, &digest[7..], &digest[7..19]] {
            assert_eq!(bed.store.find(text).unwrap().name, "wisp.test/app:1", "{text}");
        }
        for unknown in ["wisp.test/app:2", "deadbeef", "abc"] {
            let error = bed.store.find(unknown).unwrap_err().to_string();
            assert!(error.starts_with("there is no image "), "{error}");
        }
        assert!(bed.store.find("Wisp Test").unwrap_err().to_string().contains("is no image name"));
    }

    #[test]
    fn a_manifest_of_an_index_is_found_by_the_repository_and_its_digest() {
        let bed = Bed::new();
        let one = bed.image(b"one");
        let index = json!({"schemaVersion": 2, "manifests": [one]}).to_string();
        let index = bed.store.blobs().put(index.as_bytes()).unwrap().descriptor(MediaType::ImageIndex);
        bed.tag("wisp.test/app:1", &index);
        for target in [&one, &index] {
            for repository in ["wisp.test/app", "wisp.test/app:2"] {
                let name = format!("{repository}@{}", target.digest());
                assert_eq!(bed.store.find(&name).unwrap(), Named { target: target.clone(), name });
            }
        }
        for unknown in [
            format!("wisp.test/other@{}", one.digest()),
            format!("wisp.test/app@{}", bed.image(b"two").digest()),
        ] {
            let error = bed.store.find(&unknown).unwrap_err().to_string();
            assert!(error.starts_with(&format!("there is no image {unknown}")), "{error}");
        }
    }

    #[test]
    fn a_name_leads_to_one_image_and_an_image_may_have_several_names() {
        let bed = Bed::new();
        let (one, two) = (bed.image(b"one"), bed.image(b"two"));
        bed.tag("wisp.test/app:1", &one);
        bed.tag("wisp.test/app:1", &two);
        bed.tag("wisp.test/other:1", &two);
        let names: Vec<_> = bed.store.images().unwrap().into_iter().map(|image| image.name).collect();
        assert_eq!(names, ["wisp.test/app:1", "wisp.test/other:1"]);
        assert_eq!(bed.store.find("wisp.test/app:1").unwrap().target, two);
    }

    #[test]
    fn removal_frees_what_no_other_image_has() {
        let bed = Bed::new();
        let (one, two) = (bed.image(b"one"), bed.image(b"two"));
        bed.tag("wisp.test/one:1", &one);
        bed.tag("wisp.test/two:1", &two);
        assert_eq!(bed.blobs(), 5);
        assert!(bed.store.remove("wisp.test/one:1").unwrap() > 3);
        assert_eq!(bed.blobs(), 3);
        assert_eq!(bed.store.remove("wisp.test/two:1").unwrap() > 3, bed.blobs() == 0);
    }

    #[test]
    fn what_is_being_added_is_not_removed() {
        let bed = Bed::new();
        let hold = bed.store.hold().unwrap();
        bed.image(b"one");
        assert_eq!(bed.store.collect().unwrap(), 0);
        drop(hold);
        assert!(bed.store.collect().unwrap() > 0);
        assert_eq!(bed.blobs(), 0);
    }

    #[test]
    fn an_index_that_is_none_is_named_in_the_message() {
        let bed = Bed::new();
        fs::write(bed.dir.path().join("images/index.json"), "[]").unwrap();
        let error = bed.store.images().unwrap_err().to_string();
        assert!(error.contains("index.json is no image index"), "{error}");
    }
}
