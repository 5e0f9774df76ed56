//! Finds the Wasm layers of a container's image, which containerd keeps as blobs and never unpacks.
//!
//! The image is found by the digest of its configuration, which containerd's CRI plugin wrote into the container's record
//! when it made the container, and never by its name, which may be another image's by now. What is read on the way is
//! checked against its digest.
//!
//! - [`containerd`]: what containerd is asked.
//! - [`candidates`]: which images of its content store, read as files, have the configuration.
//! - [`image`]: which of them is meant.

mod candidates;
pub mod containerd;
pub mod image;

use wisp_contract::artifact::{Artifact, Layer};
use wisp_images::blobs::{self, Blobs};
use wisp_images::document;

use containerd::{Asked, Containerd};
use image::{Candidate, Config};

/// Why the layers were not found. Each is one sentence.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// containerd does not answer, or not as it should.
    #[error("containerd was asked for the container's image")]
    Containerd(#[from] containerd::Error),
    /// A blob cannot be read.
    #[error("containerd's content store")]
    Blob(#[from] blobs::Error),
    /// A manifest makes no sense.
    #[error(transparent)]
    Document(#[from] document::Error),
    /// Several manifests do.
    #[error(transparent)]
    Image(#[from] image::Error),
}

/// The Wasm layers of the image that container `id` was made from; `None` if it has none, or if it was not CRI that made
/// the container: others cannot make one of an artifact.
///
/// # Errors
/// [`Error`], in words for a person.
pub async fn find(containerd: &Containerd, id: &str) -> Result<Option<Artifact>, Error> {
    let Some(asked) = containerd.asked_image(id).await? else { return Ok(None) };
    let blobs = Blobs::at(containerd.content_root().await?);
    let config = Config::parse(&blobs.read(&asked.config)?.unwrap_or_default());
    let mut candidates = Vec::new();
    if let Some(target) = containerd.image(&asked.config.to_string()).await? {
        candidates = candidates::of(&blobs, &target, &asked.config)?;
    }
    if !config.settles(&candidates) {
        candidates = all(containerd, &blobs, &asked).await?;
    }
    let found = image::pick(candidates, &config, &asked)?;
    Ok(found.map(|image| Artifact {
        has_files: image.has_files,
        layers: image
            .wasm
            .into_iter()
            .map(|layer| Layer { title: layer.title, blob: blobs.path(&layer.digest), digest: layer.digest })
            .collect(),
    }))
}

/// Every image of the node that has the configuration.
async fn all(containerd: &Containerd, blobs: &Blobs, asked: &Asked) -> Result<Vec<Candidate>, Error> {
    let mut candidates = Vec::new();
    for target in containerd.images().await? {
        candidates.extend(candidates::of(blobs, &target, &asked.config)?);
    }
    Ok(candidates)
}
