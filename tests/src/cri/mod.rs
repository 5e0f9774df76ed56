//! Pods as a kubelet makes them: containerd's CRI plugin, its network plugins, and a client of both.
//!
//! - [`config`]: containerd's configuration; [`image`]: images that CRI knows; [`registry`]: where it pulls them from.
//! - [`client`]: the calls. [`node`]: one containerd and one handler, which is what a case gets.
//! - [`pod`] and [`container`]: from a description to what runs; [`logs`]: what it printed.
//! - [`stream`]: exec, attach and port-forward.

mod client;
pub mod config;
pub mod container;
pub mod image;
pub mod logs;
pub mod node;
pub mod pod;
pub mod registry;
pub mod stream;

pub use client::Cri;
pub use k8s_cri::v1 as api;

/// The containerd namespace of CRI's containers.
pub const NAMESPACE: &str = "k8s.io";
