//! A registry that asks for a name and a password, as most do that hold anything worth pulling.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::image::Image;
use crate::kube::PATIENCE;
use crate::kube::cluster::{ADDRESS, Cluster};
use crate::kube::registry;
use crate::{process, site};

/// Where it listens.
const PORT: u16 = 5001;

/// The one user that it knows.
pub const USER: &str = "wisp";
/// That user's password.
pub const PASSWORD: &str = "open sesame";
/// The same as `htpasswd -B` writes them; the registry reads no other hash.
const HTPASSWD: &str = "wisp:$2y$05$wisptestsofpullsecreteGaPuPX6UMYMZGoZIVh.Gr.AsUgOn7G2\n";

/// What the names of its images begin with. It is its address, since credentials are looked up by it.
#[must_use]
pub fn server() -> String {
    format!("{ADDRESS}:{PORT}")
}

/// The name of an image in it.
#[must_use]
pub fn image(name: &str) -> String {
    format!("{}/{name}:1", server())
}

/// The registry, to be started in the cluster's space.
///
/// # Errors
/// Where it is missing, and those of writing its configuration.
pub(crate) fn command(cluster: &Cluster) -> Result<Command> {
    let folder = cluster.folder.join("private-registry");
    fs::create_dir_all(&folder)?;
    let users = folder.join("htpasswd");
    fs::write(&users, HTPASSWD)?;
    let auth = format!("auth: {{htpasswd: {{realm: tests, path: {}}}}}\n", users.display());
    registry::serve(cluster, &folder, PORT, &auth)
}

/// Pushes an image under its own name.
///
/// # Errors
/// What `oras` said.
pub fn push(cluster: &Cluster, image: &Image) -> Result<()> {
    let tag = image.name().rsplit_once(':').context("a name without a tag")?.1;
    let folder = cluster.folder.join(format!("push-{}", image.name().replace(['/', ':'], "-")));
    fs::create_dir_all(&folder)?;
    image.write(&folder.join("image.tar"))?;
    let from = format!("image.tar:{tag}");
    let to = ["--to-plain-http", "--to-username", USER, "--to-password", PASSWORD, image.name()];
    oras(cluster, &folder, &[&["cp", "--from-oci-layout", &from], &to[..]].concat())?;
    Ok(fs::remove_dir_all(folder)?)
}

/// Runs `oras` in the cluster's network and in `folder`.
///
/// # Errors
/// What it said.
pub fn oras(cluster: &Cluster, folder: &Path, args: &[&str]) -> Result<()> {
    client(cluster, &site::registry("oras")?, folder, args)
}

/// Runs `wkg` in the cluster's network and in `folder`.
///
/// # Errors
/// What it said.
pub fn wkg(cluster: &Cluster, folder: &Path, args: &[&str]) -> Result<()> {
    client(cluster, &site::wkg()?, folder, args)
}

fn client(cluster: &Cluster, program: &Path, folder: &Path, args: &[&str]) -> Result<()> {
    // Entering a space leads to the root directory; what is pushed is named by its path from the folder.
    let mut command = cluster.space.command("env");
    command.arg("--chdir").arg(folder).arg(program).args(args).env("HOME", folder);
    process::run(&mut command, PATIENCE)?.success().map(drop)
}
