//! The pause image, and images as CRI sees them.

use anyhow::Result;
use serde_json::json;

use crate::artifact::Artifact;
use crate::bed::{Bed, LIMIT, eventually};
use crate::cri::Cri;
use crate::image::Image;
use crate::site;

/// What the configuration names as the pause image: the name is this test's own, as nothing is pulled.
pub const PAUSE: &str = "wisp.test/pause:1";

/// Imports the pause image and that of all guests, and waits until CRI knows them.
///
/// # Errors
/// Where a guest is missing, or what `ctr` said.
pub fn import_common(bed: &Bed, cri: &Cri) -> Result<()> {
    let pause =
        Image::new(PAUSE).file_of("/pause", site::guest("pause")?).config("Entrypoint", json!(["/pause"]));
    import(bed, cri, &pause)?;
    bed.import_guests()?;
    until_known(cri, crate::bed::GUESTS)
}

/// Imports an image, once, and waits until CRI knows it.
///
/// # Errors
/// What `ctr` said, or where CRI does not hear of it.
pub fn import(bed: &Bed, cri: &Cri, image: &Image) -> Result<()> {
    bed.import(image, &[])?;
    until_known(cri, image.name())
}

/// Imports an artifact, and waits until CRI knows it.
///
/// # Errors
/// What `ctr` said, or where CRI does not hear of it.
pub(crate) fn import_artifact(bed: &Bed, cri: &Cri, artifact: &Artifact) -> Result<()> {
    let archive = bed.folder.join(format!("{}.tar", bed.id("artifact")));
    artifact.write(&archive)?;
    bed.ctr(&["images", "import", &archive.display().to_string()])?.success()?;
    std::fs::remove_file(archive)?;
    until_known(cri, artifact.name())
}

/// CRI hears of an image by an event.
fn until_known(cri: &Cri, name: &str) -> Result<()> {
    eventually(name, LIMIT, || Ok(cri.image(name)?.map(drop)))
}
