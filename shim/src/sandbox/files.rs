//! The files that all containers of a pod see: `/etc/hostname`, `/etc/hosts`, `/etc/resolv.conf`, and the memory file system
//! on `/dev/shm`. Where there is a pause container containerd makes them; where there is none it leaves them to the shim.
//!
//! They are in a folder of the pod's own. So is the record of each container's runtime, so that `delete` finds all that a
//! killed shim has left: containerd before 2.3 removes the containers' bundles and asks for the sandbox's only.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, mount};

use super::config::{Dns, Mode, PodConfig};
use super::mounts::PodMount;
use crate::bundle::RuntimeRecord;
use crate::error::{Context, Error, Result};
use crate::mount::unmount_all;

/// Where the folders of pods are. The point keeps it apart from containerd's namespaces, by whose names `wisp-runtime` keeps
/// its state beside it.
const FOLDER: &str = "/run/wisp/.pods";
/// The options of `/dev/shm`: a size of 64 MiB, as with containerd's own sandbox.
const SHM_OPTIONS: &std::ffi::CStr = c"mode=1777,size=67108864";
const SHM: &str = "shm";
const CONTAINERS: &str = "containers";

/// The folder of a pod.
#[derive(Debug, Clone)]
pub(crate) struct PodFiles(PathBuf);

impl PodFiles {
    /// That of the pod with this id, which may not be there.
    pub(crate) fn of(namespace: &str, id: &str) -> Self {
        Self(Path::new(FOLDER).join(namespace).join(id))
    }

    /// Whether there is anything of the pod.
    pub(crate) fn exist(&self) -> bool {
        self.0.exists()
    }

    /// Makes everything that the pod's containers see, over what an earlier shim may have left.
    ///
    /// # Errors
    /// Says what could not be made.
    pub(crate) fn make(&self, config: &PodConfig) -> Result<()> {
        self.remove().context(|| format!("removing what is left in {}", self.0.display()))?;
        let making = || format!("making {}", self.0.display());
        DirBuilder::new().recursive(true).mode(0o711).create(self.0.join(CONTAINERS)).context(making)?;
        let hostname = if config.hostname.is_empty() { node_name() } else { config.hostname.clone() };
        self.write("hostname", format!("{hostname}\n").as_bytes())?;
        self.write("hosts", &read_if_there("/etc/hosts")?)?;
        match &config.dns {
            Some(dns) => self.write("resolv.conf", resolv_conf(dns).as_bytes())?,
            None => self.write("resolv.conf", &read_if_there("/etc/resolv.conf")?)?,
        }
        if config.ipc() == Mode::Node {
            return Ok(());
        }
        let shm = self.0.join(SHM);
        let mounting = || format!("mounting the pod's /dev/shm on {}", shm.display());
        fs::create_dir(&shm).context(mounting)?;
        let flags = MountFlags::NOEXEC | MountFlags::NOSUID | MountFlags::NODEV;
        mount("shm", &shm, "tmpfs", flags, SHM_OPTIONS).context(mounting)
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        let path = self.0.join(name);
        let written = fs::write(&path, content).and_then(|()| {
            // Whatever the shim's umask is: the pod's users read them.
            fs::set_permissions(&path, Permissions::from_mode(0o644))
        });
        written.context(|| format!("writing {}", path.display()))
    }

    /// What is to be mounted in each container.
    pub(crate) fn mounts(&self) -> Vec<PodMount> {
        let file = |name| PodMount::file(&Path::new("/etc").join(name), self.0.join(name));
        let mut mounts: Vec<_> = ["hostname", "hosts", "resolv.conf"].map(file).into();
        let shm = self.0.join(SHM);
        if shm.exists() {
            mounts.push(PodMount::shm(shm));
        }
        mounts
    }

    /// Remembers which runtime has a container.
    ///
    /// # Errors
    /// Those of writing it.
    pub(crate) fn add_container(&self, id: &str, runtime: &RuntimeRecord) -> io::Result<()> {
        let folder = self.0.join(CONTAINERS).join(id);
        DirBuilder::new().recursive(true).mode(0o711).create(&folder)?;
        runtime.write(&folder)
    }

    /// Forgets a container.
    pub(crate) fn remove_container(&self, id: &str) {
        // It goes with the pod's folder anyway.
        let _ = fs::remove_dir_all(self.0.join(CONTAINERS).join(id));
    }

    /// The containers that have not been forgotten: their ids, and folders with the record of their runtime.
    pub(crate) fn containers(&self) -> Vec<(String, PathBuf)> {
        let entries = fs::read_dir(self.0.join(CONTAINERS)).into_iter().flatten().filter_map(io::Result::ok);
        entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path()))).collect()
    }

    /// Removes all of it. That nothing is there is no error.
    ///
    /// # Errors
    /// Those of unmounting and removing.
    pub(crate) fn remove(&self) -> io::Result<()> {
        unmount_all(&self.0.join(SHM))?;
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

fn node_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// A file of the node; one that it does not have is empty.
fn read_if_there(path: &str) -> Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::unknown(format!("reading {path}: {error}"))),
        Ok(content) => Ok(content),
    }
}

/// As containerd writes it.
fn resolv_conf(dns: &Dns) -> String {
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text.push_str(&format!("search {}\n", dns.searches.join(" ")));
    }
    for server in &dns.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !dns.options.is_empty() {
        text.push_str(&format!("options {}\n", dns.options.join(" ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::config::tests::config;
    use super::*;

    #[test]
    fn name_resolution_is_configured_as_asked() {
        let dns = Dns {
            servers: vec!["10.0.0.10".into(), "10.0.0.11".into()],
            searches: vec!["ns.svc.cluster.local".into(), "svc.cluster.local".into()],
            options: vec!["ndots:5".into()],
        };
        assert_eq!(
            resolv_conf(&dns),
            "search ns.svc.cluster.local svc.cluster.local\nnameserver 10.0.0.10\nnameserver 10.0.0.11\noptions ndots:5\n"
        );
        assert_eq!(resolv_conf(&Dns::default()), "");
    }

    #[test]
    fn a_pods_folder_is_made_over_what_was_left_and_goes_whole() {
        let dir = tempfile::tempdir().unwrap();
        let files = PodFiles(dir.path().join("ns/pod"));
        let config = config(Mode::Node, Mode::Container, Mode::Node, &[]);
        assert!(files.containers().is_empty() && !files.exist());
        files.make(&config).unwrap();
        let record = RuntimeRecord { program: "/rt".into(), root: "/state".into(), systemd_cgroup: false };
        files.add_container("c", &record).unwrap();
        files.add_container("d", &record).unwrap();
        files.remove_container("d");
        let containers = files.containers();
        assert_eq!((containers.len(), containers[0].0.as_str()), (1, "c"));
        assert_eq!(RuntimeRecord::read(&containers[0].1).unwrap(), Some(record));
        assert_eq!(fs::read_to_string(files.0.join("hostname")).unwrap(), "pod\n");
        assert_eq!(files.mounts().len(), 3, "the node's /dev/shm is containerd's to give");
        files.make(&config).unwrap();
        assert!(files.containers().is_empty());
        files.remove().unwrap();
        assert!(!files.exist());
        files.remove().unwrap();
    }
}
