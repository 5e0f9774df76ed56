//! Images for this node's containerd, by its own `ctr`, which unpacks them as the node's pulls are; and images that it has.

use std::io::{BufWriter, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Arg;
use tokio::time::timeout;
use wisp_contract::digest::Digest;
use wisp_images::archive;
use wisp_images::blobs::Blobs;
use wisp_images::name::reference;
use wisp_images::store::{Named, Store};

use crate::node::containerd::{ADDRESS, Containerd};

/// The longest that containerd may take for all answers.
const LIMIT: Duration = Duration::from_secs(30);

/// This node's containerd, where a command is to have to do with it.
#[derive(Debug, clap::Args)]
pub(crate) struct Node {
    /// Bring the image into this node's containerd too, into the namespace NS (k8s.io, where kubelet looks)
    #[arg(
        long,
        value_name = "NS",
        num_args = 0..=1,
        default_missing_value = "k8s.io",
        require_equals = true
    )]
    containerd: Option<String>,
    /// The socket of the containerd that is meant, if it is not the one that runs here
    #[arg(long, value_name = "SOCKET", requires = "containerd")]
    address: Option<PathBuf>,
}

/// `--containerd` of a command that takes images from there rather than to bring them.
pub(crate) fn takes(containerd: Arg) -> Arg {
    containerd
        .help(
            "Take what this node's containerd has pulled, in the namespace NS (k8s.io, where kubelet looks)",
        )
        .conflicts_with("pull")
}

impl Node {
    /// Whether images are to be taken from there.
    pub(crate) fn is_asked(&self) -> bool {
        self.containerd.is_some()
    }

    /// The blobs of the node's containerd, and the manifest or index that a name leads to.
    ///
    /// # Errors
    /// One sentence where there is no such image, or no containerd.
    pub(crate) fn find(&self, name: &str) -> Result<(Blobs, Digest)> {
        let namespace = self.containerd.as_deref().unwrap_or_default();
        let address = match &self.address {
            Some(address) => address.clone(),
            None => running()?.address.unwrap_or_else(|| ADDRESS.into()),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let found = runtime.block_on(async { timeout(LIMIT, ask(&address, namespace, name)).await });
        let (root, target) = found
            .with_context(|| format!("containerd did not answer within {LIMIT:?}"))?
            .with_context(|| format!("containerd at {}", address.display()))?;
        let target = target.with_context(|| {
            format!("containerd has no image {name} in its namespace {namespace}; `ctr -n {namespace} images ls` lists its images")
        })?;
        Ok((Blobs::at(root), target))
    }

    /// Brings images into the node's containerd, if that was asked for.
    ///
    /// # Errors
    /// One sentence with what `ctr` said.
    pub(crate) fn import(&self, store: &Store, images: &[Named]) -> Result<()> {
        let Some(namespace) = &self.containerd else { return Ok(()) };
        let containerd = match &self.address {
            Some(_) => Containerd::installed(None)?,
            None => running()?,
        };
        let ctr = containerd.find("ctr").with_context(|| {
            format!(
                "there is no ctr beside {}; install containerd's own client",
                containerd.program.display()
            )
        })?;
        let address = self.address.clone().or(containerd.address).unwrap_or_else(|| ADDRESS.into());
        let mut child = Command::new(&ctr)
            .arg("--address")
            .arg(&address)
            .args(["--namespace", namespace, "images", "import", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| ctr.display().to_string())?;
        let said = child.stderr.take().map(|mut pipe| {
            thread::spawn(move || {
                let mut text = String::new();
                let _ = pipe.read_to_string(&mut text); // what was read before an error is still worth showing
                text
            })
        });
        let input = child.stdin.take().context("a pipe to ctr")?;
        let saved = archive::save(store, images, BufWriter::new(input));
        let status = child.wait()?;
        let said = said.and_then(|thread| thread.join().ok()).unwrap_or_default();
        if !status.success() {
            let why = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
            bail!("containerd at {} did not take the image: {}", address.display(), why.trim());
        }
        Ok(saved?)
    }
}

/// The folder of the content store, and what a name leads to, as it is typed or as docker reads it.
async fn ask(address: &Path, namespace: &str, name: &str) -> Result<(PathBuf, Option<Digest>)> {
    let containerd = wisp_artifact::containerd::Containerd::connect(address, namespace).await?;
    let mut target = containerd.image(name).await?;
    if let (None, Ok(whole)) = (target, reference(name)) {
        target = containerd.image(&whole.whole()).await?;
    }
    Ok((containerd.content_root().await?, target))
}

fn running() -> Result<Containerd> {
    Containerd::running(None)
        .context("name the socket of the one that is meant with --address")?
        .context("no containerd runs on this node; start it, or name its socket with --address")
}
