//! The harness of the tests that cross a process.
//!
//! - [`site`]: where the binaries, servers and guests are; a sentence for each that is missing.
//! - [`image`]: OCI images, made here and imported by `ctr`; [`artifact`]: Wasm artifacts.
//! - [`space`]: private namespaces, so that a test's servers see neither the machine's network nor its `/run`.
//! - [`bed`]: one containerd in a space; [`task`]: one container under it; [`model`]: many like it;
//!   [`client`] and [`events`]: its API.
//! - [`cri`]: pods, as a kubelet makes them. [`kube`]: pods, as people make them: a whole Kubernetes.
//! - [`machine`]: a root directory and a containerd of its own, for what changes a whole node.
//! - [`bundle`]: an OCI bundle and `wisp-runtime` as a command line; [`terminal`]: a command in a terminal.
//! - [`registry`] and [`docker`]: a registry, and a dockerd beside a containerd.
//! - [`net`]: clients and servers inside a space.
//! - [`leaks`]: what is left on the machine.
//! - [`pages`]: the documentation, and what people type of it; [`kept`]: what its examples were built to.
//! - [`memo`]: what is made once; [`process`]: children with a bound.
//! - [`suite`]: from a table of cases to a test binary; `finish`: what all of them do around their cases.

pub mod artifact;
pub mod bed;
pub mod bundle;
pub mod client;
pub mod cri;
pub mod docker;
mod ended;
pub mod events;
mod finish;
pub mod image;
pub mod kept;
pub mod kube;
pub mod leaks;
pub mod machine;
pub mod memo;
pub mod model;
pub mod net;
pub mod pages;
pub mod process;
pub mod registry;
pub mod site;
pub mod space;
pub mod suite;
pub mod task;
pub mod terminal;
mod text;

/// What a case answers.
pub type Outcome = anyhow::Result<()>;
