//! What a person means by an image: a name of the store, an OCI layout, or an archive.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use oci_spec::image::Descriptor;
use tempfile::TempDir;
use wisp_images::archive;
use wisp_images::blobs::Blobs;
use wisp_images::store::{self, Named, Store};

/// An image and where its blobs are.
#[derive(Debug)]
pub(crate) struct Image {
    /// Its manifest or index.
    pub(crate) target: Descriptor,
    /// Its blobs.
    pub(crate) blobs: Blobs,
    /// The folder that its blobs are in for as long as they are needed.
    _folder: Option<TempDir>,
}

/// Whether a file of this name is there and begins as Wasm does.
pub(crate) fn is_wasm(path: impl AsRef<Path>) -> bool {
    let mut head = [0; 4];
    File::open(path).and_then(|mut file| file.read_exact(&mut head)).is_ok_and(|()| head == *b"\0asm")
}

/// The path in front of a colon, and what is after it.
fn path(text: &str) -> (&Path, Option<&str>) {
    match text.split_once(':') {
        Some((path, name)) if !Path::new(text).exists() => (Path::new(path), Some(name)),
        _ => (Path::new(text), None),
    }
}

/// Whether a person means a layout or an archive by this, and not a name.
pub(crate) fn is_path(text: &str) -> bool {
    path(text).0.exists()
}

impl Image {
    /// An image that is made to be gone again with this. The files that it is made of have to stay as they are until then.
    ///
    /// # Errors
    /// Those of making it.
    pub(crate) fn passing(make: impl FnOnce(&Blobs) -> Result<Descriptor>) -> Result<Self> {
        let folder = tempfile::tempdir().context("a temporary folder")?;
        let blobs = Blobs::passing(folder.path());
        Ok(Self { target: make(&blobs)?, blobs, _folder: Some(folder) })
    }

    /// An image of the store, by name or digest.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn of_store(store: &Store, name: &str) -> Result<Self> {
        Ok(Self { target: store.find(name)?.target, blobs: store.blobs().clone(), _folder: None })
    }

    /// An image by a path, of a layout's folder or an archive, with the name after a further `:` where there are several; or by
    /// its name in the store.
    ///
    /// # Errors
    /// If it is none of these.
    pub(crate) fn open(store: &Store, text: &str) -> Result<Self> {
        let (path, name) = path(text);
        if path.join("index.json").is_file() {
            let target = only(store::named(path)?, name).with_context(|| text.to_owned())?;
            return Ok(Self { target, blobs: Blobs::at(path), _folder: None });
        }
        if path.is_file() {
            return Self::of_archive(path, name).with_context(|| text.to_owned());
        }
        if path.is_dir() {
            bail!("{} is a folder without an index.json; an OCI layout was expected", path.display());
        }
        Self::of_store(store, text)
    }

    fn of_archive(path: &Path, name: Option<&str>) -> Result<Self> {
        let folder = tempfile::tempdir().context("a temporary folder")?;
        let store = Store::open(folder.path())?;
        let images = archive::load(&store, File::open(path)?, Some("archive:latest"))?;
        let target = only(images, name)?;
        Ok(Self { target, blobs: store.blobs().clone(), _folder: Some(folder) })
    }
}

/// The image of this name or tag, or the only one.
fn only(images: Vec<Named>, name: Option<&str>) -> Result<Descriptor> {
    let is_meant = |image: &Named| {
        name.is_none_or(|name| image.name == name || image.name.rsplit(':').next() == Some(name))
    };
    let names: Vec<_> = images.iter().map(|image| image.name.clone()).collect();
    let mut targets: Vec<_> = images.into_iter().filter(is_meant).map(|image| image.target).collect();
    targets.dedup();
    match (targets.pop(), targets.is_empty()) {
        (Some(target), true) => Ok(target),
        _ => bail!("it has the images {}; name one of them after a colon", names.join(", ")),
    }
}
