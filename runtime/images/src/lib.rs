//! Container images on a disk.
//!
//! An image is a few blobs, each called by its digest ([`blobs`]), and documents among them that name the others
//! ([`document`], [`contents`]). A person's own images lie in one OCI layout ([`store`]), each under its [`name`]. They get there from a Wasm file ([`make`]) or from an
//! archive ([`archive`]), and leave it as an archive or, to be run, as files ([`image`], [`unpack`]). Registries are another
//! crate's.
//!
//! Nothing that an image says is trusted: blobs are checked against their digests whenever they are read, documents are read up to
//! a bound, and files are unpacked within one folder and within limits. See the OCI image specification
//! (`image-layout.md`, `manifest.md`, `image-index.md`, `config.md`, `layer.md`).

pub mod archive;
pub mod blobs;
pub mod contents;
pub mod document;
pub mod image;
pub mod make;
pub mod name;
pub mod store;
pub mod unpack;

mod layer;

use std::io;
use std::path::PathBuf;

use wisp_contract::digest::Digest;

/// Why something is not to be had of an image. Each is one sentence.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A blob cannot be had.
    #[error(transparent)]
    Blob(#[from] blobs::Error),
    /// A manifest, index or configuration makes no sense.
    #[error(transparent)]
    Document(#[from] document::Error),
    /// A file of the disk cannot be read or written.
    #[error("{0}")]
    Io(PathBuf, #[source] io::Error),
    /// A blob that a document names is not there.
    #[error("the blob {0}, which the image names, is not there; pull or load the image again")]
    Missing(Digest),
    /// A text that is no name of an image.
    #[error(
        "{0:?} is no image name ({1}); expected the form registry/repository:tag, in lower case before the tag"
    )]
    NoName(String, String),
    /// No image has this name.
    #[error("there is no image {0}; `wisp images` lists those that there are")]
    Unknown(String),
    /// A digest's beginning that several images have.
    #[error("{0} is the beginning of several images' digests; give more digits")]
    Ambiguous(String),
    /// An image for other platforms only.
    #[error("the image is for {there}; expected linux/{here} or wasi/wasm")]
    Platform {
        /// The platforms that it is for.
        there: String,
        /// The architecture of this machine.
        here: &'static str,
    },
    /// Something of an image that no honest image has.
    #[error("{0}")]
    Refused(String),
    /// A program that is not one.
    #[error("{0}: {1}")]
    NoWasm(String, String),
}

impl Error {
    /// Says which file an error of the disk is about.
    pub(crate) fn at(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| Self::Io(path, error)
    }
}
