//! A registry in a node's own network, and pushes to it with `oras`, which a person uses too.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, ensure};

use crate::bed::LIMIT;
use crate::cri::node::Node;
use crate::process::{self, Finished};
use crate::{artifact, image, registry, site};

/// A registry that runs as long as this value.
#[derive(Debug)]
pub struct Registry<'a> {
    node: &'a Node,
    folder: PathBuf,
    server: registry::Registry,
}

impl<'a> Registry<'a> {
    /// Starts one.
    ///
    /// # Errors
    /// Where it is missing or does not answer.
    pub fn start(node: &'a Node) -> Result<Self> {
        static PORTS: AtomicU16 = AtomicU16::new(5001);
        let port = PORTS.fetch_add(1, Ordering::Relaxed);
        let folder = node.bed.folder.join(format!("registry-{port}"));
        fs::create_dir_all(&folder)?;
        let server = registry::Registry::start(&node.bed.space, &folder, port)?;
        Ok(Self { node, folder, server })
    }

    /// A reference to an image in it.
    #[must_use]
    pub fn name(&self, image: &str) -> String {
        self.server.name(image)
    }

    /// Has its node pull the images of every other registry from this one, by their names there. The node's bed is one with
    /// [`crate::bed::Options::registries`].
    ///
    /// # Errors
    /// Those of writing.
    pub fn stand_in_for_all(&self) -> Result<()> {
        let hosts = self.node.bed.registries().join("_default");
        fs::create_dir_all(&hosts)?;
        let mirror = format!("[host.'http://{}']\ncapabilities = ['pull', 'resolve']\n", self.server.address);
        Ok(fs::write(hosts.join("hosts.toml"), mirror)?)
    }

    /// A folder for files that are to be pushed.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Pushes an image under its own name.
    ///
    /// # Errors
    /// What `oras` said.
    pub fn push(&self, image: &image::Image) -> Result<()> {
        self.copy(image.name(), |archive| image.write(archive))
    }

    /// Pushes an artifact under its own name.
    ///
    /// # Errors
    /// What `oras` said.
    pub fn push_artifact(&self, artifact: &artifact::Artifact) -> Result<()> {
        self.copy(artifact.name(), |archive| artifact.write(archive))
    }

    fn copy(&self, name: &str, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let archive = self.folder.join("image.tar");
        write(&archive)?;
        let tag = name.rsplit_once(':').context("a name without a tag")?.1;
        let from = format!("{}:{tag}", archive.display());
        self.oras(&["cp", "--from-oci-layout", &from, "--to-plain-http", name])?.success()?;
        Ok(fs::remove_file(archive)?)
    }

    /// Runs `oras` in the registry's network and folder, to its end.
    ///
    /// # Errors
    /// Where it does not start or end; that it fails is an answer.
    pub fn oras(&self, args: &[&str]) -> Result<Finished> {
        // Entering a space leads to the root directory; what is pushed is named by its path from the folder.
        let mut command = self.node.bed.space.command("env");
        command
            .arg("--chdir")
            .arg(&self.folder)
            .arg(site::registry("oras")?)
            .args(args)
            .env("HOME", &self.folder);
        process::run(&mut command, LIMIT)
    }

    /// Has CRI pull an image, as a kubelet does; the reference to make containers with.
    ///
    /// # Errors
    /// What CRI said.
    pub fn pull(&self, name: &str) -> Result<String> {
        let reference = self.node.cri.pull(name, None);
        let reference =
            reference.map_err(|status| anyhow::anyhow!("pulling {name}: {}", status.message()))?;
        ensure!(!reference.is_empty(), "an image without a reference");
        Ok(reference)
    }
}

impl Drop for Registry<'_> {
    fn drop(&mut self) {
        // It may be gone with its bed. The server has no file in it open for longer than a request.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
