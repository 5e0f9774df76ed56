//! Control groups in the terms of the OCI spec: v1 and v2, by the cgroupfs and systemd drivers.
//!
//! The driver is told by the form of `cgroupsPath` (`slice:prefix:name` is systemd's), so that no option of containerd's has to be
//! right. Where systemd owns the group, on version 2, `libcgroups` talks to it; everything else is done here.
//!
//! - [`tree`]: a group's folders.
//! - [`limits`]: which limit is written to which file.
//! - [`devices`] and [`bpf`]: device rules.
//! - [`figures`]: what the kernel tells.

mod bpf;
mod devices;
mod figures;
mod limits;
mod tree;

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

pub use figures::{Cpu, Figures, Memory};
use libcgroups::common::{
    AnyCgroupManager, CgroupConfig, CgroupManager, ControllerOpt, create_cgroup_manager,
};
use libcgroups_nix::unistd::Pid;
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxResources};
use tree::Tree;

/// Where the hierarchies are mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// A failure of the kernel's, systemd's or of the path.
#[derive(Debug, thiserror::Error)]
#[error("cgroup {path}: {why}")]
pub struct Error {
    path: String,
    /// The innermost cause.
    why: String,
}

/// How a new process comes into a group. To move another process into one, the kernel stops every fork and exit of the machine
/// and waits a grace period of RCU for that, several milliseconds; neither of the first two does.
#[derive(Debug)]
pub enum Entry {
    /// It is made in the group of this descriptor: `CLONE_INTO_CGROUP` (version 2).
    Born(OwnedFd),
    /// It enters by [`Cgroup::enter`] while it has one thread (version 1).
    Itself,
    /// It is moved by [`Cgroup::adopt`]: systemd makes a unit only around a process.
    Moved,
}

/// One control group.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    tree: Tree,
    /// The container's id, where the group is systemd's.
    unit_of: Option<String>,
}

impl Cgroup {
    /// The group of container `id` at the spec's `cgroupsPath`, or at `/wisp/ID` where the spec names none. Nothing is made
    /// before [`Cgroup::make`].
    ///
    /// # Errors
    /// If no hierarchy is mounted, or the path is none.
    pub fn of(id: &str, cgroups_path: Option<&Path>) -> Result<Self, Error> {
        let path = cgroups_path.map_or_else(|| Path::new("/wisp").join(id), Path::to_path_buf);
        let systemd = is_systemd_form(&path);
        let folder = if systemd { expand(&path) } else { path.clone() };
        let tree = Tree::of(&folder).map_err(|error| failure(&path, error))?;
        let unit_of = (systemd && tree::is_unified()).then(|| id.to_owned());
        Ok(Self { path, tree, unit_of })
    }

    /// Whether a process enters the group by itself, at any time while it has one thread ([`Entry::Itself`]), so that the group need
    /// not be there when the process is made.
    #[must_use]
    pub fn is_entered_later(&self) -> bool {
        matches!(self.tree, Tree::Many(_))
    }

    /// Checks that no other container has the group, as runc does: what is in a container's group ends with it, and does not run where
    /// the group is frozen.
    ///
    /// # Errors
    /// If a process is in the group or below it, or the group is frozen.
    pub fn check_unused(&self) -> Result<(), Error> {
        let why = match self.tree.occupants() {
            0 if self.tree.is_frozen() => "it is frozen".to_owned(),
            0 => return Ok(()),
            count => format!("it is not empty: {count} process(es) found"),
        };
        Err(self.failed(io::Error::other(format!("{why}; a container needs a control group of its own"))))
    }

    /// Makes the group if it is not there and is not for systemd to make, and says how a process comes into it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn make(&self) -> Result<Entry, Error> {
        if self.unit_of.is_some() && !self.tree.exists() {
            return Ok(Entry::Moved);
        }
        self.tree.make().map_err(|error| self.failed(error))?;
        self.entry()
    }

    /// How a process comes into the group, which is there.
    ///
    /// # Errors
    /// If it is not.
    pub fn entry(&self) -> Result<Entry, Error> {
        match &self.tree {
            Tree::Many(_) => Ok(Entry::Itself),
            Tree::One { folder, .. } => File::open(folder)
                .map(|folder| Entry::Born(folder.into()))
                .map_err(|error| self.failed(error)),
        }
    }

    /// Moves this process, which has one thread, into the group.
    ///
    /// # Errors
    /// The kernel's.
    pub fn enter(&self) -> Result<(), Error> {
        self.tree.enter().map_err(|error| self.failed(error))
    }

    /// Has systemd make the group around a process.
    ///
    /// # Errors
    /// systemd's.
    pub fn adopt(&self, pid: i32) -> Result<(), Error> {
        match self.systemd()? {
            Some(systemd) => systemd.add_task(Pid::from_raw(pid)).map_err(|error| self.failed(error)),
            None => Err(self.failed(io::Error::other("systemd does not own it"))),
        }
    }

    /// Sets the limits that `resources` names; the others, and device rules, stay as they are.
    ///
    /// # Errors
    /// The kernel's, for a value that it does not take.
    pub fn apply(&self, resources: &LinuxResources) -> Result<(), Error> {
        // systemd is told, so that it does not undo what is written after it to the group's files, as runc does: not every
        // limit has a property of a unit.
        if let Some(systemd) = self.systemd()? {
            let options = ControllerOpt {
                resources,
                disable_oom_killer: false,
                oom_score_adj: None,
                freezer_state: None,
            };
            systemd.apply(&options).map_err(|error| self.failed(error))?;
        }
        limits::apply(&self.tree, resources).map_err(|error| self.failed(error))
    }

    /// Holds the group to device rules. This is for the group's beginning: rules that were set are not taken back.
    ///
    /// # Errors
    /// For a rule that makes no sense, or a kernel that does not take it.
    pub fn hold_devices(&self, rules: &[LinuxDeviceCgroup]) -> Result<(), Error> {
        let rules = devices::Rules::of(rules).map_err(|why| self.failed(io::Error::other(why)))?;
        let held = match &self.tree {
            Tree::One { folder, .. } => rules.program().attach(folder).map_err(|error| {
                io::Error::other(format!(
                    "the device rules cannot be put in force: {error}; they need a kernel with CONFIG_CGROUP_BPF and a root \
                     that may use bpf(2)"
                ))
            }),
            Tree::Many(_) => match self.tree.folder("devices") {
                Some(folder) => tree::write_lines(folder, rules.lines()),
                None => Err(io::Error::other("this node has no devices controller for the device rules")),
            },
        };
        held.map_err(|error| self.failed(error))
    }

    /// Stops every process of the group, or lets them go on.
    ///
    /// # Errors
    /// The kernel's.
    pub fn freeze(&self, frozen: bool) -> Result<(), Error> {
        self.tree.freeze(frozen).map_err(|error| self.failed(error))
    }

    /// Every process of the group and of the groups below it; none if the group is gone.
    #[must_use]
    pub fn pids(&self) -> Vec<i32> {
        self.tree.pids()
    }

    /// The group's figures.
    ///
    /// # Errors
    /// If the group is gone.
    pub fn figures(&self) -> Result<Figures, Error> {
        figures::read(&self.tree).map_err(|error| self.failed(error))
    }

    /// Removes the group, ending what still runs in it; one that is gone already is no error.
    ///
    /// # Errors
    /// If processes stay.
    pub fn remove(&self) -> Result<(), Error> {
        // A unit goes when its group is empty; what systemd says about one that is going is no failure.
        if self.tree.exists()
            && let Some(systemd) = self.systemd()?
        {
            systemd.remove().ok();
        }
        self.tree.remove().map_err(|error| self.failed(error))
    }

    /// The way to systemd, where the group is its.
    fn systemd(&self) -> Result<Option<AnyCgroupManager>, Error> {
        let Some(id) = &self.unit_of else { return Ok(None) };
        let config =
            CgroupConfig { cgroup_path: self.path.clone(), systemd_cgroup: true, container_name: id.clone() };
        create_cgroup_manager(config).map(Some).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: impl std::error::Error + 'static) -> Error {
        failure(&self.path, error)
    }
}

/// Whether the group that process `pid` is in is frozen.
///
/// # Errors
/// If the process is gone.
pub fn is_frozen(pid: i32) -> io::Result<bool> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    Ok(groups.lines().any(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { return false };
        match controllers {
            "freezer" => {
                tree::says(&below(&Path::new(ROOT).join("freezer"), path), "freezer.state", "FROZEN")
            }
            "" => tree::says(&below(Path::new(ROOT), path), "cgroup.freeze", "1"),
            _ => false,
        }
    }))
}

/// A group's folder in a hierarchy.
fn below(hierarchy: &Path, group: &str) -> PathBuf {
    hierarchy.join(group.trim_start_matches('/'))
}

fn failure(path: &Path, error: impl std::error::Error + 'static) -> Error {
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source().filter(|inner| !inner.is::<io::Error>()) {
        cause = inner;
    }
    Error { path: path.display().to_string(), why: cause.to_string() }
}

/// `slice:prefix:name`, as kubelet and containerd write it for systemd.
fn is_systemd_form(path: &Path) -> bool {
    path.to_str().is_some_and(|text| !text.starts_with('/') && text.matches(':').count() == 2)
}

/// Where systemd puts `slice:prefix:name`: `a-b.slice` is below `a.slice` (`systemd.slice(5)`).
fn expand(path: &Path) -> PathBuf {
    let text = path.to_string_lossy();
    let mut parts = text.splitn(3, ':');
    let (slice, prefix, name) =
        (parts.next().unwrap_or(""), parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    let slice = if slice.is_empty() { "system.slice" } else { slice };
    let mut expanded = PathBuf::from("/");
    let stem = slice.trim_end_matches(".slice");
    for (end, _) in stem.match_indices('-').chain([(stem.len(), "")]).filter(|_| stem != "-") {
        expanded.push(format!("{}.slice", &stem[..end]));
    }
    expanded.push(if name.ends_with(".slice") { name.to_owned() } else { format!("{prefix}-{name}.scope") });
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_is_told_by_the_form_of_the_path() {
        assert!(is_systemd_form(Path::new("kubepods-burstable.slice:cri-containerd:abc")));
        assert!(is_systemd_form(Path::new(":cri-containerd:abc")));
        assert!(!is_systemd_form(Path::new("/default/abc")));
        assert!(!is_systemd_form(Path::new("/a:b:c")));
    }

    #[test]
    fn a_failure_is_told_once() {
        let error = Cgroup::of("none", Some(Path::new("/wisp-no-such-group"))).unwrap().figures();
        let Err(error) = error else { panic!("a group that is not there has figures") };
        assert_eq!(error.to_string().matches("No such file").count(), 1, "{error}");
    }

    #[test]
    fn a_systemd_path_expands_to_the_folders_that_systemd_makes() {
        assert_eq!(
            expand(Path::new("kubepods-burstable-pod1.slice:cri-containerd:abc")),
            Path::new(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-abc.scope"
            )
        );
        assert_eq!(expand(Path::new(":docker:abc")), Path::new("/system.slice/docker-abc.scope"));
    }
}
