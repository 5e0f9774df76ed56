//! One containerd with CRI and one of its handlers.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::artifact::Artifact;
use crate::bed::{self, Bed, LIMIT, Options, eventually};
use crate::cri::api::StatusResponse;
use crate::cri::{Cri, config, image};
use crate::image::Image;
use crate::memo::Memo;
use crate::task;

/// A containerd version, and who the sandbox of a pod is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variant {
    /// containerd's version.
    pub version: &'static str,
    /// `podsandbox`: a pause container; `shim`: Wisp's shim.
    pub sandboxer: &'static str,
}

/// Everything that the cases run on.
const VARIANTS: &[Variant] = &[
    Variant { version: "1.7", sandboxer: "podsandbox" },
    Variant { version: "2.2", sandboxer: "podsandbox" },
    Variant { version: "2.2", sandboxer: "shim" },
    Variant { version: "2.4", sandboxer: "podsandbox" },
    Variant { version: "2.4", sandboxer: "shim" },
];

impl Variant {
    /// All of them; those with a pause container where runc stands in for Wisp.
    #[must_use]
    pub fn all() -> Vec<Self> {
        VARIANTS.iter().copied().filter(|variant| !task::without_wisp() || !variant.shim()).collect()
    }

    /// `2.4/shim`.
    #[must_use]
    pub fn name(self) -> String {
        format!("{}/{}", self.version, self.sandboxer)
    }

    /// Whether the shim is the sandbox.
    #[must_use]
    pub fn shim(self) -> bool {
        self.sandboxer == "shim"
    }

    /// Whether a pod may be in the node's network: containerd 2.0 to 2.2 crashes where the shim is its sandbox.
    #[must_use]
    pub fn has_nodes_network(self) -> bool {
        !(self.version == "2.2" && self.shim())
    }

    /// Whether containerd mounts images as volumes, and says what its handlers can do.
    #[must_use]
    pub fn is_2(self) -> bool {
        self.version.starts_with("2.")
    }

    fn handler(self) -> &'static str {
        match self.sandboxer {
            _ if task::without_wisp() => config::RUNC,
            "shim" => config::SHIM,
            _ => config::PODSANDBOX,
        }
    }
}

/// What a case gets: makes pods under one handler.
#[derive(Debug)]
pub struct Node {
    /// The containerd.
    pub bed: Arc<Bed>,
    /// Which it is.
    pub variant: Variant,
    /// Its CRI plugin.
    pub cri: Cri,
    pub(super) handler: Cell<&'static str>,
}

impl Node {
    /// A containerd of the case's own, with all images.
    ///
    /// # Errors
    /// One sentence with what is missing or did not start.
    pub fn start(variant: Variant) -> Result<Self> {
        Self::on(start(variant.version)?, variant)
    }

    /// The same, with a containerd that is special.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub fn start_with(variant: Variant, options: Options) -> Result<Self> {
        Self::on(start_with(variant.version, options)?, variant)
    }

    /// The containerd that cases share.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub fn shared(variant: Variant) -> Result<Self> {
        let bed = bed::shared(variant.version, || start(variant.version))?;
        Self::on(bed, variant)
    }

    fn on(bed: Arc<Bed>, variant: Variant) -> Result<Self> {
        let cri = connect(&bed)?;
        Ok(Self { bed, variant, cri, handler: Cell::new(variant.handler()) })
    }

    /// The same containerd under runc's handler, for what is compared.
    ///
    /// # Errors
    /// Where it does not answer.
    pub fn under_runc(&self) -> Result<Self> {
        self.under(config::RUNC)
    }

    /// The same containerd under any of its handlers.
    ///
    /// # Errors
    /// Where it does not answer.
    pub fn under(&self, handler: &'static str) -> Result<Self> {
        let node = Self::on(Arc::clone(&self.bed), self.variant)?;
        node.handler.set(handler);
        Ok(node)
    }

    /// The handler that its pods are made with.
    #[must_use]
    pub fn handler(&self) -> &'static str {
        self.handler.get()
    }

    /// A folder in memory of at most so much (`16m`), as a volume.
    ///
    /// # Errors
    /// Those of mounting it.
    pub fn memory_volume(&self, size: &str) -> Result<MemoryVolume> {
        let volume = MemoryVolume {
            bed: Arc::clone(&self.bed),
            path: format!("/run/{}", self.bed.id("memory")).into(),
        };
        let (path, options) = (volume.path.clone(), format!("size={size}"));
        self.bed.space.inside(move || {
            fs::create_dir(&path)?;
            Ok(mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))?)
        })?;
        Ok(volume)
    }

    /// Starts its containerd again after [`Bed::stop`]; the connection to it finds it.
    ///
    /// # Errors
    /// Where it does not answer.
    pub fn launch(&self) -> Result<()> {
        self.bed.launch(self.variant.version)?;
        until_ready(&self.bed, || Ok(self.cri.status().is_ok_and(|status| ready(&status)).then_some(())))
    }

    /// Imports an artifact with `ctr`.
    ///
    /// # Errors
    /// What `ctr` said.
    pub fn import_artifact(&self, artifact: &Artifact) -> Result<()> {
        image::import_artifact(&self.bed, &self.cri, artifact)
    }

    /// Imports an image, once.
    ///
    /// # Errors
    /// What `ctr` said.
    pub fn import(&self, image: &Image) -> Result<()> {
        image::import(&self.bed, &self.cri, image)
    }
}

/// A folder in memory, as long as this value.
#[derive(Debug)]
pub struct MemoryVolume {
    bed: Arc<Bed>,
    path: PathBuf,
}

impl MemoryVolume {
    /// Where it is, for containerd.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for MemoryVolume {
    fn drop(&mut self) {
        let path = self.path.clone();
        // What stays is found by the case that looks at what is left behind.
        let _ = self.bed.space.inside(move || {
            umount2(&path, MntFlags::MNT_DETACH)?;
            Ok(fs::remove_dir(&path)?)
        });
    }
}

fn start(version: &'static str) -> Result<Arc<Bed>> {
    start_with(version, Options::default())
}

fn start_with(version: &'static str, options: Options) -> Result<Arc<Bed>> {
    static IMPORTED: Memo<()> = Memo::new();
    let bed = Bed::start_with(version, Options { cri: true, ..options })?;
    IMPORTED.get(&bed.name, || image::import_common(&bed, &connect(&bed)?))?;
    Ok(bed)
}

/// containerd answers before its CRI plugin does, and that before it has read the network's configuration.
fn until_ready<T>(bed: &Bed, ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    eventually("CRI is ready", LIMIT, ask).with_context(|| bed.log_tail("cri"))
}

fn connect(bed: &Bed) -> Result<Cri> {
    until_ready(bed, || {
        let Ok(cri) = Cri::connect(&bed.socket()) else { return Ok(None) };
        Ok(ready(&cri.status()?).then_some(cri))
    })
}

/// A further condition is that nothing of the configuration is deprecated, and this machine may have cgroup v1.
fn ready(status: &StatusResponse) -> bool {
    let conditions = status.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let is = |name| conditions.iter().any(|condition| condition.r#type == name && condition.status);
    is("RuntimeReady") && is("NetworkReady")
}
