//! The cgroup of a container, of version 1 or 2, as the shim reads it. Making it is the runtime's work, and so is removing one that
//! is not empty.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where the hierarchies are mounted on every node.
const MOUNT: &str = "/sys/fs/cgroup";

/// A container's cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cgroup {
    /// Of version 1: a folder for each controller.
    V1(V1),
    /// Of version 2: one folder.
    V2(PathBuf),
}

/// The folders of a cgroup of version 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct V1 {
    /// By controllers, and by the names of hierarchies without (`name=systemd`).
    folders: Vec<(String, PathBuf)>,
    /// In how many hierarchies they are: controllers may share one.
    hierarchies: usize,
}

impl V1 {
    /// The folder of a controller, if the node has it.
    pub(crate) fn folder(&self, controller: &str) -> Option<&Path> {
        self.folders.iter().find(|(name, _)| name == controller).map(|(_, folder)| folder.as_path())
    }

    /// Removes the group from each hierarchy.
    fn remove(&self) -> io::Result<()> {
        let mut removed = 0;
        for (_, folder) in &self.folders {
            match fs::remove_dir(folder) {
                Ok(()) => removed += 1,
                // The controller shares a hierarchy with one before it, or the hierarchy is mounted elsewhere.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        if removed < self.hierarchies {
            let text = format!("it was found in {removed} of {} hierarchies", self.hierarchies);
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        Ok(())
    }
}

impl Cgroup {
    /// The cgroup that a process is in.
    ///
    /// # Errors
    /// The process has ended, or is in no cgroup of its own.
    pub(crate) fn of_process(pid: u32) -> io::Result<Self> {
        let table = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        let unified = Path::new(MOUNT).join("cgroup.controllers").exists();
        Self::parse(&table, Path::new(MOUNT), unified).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("process {pid} is in no cgroup of its own"))
        })
    }

    /// The cgroup at a path below the root, which may not be there.
    pub(crate) fn named(path: &str) -> Self {
        let mount = Path::new(MOUNT);
        if mount.join("cgroup.controllers").exists() {
            return Self::V2(mount.join(path));
        }
        let controllers = fs::read_dir(mount).into_iter().flatten().filter_map(io::Result::ok);
        let folders = controllers.filter_map(|entry| {
            let folder = entry.path().join(path);
            Some((entry.file_name().into_string().ok()?, folder)).filter(|(_, folder)| folder.is_dir())
        });
        let folders: Vec<_> = folders.collect();
        Self::V1(V1 { hierarchies: folders.len(), folders })
    }

    /// Reads a table as in `/proc/<pid>/cgroup`: lines of `hierarchy:controllers:path`.
    fn parse(table: &str, mount: &Path, unified: bool) -> Option<Self> {
        let lines = table.lines().filter_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?);
            // The root is everybody's.
            (path != "/").then(|| (controllers, path.trim_start_matches('/')))
        });
        if unified {
            let (_, path) = { lines }.find(|(controllers, _)| controllers.is_empty())?;
            return Some(Self::V2(mount.join(path)));
        }
        let (mut folders, mut hierarchies) = (Vec::new(), 0);
        for (controllers, path) in lines.filter(|(controllers, _)| !controllers.is_empty()) {
            hierarchies += 1;
            folders.extend(controllers.split(',').map(|name| {
                (name.to_owned(), mount.join(name.strip_prefix("name=").unwrap_or(name)).join(path))
            }));
        }
        (!folders.is_empty()).then_some(Self::V1(V1 { folders, hierarchies }))
    }

    /// The process ids in it and in the cgroups below it.
    ///
    /// # Errors
    /// It is gone.
    pub(crate) fn pids(&self) -> io::Result<Vec<u32>> {
        let folder = match self {
            Self::V2(folder) => folder.as_path(),
            Self::V1(folders) => {
                let any =
                    ["pids", "devices", "memory", "freezer"].iter().find_map(|name| folders.folder(name));
                any.or(folders.folders.first().map(|(_, folder)| folder.as_path())).unwrap_or(Path::new(""))
            }
        };
        let mut pids = HashSet::new();
        collect_pids(folder, &mut pids)?;
        let mut pids: Vec<u32> = pids.into_iter().collect();
        pids.sort_unstable();
        Ok(pids)
    }

    /// Removes it, if nothing is in it any more.
    ///
    /// # Errors
    /// It is not empty, or it was not found in every hierarchy. A part may be gone.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match self {
            Self::V1(folders) => folders.remove(),
            Self::V2(folder) => fs::remove_dir(folder),
        }
    }
}

fn collect_pids(folder: &Path, pids: &mut HashSet<u32>) -> io::Result<()> {
    let list = fs::read_to_string(folder.join("cgroup.procs"))?;
    pids.extend(list.lines().filter_map(|line| line.parse::<u32>().ok()));
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            // It may go away meanwhile.
            let _ = collect_pids(&entry.path(), pids);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_has_a_folder_for_each_controller() {
        let table = "3:cpu,cpuacct:/pod/a\n2:memory:/pod/a\n1:name=systemd:/x\n0::/y\n";
        let Some(Cgroup::V1(folders)) = Cgroup::parse(table, Path::new("/c"), false) else { panic!() };
        assert_eq!(folders.folder("cpuacct"), Some(Path::new("/c/cpuacct/pod/a")));
        assert_eq!(folders.folder("memory"), Some(Path::new("/c/memory/pod/a")));
        assert_eq!(folders.folder("systemd"), None);
    }

    #[test]
    fn a_group_is_removed_from_every_hierarchy_or_it_is_an_error() {
        let mount = tempfile::tempdir().unwrap();
        let group = |hierarchy: &str| mount.path().join(hierarchy).join("a");
        let make =
            || ["cpu,cpuacct", "systemd"].map(|hierarchy| fs::create_dir_all(group(hierarchy)).unwrap());
        for name in ["cpu", "cpuacct"] {
            std::os::unix::fs::symlink("cpu,cpuacct", mount.path().join(name)).unwrap();
        }
        make();
        let cgroup =
            Cgroup::parse("2:cpu,cpuacct:/a\n1:name=systemd:/a\n0::/\n", mount.path(), false).unwrap();
        cgroup.remove().unwrap();
        assert!(!group("cpu,cpuacct").exists() && !group("systemd").exists());
        assert!(cgroup.remove().is_err(), "it is nowhere");
        make();
        fs::create_dir(group("systemd").join("below")).unwrap();
        assert!(cgroup.remove().is_err(), "it is not empty");
    }

    #[test]
    fn version_2_has_one_folder_and_the_root_is_nobodys() {
        let parsed = Cgroup::parse("0::/kubepods.slice/x.scope\n", Path::new("/c"), true);
        assert_eq!(parsed, Some(Cgroup::V2("/c/kubepods.slice/x.scope".into())));
        assert_eq!(Cgroup::parse("0::/\n", Path::new("/c"), true), None);
        assert_eq!(Cgroup::parse("1:memory:/\n0::/\n", Path::new("/c"), false), None);
    }

    #[test]
    fn processes_of_nested_cgroups_are_counted_once() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("below")).unwrap();
        fs::write(dir.path().join("cgroup.procs"), "7\n3\n").unwrap();
        fs::write(dir.path().join("below/cgroup.procs"), "3\n11\n").unwrap();
        assert_eq!(Cgroup::V2(dir.path().to_owned()).pids().unwrap(), [3, 7, 11]);
        assert!(Cgroup::V2("/nonexistent".into()).pids().is_err());
    }
}
