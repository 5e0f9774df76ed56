//! The installer's container image, without Docker: an archive with one layer, the same for the same programs and
//! `SOURCE_DATE_EPOCH`.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::{Context, Result};
use wisp_images::archive;
use wisp_images::make::{About, Process, image_of};
use wisp_images::store::{Named, Store};

use crate::images::source_date;

/// A folder's programs as an image whose entrypoint is `wisp`; `name` is a whole reference with a tag.
///
/// # Errors
/// Where a file cannot be read or the archive not be written.
pub(crate) fn write(name: &str, root: &Path, path: &Path) -> Result<()> {
    let folder = tempfile::tempdir().context("a temporary folder")?;
    let store = Store::open(folder.path())?;
    let process = Process {
        entrypoint: vec!["/usr/local/bin/wisp".into()],
        env: vec!["PATH=/usr/local/bin".into()],
        workdir: Some("/".into()),
        ..Process::default()
    };
    let about = About { created: source_date()?, ..About::default() };
    let target = image_of(store.blobs(), root, &process, &about)?;
    // As it is given: containerd knows it by exactly this name.
    let image = Named { name: name.to_owned(), target };
    let file = File::create(path).with_context(|| format!("making {}", path.display()))?;
    Ok(archive::save(&store, &[image], BufWriter::new(file))?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_image_is_the_same_each_time_and_can_be_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir_all(root.join("usr/local/bin")).unwrap();
        fs::write(root.join("usr/local/bin/wisp"), "a program").unwrap();
        let written = |name: &str| {
            let path = folder.path().join(name);
            write("wisp.test/wisp-installer:1", &root, &path).unwrap();
            fs::read(path).unwrap()
        };
        assert_eq!(written("a.tar"), written("b.tar"));
        let store = Store::open(folder.path().join("images")).unwrap();
        let images = archive::load(&store, &written("c.tar")[..], None).unwrap();
        assert_eq!(images[0].name, "wisp.test/wisp-installer:1");
    }
}
