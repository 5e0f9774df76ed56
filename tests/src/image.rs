//! OCI images as tar archives that `ctr images import` takes.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// An image with one layer of files, to be written to an archive.
#[derive(Debug, Clone)]
pub struct Image {
    name: String,
    os: String,
    architecture: String,
    config: Value,
    files: Vec<(String, Content, u32)>,
    wasm: Vec<Layer>,
}

#[derive(Debug, Clone)]
enum Content {
    Bytes(Vec<u8>),
    File(PathBuf),
    Link(String),
    Folder,
}

impl Image {
    /// An empty image for this machine. `name` is a whole reference, such as `wisp.test/guests:1`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        Self {
            name: name.to_owned(),
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            config: json!({"Env": ["PATH=/usr/local/bin:/usr/bin:/bin"], "WorkingDir": "/"}),
            files: Vec::new(),
            wasm: Vec::new(),
        }
    }

    /// Says that the image is for `os/architecture`.
    #[must_use]
    pub fn platform(mut self, os: &str, architecture: &str) -> Self {
        (self.os, self.architecture) = (os.to_owned(), architecture.to_owned());
        self
    }

    /// Sets a key of the image's configuration: `Entrypoint`, `User`, `WorkingDir`, `Env`…
    #[must_use]
    pub fn config(mut self, key: &str, value: Value) -> Self {
        self.config[key] = value;
        self
    }

    /// Adds an executable file.
    #[must_use]
    pub fn file(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.push((path.to_owned(), Content::Bytes(content.into()), 0o755));
        self
    }

    /// Adds an executable file with the content of one on this machine.
    #[must_use]
    pub fn file_of(mut self, path: &str, source: PathBuf) -> Self {
        self.files.push((path.to_owned(), Content::File(source), 0o755));
        self
    }

    /// The same, which runs with the rights of its owner, root.
    #[must_use]
    pub fn setuid_file_of(mut self, path: &str, source: PathBuf) -> Self {
        self.files.push((path.to_owned(), Content::File(source), 0o4755));
        self
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn link(mut self, path: &str, to: &str) -> Self {
        self.files.push((path.to_owned(), Content::Link(to.to_owned()), 0o777));
        self
    }

    /// Adds a folder.
    #[must_use]
    pub fn folder(mut self, path: &str, mode: u32) -> Self {
        self.files.push((path.to_owned(), Content::Folder, mode));
        self
    }

    /// The image's reference.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds a layer that nobody unpacks: a Wasm file of this machine.
    #[must_use]
    pub fn wasm_layer(mut self, title: &str, file: PathBuf) -> Self {
        self.wasm.push(Layer { media_type: WASM.to_owned(), title: Some(title.to_owned()), file });
        self
    }

    /// Writes the archive, an OCI image layout.
    ///
    /// # Errors
    /// Those of reading its files and of writing.
    pub fn write(&self, archive: &Path) -> Result<()> {
        let file = archive.with_extension("layer");
        self.write_layer(&file)?;
        let config = json!({
            "architecture": self.architecture,
            "os": self.os,
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": [digest_of(&mut File::open(&file)?)?.0]},
            "history": [{"created_by": "wisp-tests"}],
        });
        let tar = Layer {
            media_type: "application/vnd.oci.image.layer.v1.tar".to_owned(),
            title: None,
            file: file.clone(),
        };
        let layers = [&[tar], self.wasm.as_slice()].concat();
        let platform = json!({"os": self.os, "architecture": self.architecture});
        let config = ("application/vnd.oci.image.config.v1+json", &serde_json::to_vec(&config)?[..]);
        write_layout(archive, &self.name, Some(platform), config, &layers)?;
        Ok(std::fs::remove_file(file)?)
    }

    fn write_layer(&self, path: &Path) -> Result<()> {
        let mut tar = tar::Builder::new(File::create(path)?);
        for (name, content, mode) in &self.files {
            let name = name.trim_start_matches('/');
            match content {
                Content::Bytes(bytes) => append(&mut tar, name, *mode, bytes)?,
                Content::File(source) => {
                    let bytes =
                        std::fs::read(source).with_context(|| format!("reading {}", source.display()))?;
                    append(&mut tar, name, *mode, &bytes)?;
                }
                Content::Link(to) => {
                    let mut header = header(*mode, 0);
                    header.set_entry_type(tar::EntryType::Symlink);
                    tar.append_link(&mut header, name, to)?;
                }
                Content::Folder => {
                    let mut header = header(*mode, 0);
                    header.set_entry_type(tar::EntryType::Directory);
                    tar.append_data(&mut header, name, io::empty())?;
                }
            }
        }
        Ok(tar.finish()?)
    }
}

/// The media type of a Wasm layer.
pub const WASM: &str = "application/wasm";

/// A layer as a blob.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub(crate) media_type: String,
    pub(crate) title: Option<String>,
    pub(crate) file: PathBuf,
}

/// Writes an OCI image layout with one manifest as a tar archive. `config` is a media type and the bytes.
pub(crate) fn write_layout(
    archive: &Path,
    name: &str,
    platform: Option<Value>,
    (config_type, config): (&str, &[u8]),
    layers: &[Layer],
) -> Result<()> {
    let mut digests = Vec::new();
    let mut descriptors = Vec::new();
    for layer in layers {
        let digest = digest_of(&mut File::open(&layer.file)?)?;
        let mut descriptor = descriptor(&layer.media_type, &digest);
        if let Some(title) = &layer.title {
            descriptor["annotations"] = json!({"org.opencontainers.image.title": title});
        }
        descriptors.push(descriptor);
        digests.push(digest.0);
    }
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor(config_type, &digest_of(&mut &*config)?),
        "layers": descriptors,
    }))?;
    let mut entry =
        descriptor("application/vnd.oci.image.manifest.v1+json", &digest_of(&mut manifest.as_slice())?);
    if let Some(platform) = platform {
        entry["platform"] = platform;
    }
    entry["annotations"] = json!({
        "io.containerd.image.name": name,
        "org.opencontainers.image.ref.name": name.rsplit(':').next(),
    });
    let index = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry],
    }))?;

    let mut tar = tar::Builder::new(File::create(archive)?);
    append(&mut tar, "oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    append(&mut tar, "index.json", 0o644, &index)?;
    for blob in [config, &manifest] {
        append(&mut tar, &blob_path(&digest_of(&mut &*blob)?.0), 0o644, blob)?;
    }
    for (layer, digest) in layers.iter().zip(digests) {
        tar.append_file(blob_path(&digest), &mut File::open(&layer.file)?)?;
    }
    Ok(tar.finish()?)
}

fn header(mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_size(size);
    header
}

fn append(tar: &mut tar::Builder<File>, name: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
    tar.append_data(&mut header(mode, bytes.len() as u64), name, bytes)
}

/// The SHA-256 of what is read, as manifests write it, and its length in bytes.
///
/// # Errors
/// Those of reading.
pub fn digest_of(reader: &mut impl Read) -> Result<(String, u64)> {
    let (mut hash, mut size, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 16]);
    loop {
        let read = reader.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        size += read as u64;
    }
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((format!("sha256:{hex}"), size))
}

fn descriptor(media_type: &str, (digest, size): &(String, u64)) -> Value {
    json!({"mediaType": media_type, "digest": digest, "size": size})
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}
