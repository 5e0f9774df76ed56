//! A whole Kubernetes for the tests: a control plane and nodes whose containerds have Wisp.
//!
//! - [`cluster`]: etcd, API server, controller manager, scheduler and a registry in a space of their own.
//! - [`node`]: what a test asks of a node; [`host`]: one on this machine; [`uml`]: one with systemd and cgroup v2;
//!   [`upgraded`]: one whose containerd is replaced by a newer. [`ground`]: what a node writes for its whole machine.
//! - [`config`]: the configuration files of all of them. [`server`]: the processes and their logs.
//! - [`kubectl`]: what a person types; `api`: the same without a process for each question; [`pod`]: manifests; [`registry`]: where kubelets pull from;
//!   [`load`]: clients of a Service; [`metrics`]: metrics-server.
//! - [`world`]: all of it, made once; [`scene`]: what a case is given; [`suite`]: from a table of cases to a test binary.

pub(crate) mod api;
pub mod cluster;
pub mod config;
pub(crate) mod ground;
pub mod host;
pub mod kubectl;
pub mod load;
pub mod metrics;
pub mod node;
pub mod pod;
pub mod private;
pub mod registry;
pub mod scene;
pub mod server;
pub mod suite;
pub mod uml;
pub mod upgraded;
pub mod world;

use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::bed;

/// How long anything may take that a test of a whole cluster waits for: images are pulled and programs compiled meanwhile.
pub const PATIENCE: Duration = Duration::from_mins(4);

/// Asks until there is an answer, for what no event tells; not so often that the asking is what the machine is busy with.
///
/// # Errors
/// What was waited for, where it does not come within [`PATIENCE`].
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    bed::eventually(what, PATIENCE, || {
        let answer = ask()?;
        if answer.is_none() {
            thread::sleep(Duration::from_millis(300));
        }
        Ok(answer)
    })
}
