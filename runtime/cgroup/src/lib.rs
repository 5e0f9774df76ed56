//! Control groups in the terms of the OCI spec: v1 and v2, by the cgroupfs and systemd drivers.
//!
//! `libcgroups` does the work; this is the one place that knows it. The driver is told by the form of `cgroupsPath`
//! (`slice:prefix:name` is systemd's), so that no option of containerd's has to be right.

mod bpf;
mod devices;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use libcgroups::common::{
    AnyCgroupManager, CgroupConfig, CgroupManager, CgroupSetup, ControllerOpt, FreezerState,
    create_cgroup_manager, get_cgroup_setup,
};
pub use libcgroups::stats::{MemoryData, Stats};
use libcgroups_nix::unistd::Pid;
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxResources};

/// Where the hierarchies are mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// A failure of the kernel's, systemd's or of the path.
#[derive(Debug, thiserror::Error)]
#[error("cgroup {path}: {why}")]
pub struct Error {
    path: String,
    /// The innermost cause: the layers of `libcgroups` repeat it.
    why: String,
}

/// One control group.
pub struct Cgroup {
    path: PathBuf,
    /// Its folder, where the hierarchy is version 2.
    unified: Option<PathBuf>,
    manager: AnyCgroupManager,
}

impl Cgroup {
    /// The group of container `id` at the spec's `cgroupsPath`, or at `/wisp/ID` where the spec names none. Nothing is made
    /// before [`Cgroup::add`].
    ///
    /// # Errors
    /// If no hierarchy is mounted, or systemd does not answer.
    pub fn of(id: &str, cgroups_path: Option<&Path>) -> Result<Self, Error> {
        let asked = cgroups_path.map_or_else(|| Path::new("/wisp").join(id), Path::to_path_buf);
        let systemd = is_systemd_form(&asked);
        let v1 = !matches!(get_cgroup_setup(), Ok(CgroupSetup::Unified));
        let expanded = if systemd { expand(&asked) } else { asked.clone() };
        let unified = (!v1).then(|| below(Path::new(ROOT), &expanded));
        let path = if v1 { expanded } else { asked };
        let manager = create_cgroup_manager(CgroupConfig {
            cgroup_path: path.clone(),
            systemd_cgroup: systemd && !v1,
            container_name: id.to_owned(),
        })
        .map_err(|error| failure(&path, error))?;
        Ok(Self { path, unified, manager })
    }

    /// Moves a process into the group, which is made if it is not there.
    ///
    /// # Errors
    /// The kernel's or systemd's.
    pub fn add(&self, pid: i32) -> Result<(), Error> {
        self.manager.add_task(Pid::from_raw(pid)).map_err(|error| failure(&self.path, error))
    }

    /// Sets the limits that `resources` names.
    ///
    /// # Errors
    /// The kernel's, for a value that it does not take.
    pub fn apply(&self, resources: &LinuxResources) -> Result<(), Error> {
        self.manager
            .apply(&ControllerOpt {
                resources,
                disable_oom_killer: false,
                oom_score_adj: None,
                freezer_state: None,
            })
            .map_err(|error| failure(&self.path, error))
    }

    /// Holds the group to device rules, on a version 2 hierarchy; on version 1, [`Cgroup::apply`] has done so. This is for the
    /// group's beginning: rules that were set are not taken back.
    ///
    /// # Errors
    /// For a rule that makes no sense, or a kernel that does not take the program that the rules are.
    pub fn hold_devices(&self, rules: &[LinuxDeviceCgroup]) -> Result<(), Error> {
        let Some(folder) = &self.unified else { return Ok(()) };
        let error = |why| Error { path: self.path.display().to_string(), why };
        let rules = devices::Rules::of(rules).map_err(error)?;
        rules.program().attach(folder).map_err(|why| {
            error(format!(
                "the device rules cannot be put in force: {why}; they need a kernel with CONFIG_CGROUP_BPF and a root that \
                 may use bpf(2)"
            ))
        })
    }

    /// Stops every process of the group, or lets them go on.
    ///
    /// # Errors
    /// The kernel's.
    pub fn freeze(&self, frozen: bool) -> Result<(), Error> {
        let state = if frozen { FreezerState::Frozen } else { FreezerState::Thawed };
        self.manager.freeze(state).map_err(|error| failure(&self.path, error))
    }

    /// Every process of the group and of the groups below it; none if the group is gone.
    #[must_use]
    pub fn pids(&self) -> Vec<i32> {
        self.manager
            .get_all_pids()
            .map(|pids| pids.into_iter().map(Pid::as_raw).collect())
            .unwrap_or_default()
    }

    /// The group's figures.
    ///
    /// # Errors
    /// If the group is gone or the kernel does not tell.
    pub fn stats(&self) -> Result<Stats, Error> {
        self.manager.stats().map_err(|error| failure(&self.path, error))
    }

    /// Removes the group, ending what still runs in it; one that is gone already is no error.
    ///
    /// # Errors
    /// If processes stay.
    pub fn remove(&self) -> Result<(), Error> {
        self.manager.remove().map_err(|error| failure(&self.path, error))
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
            "freezer" => says(Path::new(ROOT).join("freezer"), path, "freezer.state", "FROZEN"),
            "" => says(ROOT.into(), path, "cgroup.freeze", "1"),
            _ => false,
        }
    }))
}

/// A group's folder in a hierarchy.
fn below(hierarchy: &Path, group: &Path) -> PathBuf {
    hierarchy.join(group.strip_prefix("/").unwrap_or(group))
}

fn says(hierarchy: PathBuf, group: &str, file: &str, value: &str) -> bool {
    let path = below(&hierarchy, Path::new(group)).join(file);
    fs::read_to_string(path).is_ok_and(|text| text.trim() == value)
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
        let error = Cgroup::of("none", Some(Path::new("/wisp-no-such-group"))).unwrap().stats();
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
