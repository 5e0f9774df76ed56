//! Wasm artifacts as OCI image layouts.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Value, json};

use crate::image::{Layer, digest_of, write_layout};

/// The media type of the CNCF's configuration.
pub const CONFIG: &str = "application/vnd.wasm.config.v0+json";

/// An artifact: layers that nobody unpacks, and a configuration.
#[derive(Debug, Clone)]
pub struct Artifact {
    name: String,
    config: Option<(String, Value)>,
    layers: Vec<Layer>,
}

impl Artifact {
    /// An empty artifact with the CNCF's configuration. `name` is a whole reference.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), config: None, layers: Vec::new() }
    }

    /// Adds a layer with the bytes of a file of this machine, whose title is not given.
    #[must_use]
    pub fn layer(mut self, media_type: &str, file: PathBuf) -> Self {
        self.layers.push(Layer { media_type: media_type.to_owned(), title: None, file });
        self
    }

    /// Gives the last layer its title.
    #[must_use]
    pub fn title(mut self, title: &str) -> Self {
        if let Some(layer) = self.layers.last_mut() {
            layer.title = Some(title.to_owned());
        }
        self
    }

    /// Takes this configuration in place of the CNCF's.
    #[must_use]
    pub fn config(mut self, media_type: &str, config: Value) -> Self {
        self.config = Some((media_type.to_owned(), config));
        self
    }

    /// The artifact's reference.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes the archive, an OCI image layout.
    ///
    /// # Errors
    /// Those of reading its files and of writing.
    pub fn write(&self, archive: &Path) -> Result<()> {
        let (media_type, config) = match &self.config {
            Some((media_type, config)) => (media_type.as_str(), config.clone()),
            None => (CONFIG, self.own_config()?),
        };
        write_layout(archive, &self.name, None, (media_type, &serde_json::to_vec(&config)?), &self.layers)
    }

    fn own_config(&self) -> Result<Value> {
        let mut digests = Vec::new();
        for layer in &self.layers {
            digests.push(digest_of(&mut File::open(&layer.file)?)?.0);
        }
        Ok(json!({
            "created": "2026-01-01T00:00:00Z",
            "architecture": "wasm",
            "os": "wasip2",
            "layerDigests": digests,
        }))
    }
}
