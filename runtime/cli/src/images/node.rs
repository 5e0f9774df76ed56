//! Images for this node's containerd, by its own `ctr`, which unpacks them as the node's pulls are.

use std::io::{BufWriter, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};
use wisp_images::archive;
use wisp_images::store::{Named, Store};

use crate::node::containerd::{ADDRESS, Containerd};

/// The options.
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

impl Node {
    /// Brings images into the node's containerd, if that was asked for.
    ///
    /// # Errors
    /// One sentence with what `ctr` said.
    pub(crate) fn import(&self, store: &Store, images: &[Named]) -> Result<()> {
        let Some(namespace) = &self.containerd else { return Ok(()) };
        let containerd = match &self.address {
            Some(_) => Containerd::installed(None)?,
            None => Containerd::running(None)
                .context("name the socket of the one that is meant with --address")?
                .context("no containerd runs on this node; start it, or name its socket with --address")?,
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
