//! The Wasm layers of the image that a container was made from: a record in the container's bundle.
//!
//! containerd unpacks no Wasm layer: it stays a blob in the content store. `wisp-artifact` asks containerd which layers the
//! container's image has and writes the record; the runtime reads it. The bundle is root's folder, so that a pod cannot
//! write one, as it could an annotation.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// The record's name in the bundle.
const FILE: &str = "wisp-artifact.json";

/// The Wasm layers of one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// The layers, in the manifest's order; at least one.
    pub layers: Vec<Layer>,
    /// Whether the image has a root file system too.
    #[serde(default)]
    pub has_files: bool,
}

/// One Wasm layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Its name: the annotation `org.opencontainers.image.title`.
    #[serde(default)]
    pub title: Option<String>,
    /// The SHA-256 of the Wasm.
    pub digest: Digest,
    /// The blob's file in containerd's content store.
    pub blob: PathBuf,
}

/// A name that no layer has. One sentence: what was asked for, what is there, what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the entrypoint {name:?} is neither a file of the container nor a Wasm layer of its image, which has {there}; name one \
     of them as the container's command"
)]
pub struct NoLayer {
    name: String,
    there: String,
}

impl Artifact {
    /// Writes the record, for root only, whole or not at all.
    ///
    /// # Errors
    /// Those of writing.
    pub fn write(&self, bundle: &Path) -> io::Result<()> {
        let part = bundle.join(format!("{FILE}.part"));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        fs::rename(part, bundle.join(FILE))
    }

    /// Reads the record; `None` if the container has none, because its image has no Wasm layers or did not need them.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(bundle: &Path) -> io::Result<Option<Self>> {
        match fs::read(bundle.join(FILE)) {
            Ok(json) => Ok(Some(serde_json::from_slice(&json)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The layer that `name` is for, by its title.
    ///
    /// The container's own entrypoint (`own`) is the only layer of an artifact whatever it is called: an artifact has no
    /// entrypoint of its own, many have no titles, and yet containerd wants a command.
    ///
    /// # Errors
    /// If there is no such layer.
    pub fn layer(&self, name: &str, own: bool) -> Result<&Layer, NoLayer> {
        let titled = |layer: &&Layer| layer.title.as_deref().is_some_and(|title| plain(title) == plain(name));
        if let Some(layer) = self.layers.iter().find(titled) {
            return Ok(layer);
        }
        match self.layers.as_slice() {
            [only] if own && !self.has_files => Ok(only),
            _ => Err(NoLayer { name: name.into(), there: self.titles() }),
        }
    }

    fn titles(&self) -> String {
        let titles: Vec<_> = self.layers.iter().filter_map(|layer| layer.title.as_deref()).collect();
        match titles.as_slice() {
            [] => "none with a title (the annotation org.opencontainers.image.title)".into(),
            titles => titles.join(", "),
        }
    }
}

/// A name without what says that it is a path from the root or from here.
fn plain(name: &str) -> &str {
    name.trim_start_matches("./").trim_start_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact(titles: &[Option<&str>], has_files: bool) -> Artifact {
        let layer = |(index, title): (usize, &Option<&str>)| Layer {
            title: title.map(str::to_owned),
            digest: Digest([u8::try_from(index).unwrap(); 32]),
            blob: "/blobs/0".into(),
        };
        Artifact { layers: titles.iter().enumerate().map(layer).collect(), has_files }
    }

    fn found(artifact: &Artifact, name: &str, own: bool) -> Option<u8> {
        artifact.layer(name, own).ok().map(|layer| layer.digest.0[0])
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let bundle = tempfile::tempdir().unwrap();
        assert_eq!(Artifact::read(bundle.path()).unwrap(), None);
        let written = artifact(&[Some("app.wasm"), None], false);
        written.write(bundle.path()).unwrap();
        assert_eq!(Artifact::read(bundle.path()).unwrap(), Some(written));
        fs::write(bundle.path().join(FILE), "{").unwrap();
        Artifact::read(bundle.path()).unwrap_err();
    }

    #[test]
    fn the_only_layer_of_an_artifact_is_its_entrypoint_whatever_that_is_called() {
        for title in [None, Some("app.wasm")] {
            assert_eq!(found(&artifact(&[title], false), "/anything", true), Some(0));
        }
    }

    #[test]
    fn of_several_layers_the_title_tells() {
        let artifact = artifact(&[Some("one.wasm"), Some("./bin/two.wasm"), None], false);
        for (name, layer) in
            [("one.wasm", 0), ("/one.wasm", 0), ("./one.wasm", 0), ("bin/two.wasm", 1), ("/bin/two.wasm", 1)]
        {
            assert_eq!(found(&artifact, name, true), Some(layer), "{name}");
        }
        let error = artifact.layer("/three.wasm", true).unwrap_err().to_string();
        assert!(error.contains("\"/three.wasm\"") && error.contains("one.wasm, ./bin/two.wasm"), "{error}");
    }

    #[test]
    fn a_further_process_and_an_image_with_files_need_the_title() {
        let mixed = artifact(&[Some("app.wasm")], true);
        assert_eq!((found(&mixed, "/app.wasm", true), found(&mixed, "/bin/shh", true)), (Some(0), None));
        let single = artifact(&[Some("app.wasm")], false);
        assert_eq!((found(&single, "app.wasm", false), found(&single, "ls", false)), (Some(0), None));
    }
}
