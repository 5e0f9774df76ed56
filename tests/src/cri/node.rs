//! One containerd with CRI and one of its handlers.

use std::cell::Cell;
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::artifact::Artifact;
use crate::bed::{self, Bed, LIMIT, Options, eventually};
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
    pub fn name(&self) -> String {
        format!("{}/{}", self.version, self.sandboxer)
    }

    /// Whether the shim is the sandbox.
    #[must_use]
    pub fn shim(&self) -> bool {
        self.sandboxer == "shim"
    }

    fn handler(&self) -> &'static str {
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

    /// The containerd that cases share.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub fn shared(variant: Variant) -> Result<Self> {
        let bed = bed::shared(variant.version, || start(variant.version))?;
        Self::on(bed, variant)
    }

    fn on(bed: Arc<Bed>, variant: Variant) -> Result<Self> {
        let cri = until_ready(&bed)?;
        Ok(Self { bed, variant, cri, handler: Cell::new(variant.handler()) })
    }

    /// The same containerd under runc's handler, for what is compared.
    ///
    /// # Errors
    /// Where it does not answer.
    pub fn under_runc(&self) -> Result<Self> {
        let node = Self::on(Arc::clone(&self.bed), self.variant)?;
        node.handler.set(config::RUNC);
        Ok(node)
    }

    /// Starts its containerd again after [`Bed::stop`].
    ///
    /// # Errors
    /// Where it does not answer.
    pub fn launch(&mut self) -> Result<()> {
        self.bed.launch(self.variant.version)?;
        self.cri = until_ready(&self.bed)?;
        Ok(())
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

fn start(version: &'static str) -> Result<Arc<Bed>> {
    static IMPORTED: Memo<()> = Memo::new();
    let bed = Bed::start_with(version, Options { cri: true, ..Options::default() })?;
    IMPORTED.get(&bed.name, || image::import_common(&bed, &until_ready(&bed)?))?;
    Ok(bed)
}

/// containerd answers before its CRI plugin does, and that before it has read the network's configuration.
fn until_ready(bed: &Bed) -> Result<Cri> {
    eventually("CRI is ready", LIMIT, || {
        let Ok(cri) = Cri::connect(&bed.socket()) else { return Ok(None) };
        let conditions = cri.status()?.status.unwrap_or_default().conditions;
        // The third condition is that nothing of the configuration is deprecated, and this machine may have cgroup v1.
        let ready = |name| conditions.iter().any(|condition| condition.r#type == name && condition.status);
        Ok((ready("RuntimeReady") && ready("NetworkReady")).then_some(cri))
    })
    .with_context(|| bed.log_tail("cri"))
}
