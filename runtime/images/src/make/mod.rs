//! Makes images of Wasm files: the same bytes for the same files and the same time.

mod artifact;
mod files;
mod wasm;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use oci_spec::image::{Descriptor, ImageManifest, ImageManifestBuilder, MediaType};

pub use artifact::artifact;
pub use files::{Process, image, image_of};
use wasm::Outside;
use wisp_reader::Unread;

use crate::Error;
use crate::blobs::Blobs;
use crate::store::stable;

/// The largest program that is read, in bytes: no larger one could be compiled.
pub const LARGEST: u64 = 1 << 30;

/// A Wasm file that goes into an image.
#[derive(Debug, Clone)]
pub struct Program {
    /// Its name in the image.
    pub name: String,
    /// The file.
    pub file: PathBuf,
}

impl Program {
    /// Reads the file to its end, and writes what is read; gives what it is.
    fn read(&self, to: impl Write) -> Result<Outside, Error> {
        let file = File::open(&self.file).map_err(Error::at(&self.file))?;
        let size = file.metadata().map_err(Error::at(&self.file))?.len();
        // What is no file may have no size and yet no end.
        let mut bounded = Bounded { from: file, to, left: if size > LARGEST { 0 } else { LARGEST } };
        Outside::of(&mut bounded).map_err(|error| match error {
            Unread::Io(error) => Error::Io(self.file.clone(), error),
            Unread::Refused(why) => Error::NoWasm(self.file.display().to_string(), why.to_string()),
        })
    }
}

/// A file that is written on as it is read, and not beyond the largest program.
struct Bounded<W> {
    from: File,
    to: W,
    left: u64,
}

impl<W: Write> Read for Bounded<W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            io::Error::other("the file is larger than 1 GiB; a program that can be compiled was expected")
        })?;
        self.to.write_all(&buffer[..read])?;
        Ok(read)
    }
}

/// What every kind of image can be given.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// The time that everything in the image has, in seconds since 1970.
    pub created: u64,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
}

impl About {
    fn created(&self) -> String {
        humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(self.created)).to_string()
    }
}

/// A manifest of OCI's form.
pub(crate) fn manifest(
    config: Descriptor,
    layers: Vec<Descriptor>,
    annotations: &BTreeMap<String, String>,
) -> Result<ImageManifest, Error> {
    let manifest = ImageManifestBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageManifest)
        .config(config)
        .layers(layers);
    let manifest = match annotations.is_empty() {
        true => manifest,
        false => manifest.annotations(annotations.clone().into_iter().collect::<HashMap<_, _>>()),
    };
    manifest.build().map_err(|error| Error::Refused(format!("a manifest cannot be made: {error}")))
}

/// Stores a document.
fn put(blobs: &Blobs, document: &impl serde::Serialize, media_type: MediaType) -> Result<Descriptor, Error> {
    let bytes = stable(document)?;
    Ok(blobs.put(&bytes).map_err(Error::at("a document of the image"))?.descriptor(media_type))
}
