//! Images that are Wasm artifacts: containerd unpacks nothing of them, so that the container's root is empty and the program
//! is a blob in containerd's content store.
//!
//! Which one is asked of containerd over gRPC, by `wisp-artifact`, a process that lives as long as the question: there is
//! one shim a pod, and it stays small. The answer is a record in the bundle, which `wisp-runtime` reads.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tokio::sync::Notify;
use wisp_contract::companion;

use crate::error::{Context, Error, Result};
use crate::reaper::Reaper;
use crate::runtime::{memory_file, printed, wait};
use crate::spec::Spec;

/// The program that asks.
const ASKER: &str = "wisp-artifact";
/// What containerd's CRI plugin says of each container.
const CONTAINER_TYPE: &str = "io.kubernetes.cri.container-type";

/// Finds the Wasm layers of containers' images.
#[derive(Debug)]
pub(crate) struct Artifacts {
    address: PathBuf,
    namespace: String,
    reaper: Reaper,
}

impl Artifacts {
    /// Those of the containerd whose gRPC socket is at `address`.
    pub(crate) fn new(address: &str, namespace: &str, reaper: Reaper) -> Self {
        Self { address: address.into(), namespace: namespace.to_owned(), reaper }
    }

    /// Has the Wasm layers of a container's image recorded in the container's bundle, if it has any.
    ///
    /// Only CRI makes containers of artifacts, so other containers are not asked for.
    ///
    /// # Errors
    /// The asker's own sentence.
    pub(crate) async fn record(
        &self,
        id: &str,
        bundle: &Path,
        spec: &Spec,
        abandoned: &Notify,
    ) -> Result<()> {
        if spec.annotations.get(CONTAINER_TYPE).is_none_or(|kind| kind != "container") {
            return Ok(());
        }
        let asker = companion::find(ASKER).map_err(|error| Error::unknown(error.to_string()))?;
        let said = memory_file().context(|| format!("making a file for what {ASKER} says"))?;
        let stderr = said.try_clone().context(|| format!("making a file for what {ASKER} says"))?;
        let mut command = Command::new(&asker);
        command.arg("--address").arg(&self.address).args(["--namespace", &self.namespace]);
        command.arg("--bundle").arg(bundle).arg(id);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        let (pid, exit) =
            self.reaper.spawn(&mut command).context(|| format!("running {}", asker.display()))?;
        match wait(pid, exit, Some(abandoned)).await {
            0 => Ok(()),
            status => Err(Error::unknown(
                printed(&said)
                    .unwrap_or_else(|| format!("{ASKER} ended with status {status} and said nothing")),
            )),
        }
    }
}
