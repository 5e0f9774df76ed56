//! The parts of a bundle's `config.json` that the shim reads. See the OCI runtime specification, `config.md`.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use crate::error::{Context, Error, Result};

/// More than any real one: what is longer is not read.
const MAX_BYTES: u64 = 16 << 20;

/// A container's configuration. Everything may be absent, or `null`, which means the same.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Spec {
    /// The container's own process.
    #[serde(deserialize_with = "or_default")]
    pub process: Process,
    /// The root file system.
    #[serde(deserialize_with = "or_default")]
    pub root: Root,
    /// What is mounted in it.
    #[serde(deserialize_with = "or_default")]
    pub mounts: Vec<Mount>,
    /// Annotations; kubelet's and the user's.
    #[serde(deserialize_with = "or_default")]
    pub annotations: HashMap<String, String>,
    /// What only Linux has.
    #[serde(deserialize_with = "or_default")]
    pub linux: Linux,
    /// Programs that are run at moments of the container's life.
    #[serde(deserialize_with = "or_default")]
    pub hooks: Hooks,
}

/// See [`Spec::hooks`]. Only whether there are some is asked, and only of those for which a runtime is needed.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Hooks {
    /// Before the container's program runs.
    #[serde(deserialize_with = "or_default")]
    pub start_container: Vec<IgnoredAny>,
    /// After it was started.
    #[serde(deserialize_with = "or_default")]
    pub poststart: Vec<IgnoredAny>,
    /// After the container was deleted.
    #[serde(deserialize_with = "or_default")]
    pub poststop: Vec<IgnoredAny>,
}

/// See [`Spec::process`].
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Process {
    /// The program and its arguments.
    #[serde(deserialize_with = "or_default")]
    pub args: Vec<String>,
    /// `NAME=value` each.
    #[serde(deserialize_with = "or_default")]
    pub env: Vec<String>,
    /// The working directory.
    pub cwd: PathBuf,
}

/// See [`Spec::root`].
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Root {
    /// Absolute, or relative to the bundle.
    pub path: PathBuf,
}

/// See [`Spec::mounts`].
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub(crate) struct Mount {
    /// Where in the container.
    pub destination: PathBuf,
    /// What; a path for bind mounts, absolute or relative to the bundle.
    pub source: PathBuf,
    /// Mount options.
    #[serde(deserialize_with = "or_default")]
    pub options: Vec<String>,
    /// The file system's type; `bind` is one way to ask for a bind mount.
    #[serde(rename = "type")]
    pub kind: String,
}

impl Mount {
    /// Whether the mount shows a directory or file of the node.
    pub(crate) fn is_bind(&self) -> bool {
        self.kind == "bind" || self.options.iter().any(|option| option == "bind" || option == "rbind")
    }
}

/// See [`Spec::linux`].
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Linux {
    /// The namespaces that the container has of its own, or joins.
    #[serde(deserialize_with = "or_default")]
    pub namespaces: Vec<Namespace>,
    /// A path, or `slice:prefix:name` for the systemd driver.
    pub cgroups_path: String,
}

/// One of [`Linux::namespaces`].
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Namespace {
    /// `pid`, `network`…
    #[serde(rename = "type")]
    pub kind: String,
    /// The namespace to join; empty for a new one.
    pub path: PathBuf,
}

fn or_default<'de, D, T>(deserializer: D) -> std::result::Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

impl Spec {
    /// Reads the configuration of a bundle.
    ///
    /// # Errors
    /// The file is not there, or is not JSON of the right form.
    pub(crate) fn read(bundle: &Path) -> Result<Self> {
        let path = bundle.join("config.json");
        let mut text = Vec::new();
        let file = File::open(&path).context(|| format!("opening {}", path.display()))?;
        file.take(MAX_BYTES).read_to_end(&mut text).context(|| format!("reading {}", path.display()))?;
        serde_json::from_slice(&text).map_err(|error| {
            Error::invalid_argument(format!("{} is not an OCI configuration: {error}", path.display()))
        })
    }

    /// Whether the container's processes end with its first one, because it has a pid namespace of its own.
    pub(crate) fn has_own_pid_namespace(&self) -> bool {
        self.linux.namespaces.iter().any(|ns| ns.kind == "pid" && ns.path.as_os_str().is_empty())
    }

    /// Whether hooks are to be run when the container is started.
    pub(crate) fn has_start_hooks(&self) -> bool {
        !self.hooks.start_container.is_empty() || !self.hooks.poststart.is_empty()
    }

    /// Whether hooks are to be run when the container is deleted.
    pub(crate) fn has_stop_hooks(&self) -> bool {
        !self.hooks.poststop.is_empty()
    }

    /// Whether the cgroup is to be made by systemd: its path then has the form `slice:prefix:name`.
    pub(crate) fn has_systemd_cgroup(&self) -> bool {
        let path = &self.linux.cgroups_path;
        !path.starts_with('/') && path.matches(':').count() == 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: &str) -> Spec {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_cgroup_driver_shows_in_the_form_of_the_path() {
        assert!(
            spec(r#"{"linux":{"cgroupsPath":"kubepods-pod1.slice:cri-containerd:abc"}}"#)
                .has_systemd_cgroup()
        );
        assert!(!spec(r#"{"linux":{"cgroupsPath":"/default/a:b:c"}}"#).has_systemd_cgroup());
        assert!(!spec("{}").has_systemd_cgroup());
    }

    #[test]
    fn what_is_null_is_absent() {
        let spec = spec(
            r#"{"process":{"args":null,"env":null},"root":null,"mounts":null,"annotations":null,"linux":null}"#,
        );
        assert!(spec.process.args.is_empty() && spec.mounts.is_empty());
    }

    #[test]
    fn a_joined_pid_namespace_is_not_the_containers_own() {
        assert!(spec(r#"{"linux":{"namespaces":[{"type":"pid"}]}}"#).has_own_pid_namespace());
        assert!(
            !spec(r#"{"linux":{"namespaces":[{"type":"pid","path":"/proc/1/ns/pid"}]}}"#)
                .has_own_pid_namespace()
        );
        assert!(!spec(r#"{"linux":{"namespaces":[{"type":"mount"}]}}"#).has_own_pid_namespace());
    }

    #[test]
    fn hooks_of_the_start_and_of_the_end_are_told_from_others() {
        assert!(spec(r#"{"hooks":{"poststart":[{"path":"/bin/true"}]}}"#).has_start_hooks());
        assert!(spec(r#"{"hooks":{"startContainer":[{"path":"/bin/true"}]}}"#).has_start_hooks());
        assert!(!spec(r#"{"hooks":{"prestart":[{"path":"/bin/true"}],"poststart":null}}"#).has_start_hooks());
        assert!(spec(r#"{"hooks":{"poststop":[{"path":"/bin/true"}]}}"#).has_stop_hooks());
        assert!(!spec(r#"{"hooks":{"poststart":[{"path":"/bin/true"}]}}"#).has_stop_hooks());
        assert!(!spec("{}").has_start_hooks() && !spec("{}").has_stop_hooks());
    }
}
