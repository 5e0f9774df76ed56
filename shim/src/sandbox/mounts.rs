//! Gives the pod's files to a container, in the `config.json` of its bundle.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{XattrFlags, setxattr};
use rustix::io::Errno;
use serde_json::{Value, json};

use crate::bundle;
use crate::error::{Context, Error, Result};

/// The file in the bundle.
const CONFIG: &str = "config.json";

/// One of the pod's files or folders, and where containers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodMount {
    destination: PathBuf,
    source: PathBuf,
    /// Whether it is read-only where the container's root is.
    like_root: bool,
}

impl PodMount {
    /// A file, which is writable where the container's root is.
    pub(super) fn file(destination: &Path, source: PathBuf) -> Self {
        Self { destination: destination.to_owned(), source, like_root: true }
    }

    /// The pod's shared memory.
    pub(super) fn shm(source: PathBuf) -> Self {
        Self { destination: "/dev/shm".into(), source, like_root: false }
    }
}

/// Adds the mounts to the container in a bundle, where containerd has not put something else.
///
/// # Errors
/// Its configuration cannot be read or written, or joins the processes of `not_shared`: the process whose process
/// namespace is the node's, when the pod is not to have that.
pub(crate) fn add(bundle: &Path, mounts: &[PodMount], not_shared: Option<u32>) -> Result<()> {
    let path = bundle.join(CONFIG);
    let json = fs::read(&path).context(|| format!("reading {}", path.display()))?;
    let mut config: Value = serde_json::from_slice(&json).map_err(|error| {
        Error::invalid_argument(format!("{} is not an OCI configuration: {error}", path.display()))
    })?;
    if not_shared.is_some_and(|pid| joins_processes(&config, pid)) {
        return Err(Error::invalid_argument(
            "the container asks to share its pod's processes, but the pod was made for containers that do not; make the pod \
             with shareProcessNamespace",
        ));
    }
    let read_only = config["root"]["readonly"].as_bool().unwrap_or(false);
    let label = config["linux"]["mountLabel"].as_str().unwrap_or_default().to_owned();
    let Some(config_mounts) = list(&mut config, "mounts") else {
        return Err(Error::invalid_argument(format!("the mounts in {} are not a list", path.display())));
    };
    for mount in mounts {
        insert(config_mounts, mount, mount.like_root && read_only);
        relabel(&mount.source, &label).context(|| format!("labelling {}", mount.source.display()))?;
    }
    let json = serde_json::to_vec(&config).map_err(|error| Error::unknown(error.to_string()))?;
    bundle::write(&path, &json).context(|| format!("writing {}", path.display()))
}

fn joins_processes(config: &Value, pid: u32) -> bool {
    let path = format!("/proc/{pid}/ns/pid");
    let namespaces = config["linux"]["namespaces"].as_array();
    namespaces.into_iter().flatten().any(|namespace| namespace["type"] == "pid" && namespace["path"] == *path)
}

/// A list in the configuration, which may be absent or null.
fn list<'a>(config: &'a mut Value, name: &str) -> Option<&'a mut Vec<Value>> {
    let value = config.as_object_mut()?.entry(name).or_insert(Value::Null);
    if value.is_null() {
        *value = json!([]);
    }
    value.as_array_mut()
}

/// Puts the mount in place of a default one, or before those that are below it; what was chosen for the place stays.
fn insert(mounts: &mut Vec<Value>, mount: &PodMount, read_only: bool) {
    let destination = |mount: &Value| PathBuf::from(mount["destination"].as_str().unwrap_or_default());
    let entry = json!({
        "destination": mount.destination,
        "type": "bind",
        "source": mount.source,
        "options": ["rbind", "rprivate", if read_only { "ro" } else { "rw" }],
    });
    if let Some(there) = mounts.iter_mut().find(|other| destination(other) == mount.destination) {
        if is_default(there) {
            *there = entry;
        }
        return;
    }
    let below = mounts.iter().position(|other| destination(other).starts_with(&mount.destination));
    mounts.insert(below.unwrap_or(mounts.len()), entry);
}

/// Whether it is the `/dev/shm` that each container has of its own where nobody says otherwise.
fn is_default(mount: &Value) -> bool {
    mount["type"] == "tmpfs" && mount["source"] == "shm"
}

/// Lets the container's SELinux type use the file.
fn relabel(path: &Path, label: &str) -> io::Result<()> {
    if label.is_empty() {
        return Ok(());
    }
    match setxattr(path, OsStr::new("security.selinux"), label.as_bytes(), XattrFlags::empty()) {
        Err(Errno::OPNOTSUPP) => Ok(()),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(config: Value, not_shared: Option<u32>) -> Result<Value> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(CONFIG), config.to_string()).unwrap();
        let hosts = PodMount::file(Path::new("/etc/hosts"), "/pod/hosts".into());
        add(dir.path(), &[hosts, PodMount::shm("/pod/shm".into())], not_shared)?;
        Ok(serde_json::from_slice(&fs::read(dir.path().join(CONFIG)).unwrap()).unwrap())
    }

    fn sources(config: &Value) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let mounts = config["mounts"].as_array().unwrap().iter();
        mounts.map(|mount| (text(&mount["destination"]), text(&mount["source"]))).collect()
    }

    #[test]
    fn the_pods_files_are_added_and_the_default_shared_memory_replaced() {
        let shm = json!({"destination": "/dev/shm", "type": "tmpfs", "source": "shm"});
        let config = added(json!({"ociVersion": "1.2.0", "mounts": [shm]}), None).unwrap();
        let pairs = [("/dev/shm", "/pod/shm"), ("/etc/hosts", "/pod/hosts")];
        assert_eq!(sources(&config), pairs.map(|(to, from)| (to.to_owned(), from.to_owned())));
        assert_eq!(config["ociVersion"], "1.2.0", "what is not understood stays");
        assert_eq!(config["mounts"][1]["options"], json!(["rbind", "rprivate", "rw"]));
    }

    #[test]
    fn what_the_pod_chose_for_a_place_stays_and_is_not_covered() {
        let own = json!({"destination": "/dev/shm", "type": "bind", "source": "/volume"});
        let inside = json!({"destination": "/etc/hosts/x", "type": "bind", "source": "/volume"});
        let config = added(json!({"mounts": [own, inside]}), None).unwrap();
        let pairs = [("/dev/shm", "/volume"), ("/etc/hosts", "/pod/hosts"), ("/etc/hosts/x", "/volume")];
        assert_eq!(sources(&config), pairs.map(|(to, from)| (to.to_owned(), from.to_owned())));
    }

    #[test]
    fn files_are_read_only_where_the_root_is_and_shared_memory_is_not() {
        let config = added(json!({"root": {"readonly": true}, "mounts": null}), None).unwrap();
        assert_eq!(config["mounts"][0]["options"][2], "ro");
        assert_eq!(config["mounts"][1]["options"][2], "rw");
    }

    #[test]
    fn no_container_gets_the_nodes_processes_because_its_pod_shares_none() {
        let config = json!({"linux": {"namespaces": [{"type": "pid", "path": "/proc/42/ns/pid"}]}});
        assert!(added(config.clone(), Some(42)).unwrap_err().to_string().contains("shareProcessNamespace"));
        assert!(added(config.clone(), Some(4)).is_ok());
        assert!(added(config, None).is_ok(), "hostPID");
    }
}
