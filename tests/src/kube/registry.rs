//! Debian's docker-registry, and a push to it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::image::Image;
use crate::kube::PATIENCE;
use crate::kube::cluster::{ADDRESS, Cluster};
use crate::{process, registry};

/// What the names of images begin with; each containerd's `hosts.toml` knows where that is.
pub const NAME: &str = "registry.test";
/// Where it listens.
pub(crate) const PORT: u16 = 5000;

/// The registry's address as containerd is told it.
#[must_use]
pub fn url() -> String {
    format!("http://{ADDRESS}:{PORT}")
}

/// The registry, to be started in the cluster's space.
///
/// # Errors
/// Where it is missing, and those of writing its configuration.
pub(crate) fn command(cluster: &Cluster) -> Result<Command> {
    serve(cluster, &cluster.folder.join("registry"), PORT, "")
}

/// A registry that keeps everything in `folder`, with `more` in its configuration.
pub(super) fn serve(cluster: &Cluster, folder: &Path, port: u16, more: &str) -> Result<Command> {
    registry::serve(&cluster.space, folder, &format!("{ADDRESS}:{port}"), more)
}

/// Pushes an image whose name begins with [`NAME`], by the OCI distribution specification: its blobs, then its manifest.
///
/// # Errors
/// What could not be written or was not taken.
pub fn push(cluster: &Cluster, image: &Image) -> Result<()> {
    let (name, tag) = image
        .name()
        .strip_prefix(NAME)
        .and_then(|rest| rest.trim_start_matches('/').rsplit_once(':'))
        .with_context(|| format!("{} is not {NAME}/name:tag", image.name()))?;
    let folder = cluster.folder.join(format!("push-{}-{tag}", name.replace('/', "-")));
    fs::create_dir_all(&folder)?;
    let archive = folder.join("image.tar");
    image.write(&archive)?;
    let blobs = unpack(&archive, &folder)?;
    let index: Value = serde_json::from_slice(&fs::read(folder.join("index.json"))?)?;
    let manifest = index["manifests"][0]["digest"].as_str().context("an image without a manifest")?;
    let base = format!("{}/v2/{name}", url());
    for (digest, file) in blobs.iter().filter(|(digest, _)| *digest != manifest) {
        let location = curl(
            cluster,
            &[
                "--request",
                "POST",
                "--output",
                "/dev/null",
                "--write-out",
                "%header{location}",
                &format!("{base}/blobs/uploads/"),
            ],
        )?;
        let separator = if location.contains('?') { '&' } else { '?' };
        let body = format!("@{file}");
        curl(
            cluster,
            &[
                "--request",
                "PUT",
                "--header",
                "content-type: application/octet-stream",
                "--data-binary",
                &body,
                &format!("{location}{separator}digest={digest}"),
            ],
        )?;
    }
    let body = format!("@{}", blobs.get(manifest).context("a manifest that is not there")?);
    let kind = format!("content-type: {}", index["manifests"][0]["mediaType"].as_str().unwrap_or_default());
    curl(
        cluster,
        &["--request", "PUT", "--header", &kind, "--data-binary", &body, &format!("{base}/manifests/{tag}")],
    )?;
    Ok(fs::remove_dir_all(folder)?)
}

/// Unpacks an image's archive; the file of each blob by its digest.
fn unpack(archive: &Path, folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut blobs = BTreeMap::new();
    for entry in tar::Archive::new(File::open(archive)?).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.display().to_string();
        let file = folder.join(path.rsplit('/').next().unwrap_or_default());
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        fs::write(&file, bytes)?;
        if let Some(digest) = path.strip_prefix("blobs/") {
            blobs.insert(digest.replace('/', ":"), file.display().to_string());
        }
    }
    ensure!(!blobs.is_empty(), "an image without blobs");
    Ok(blobs)
}

fn curl(cluster: &Cluster, args: &[&str]) -> Result<String> {
    let mut command = cluster.space.command("curl");
    command.args(["--silent", "--show-error", "--fail-with-body"]).args(args);
    process::run(&mut command, PATIENCE)?.success()
}
