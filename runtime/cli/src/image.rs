//! The installer's container image, without Docker: an OCI archive with one layer, the same for the same programs and
//! `SOURCE_DATE_EPOCH`.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A folder's programs as an image whose entrypoint is `wisp`; `name` is a whole reference with a tag.
///
/// # Errors
/// Where a file cannot be read or the archive not be written.
pub(crate) fn write(name: &str, root: &Path, archive: &Path) -> Result<()> {
    let time = source_date()?;
    let layer = layer(root, time)?;
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let created = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(time)).to_string();
    let config = json!({
        "created": created,
        "os": "linux",
        "architecture": architecture,
        "config": {"Entrypoint": ["/usr/local/bin/wisp"], "Env": ["PATH=/usr/local/bin"], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    });
    let config = serde_json::to_vec(&config)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    });
    let manifest = serde_json::to_vec(&manifest)?;
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    entry["platform"] = json!({"os": "linux", "architecture": architecture});
    let tag = name.rsplit_once(':').map_or(name, |(_, tag)| tag);
    entry["annotations"] =
        json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag});
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry],
    });

    let file = File::create(archive).with_context(|| format!("making {}", archive.display()))?;
    let mut tar = tar::Builder::new(file);
    let mut put = |path: &str, bytes: &[u8]| {
        let mut header = header(0o644, bytes.len() as u64, time);
        tar.append_data(&mut header, path, bytes)
    };
    put("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    put("index.json", &serde_json::to_vec(&index)?)?;
    for blob in [&manifest, &config, &layer] {
        put(&format!("blobs/sha256/{}", hex(blob)), blob)?;
    }
    tar.into_inner()?.flush()?;
    Ok(())
}

/// The files below a folder and the folders that they are in, by name.
fn layer(root: &Path, time: u64) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let (mut found, mut pending) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(folder) = pending.pop() {
        for entry in folder.read_dir().with_context(|| format!("reading {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                pending.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort();
    for path in found {
        let name = path.strip_prefix(root)?;
        if path.is_dir() {
            let mut header = header(0o755, 0, time);
            header.set_entry_type(tar::EntryType::Directory);
            tar.append_data(&mut header, name, std::io::empty())?;
        } else {
            let mut bytes = Vec::new();
            File::open(&path)
                .and_then(|mut file| file.read_to_end(&mut bytes))
                .with_context(|| format!("reading {}", path.display()))?;
            tar.append_data(&mut header(0o755, bytes.len() as u64, time), name, &*bytes)?;
        }
    }
    Ok(tar.into_inner()?)
}

fn header(mode: u32, size: u64, time: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(time);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(bytes))
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The time that everything in the image has, in seconds since 1970.
fn source_date() -> Result<u64> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text
            .parse()
            .with_context(|| format!("SOURCE_DATE_EPOCH is {text:?}, expected seconds since 1970")),
        Err(_) => Ok(0),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_image_is_the_same_each_time_and_holds_the_files() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir_all(root.join("usr/local/bin")).unwrap();
        fs::write(root.join("usr/local/bin/wisp"), "a program").unwrap();
        let archive = |name: &str| {
            let path = folder.path().join(name);
            write("wisp-installer:1", &root, &path).unwrap();
            fs::read(path).unwrap()
        };
        assert_eq!(archive("a.tar"), archive("b.tar"));
        let bytes = archive("c.tar");
        let mut tar = tar::Archive::new(&*bytes);
        let names: Vec<_> = tar
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names[..2], ["oci-layout", "index.json"]);
        assert_eq!(names.len(), 5);
    }
}
