//! Where a group is in the hierarchies that are mounted, and what is done with its folders: made, entered, emptied, removed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the kernel may take to let go of killed processes, or to freeze running ones.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is asked meanwhile.
const INTERVAL: Duration = Duration::from_millis(2);

/// The folders of one group.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Tree {
    /// One folder in each hierarchy of version 1, with the controllers (or the name) of the hierarchy.
    Many(Vec<(Vec<String>, PathBuf)>),
    /// One folder in the hierarchy of version 2, and the hierarchy's own.
    One {
        /// The hierarchy's folder.
        root: PathBuf,
        /// The group's.
        folder: PathBuf,
    },
}

/// Whether the machine has only version 2.
pub(crate) fn is_unified() -> bool {
    // A folder of controllers is a tmpfs that has no such file itself.
    Path::new(crate::ROOT).join("cgroup.controllers").exists()
}

impl Tree {
    /// The folders of the group at `path`, an absolute path in each hierarchy.
    ///
    /// # Errors
    /// If no hierarchy is mounted, or the path leads out of it.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let inside = path.strip_prefix("/").unwrap_or(path);
        if inside.components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path has a part that is no name"));
        }
        if is_unified() {
            let root = PathBuf::from(crate::ROOT);
            return Ok(Self::One { folder: root.join(inside), root });
        }
        let named = by_name(&fs::read_to_string("/proc/self/cgroup")?, Path::new(crate::ROOT));
        let hierarchies = match named {
            Some(hierarchies) => hierarchies,
            None => mounted(&fs::read_to_string("/proc/self/mountinfo")?),
        };
        if hierarchies.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no cgroup hierarchy is mounted"));
        }
        Ok(Self::Many(hierarchies.into_iter().map(|(names, root)| (names, root.join(inside))).collect()))
    }

    /// The folder in the hierarchy of this controller, whatever the version.
    pub(crate) fn folder(&self, controller: &str) -> Option<&Path> {
        match self {
            Self::One { folder, .. } => Some(folder),
            Self::Many(hierarchies) => hierarchies
                .iter()
                .find(|(names, _)| names.iter().any(|name| name == controller))
                .map(|(_, folder)| folder.as_path()),
        }
    }

    fn folders(&self) -> impl Iterator<Item = &Path> {
        let (many, one) = match self {
            Self::Many(hierarchies) => (hierarchies.as_slice(), None),
            Self::One { folder, .. } => ([].as_slice(), Some(folder.as_path())),
        };
        many.iter().map(|(_, folder)| folder.as_path()).chain(one)
    }

    /// Whether the group is there.
    pub(crate) fn exists(&self) -> bool {
        self.folders().next().is_some_and(Path::exists)
    }

    /// Makes the folders that are not there.
    pub(crate) fn make(&self) -> io::Result<()> {
        match self {
            Self::One { root, folder } => make_unified(root, folder),
            Self::Many(hierarchies) => hierarchies.iter().try_for_each(|(names, folder)| {
                if names.iter().any(|name| name == "cpuset") {
                    make_cpuset(folder)
                } else {
                    fs::create_dir_all(folder)
                }
            }),
        }
    }

    /// Moves this process, which has one thread, into the group. A thread of version 1 that moves itself alone needs no lock
    /// against forks and exits (`cgroup_procs_write_start` in the kernel's `kernel/cgroup/cgroup.c`).
    pub(crate) fn enter(&self) -> io::Result<()> {
        let file = match self {
            Self::Many(_) => "tasks",
            Self::One { .. } => "cgroup.procs",
        };
        self.folders().try_for_each(|folder| write(&folder.join(file), "0"))
    }

    /// How many processes are in the group and in those below it, in the hierarchy that has most of them.
    pub(crate) fn occupants(&self) -> usize {
        let in_folder = |folder: &Path| {
            let mut pids = Vec::new();
            collect(folder, &mut pids);
            pids.len()
        };
        self.folders().filter(|folder| folder.exists()).map(in_folder).max().unwrap_or_default()
    }

    /// Whether the group is there and frozen.
    pub(crate) fn is_frozen(&self) -> bool {
        let (file, value) = match self {
            Self::Many(_) => ("freezer.state", "FROZEN"),
            Self::One { .. } => ("cgroup.freeze", "1"),
        };
        self.folder("freezer").is_some_and(|folder| says(folder, file, value))
    }

    /// The processes of the group and of those below it.
    pub(crate) fn pids(&self) -> Vec<i32> {
        let mut pids = Vec::new();
        if let Some(folder) = self.folders().next() {
            collect(folder, &mut pids);
        }
        pids
    }

    /// Freezes the group, or thaws it, and waits until it is so.
    pub(crate) fn freeze(&self, frozen: bool) -> io::Result<()> {
        let folder = self.folder("freezer").ok_or(io::ErrorKind::Unsupported)?;
        let (file, value, told, word) = match (self, frozen) {
            (Self::Many(_), true) => ("freezer.state", "FROZEN", "freezer.state", "FROZEN"),
            (Self::Many(_), false) => ("freezer.state", "THAWED", "freezer.state", "THAWED"),
            (Self::One { .. }, true) => ("cgroup.freeze", "1", "cgroup.events", "frozen 1"),
            (Self::One { .. }, false) => ("cgroup.freeze", "0", "cgroup.events", "frozen 0"),
        };
        write(&folder.join(file), value)?;
        until(|| {
            let is_so = fs::read_to_string(folder.join(told))?.lines().any(|line| line == word);
            if !is_so && frozen && file == "freezer.state" {
                // Processes that are made while it freezes can keep it from it: it is to be asked again.
                write(&folder.join(file), value)?;
            }
            Ok(is_so)
        })
    }

    /// Ends what is in the group and removes it; one that is not there is no error.
    pub(crate) fn remove(&self) -> io::Result<()> {
        for pid in self.pids() {
            // SAFETY: kill(2) with plain integers.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        self.folders().try_for_each(|folder| {
            until(|| match remove(folder) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(false),
                done => done.map(|()| true),
            })
        })
    }
}

/// The hierarchies of version 1 in a `/proc/PID/cgroup` (`cgroups(7)`): their controllers or names, and the folders in which all of them
/// are mounted by custom; `None` where one is not there. A `mountinfo` takes the kernel 3 µs for each mount, of which a node may have
/// thousands.
fn by_name(told: &str, root: &Path) -> Option<Vec<(Vec<String>, PathBuf)>> {
    let names = told.lines().filter_map(|line| line.split(':').nth(1)).filter(|names| !names.is_empty());
    let hierarchies = names.map(|names| {
        let folder = root.join(names.trim_start_matches("name="));
        let is_there = folder.join("cgroup.procs").exists();
        is_there.then(|| (names.split(',').map(str::to_owned).collect(), folder))
    });
    hierarchies.collect::<Option<Vec<_>>>().filter(|found| !found.is_empty())
}

/// The hierarchies of version 1 in a `mountinfo` (`proc(5)`): their controllers or names, and where they are.
fn mounted(mountinfo: &str) -> Vec<(Vec<String>, PathBuf)> {
    let hierarchy = |line: &str| {
        let (mount, source) = line.split_once(" - ")?;
        let mut source = source.split(' ');
        if source.next() != Some("cgroup") {
            return None;
        }
        let folder = PathBuf::from(mount.split(' ').nth(4)?);
        let options = source.nth(1)?.split(',').filter(|option| !matches!(*option, "rw" | "ro" | "xattr"));
        Some((options.map(str::to_owned).collect::<Vec<_>>(), folder))
    };
    let mut found: Vec<(Vec<String>, PathBuf)> = Vec::new();
    for (names, folder) in mountinfo.lines().filter_map(hierarchy) {
        // One may be mounted twice.
        if folder.starts_with(crate::ROOT) && !found.iter().any(|(known, _)| *known == names) {
            found.push((names, folder));
        }
    }
    found
}

/// A cpuset group takes no process before it has processors and memory nodes, which it does not inherit. Others may be making
/// the same groups above: what is there need not be filled yet.
fn make_cpuset(folder: &Path) -> io::Result<()> {
    let Some(parent) = folder.parent() else { return Ok(()) };
    if let Err(error) = create(folder) {
        if error.kind() != io::ErrorKind::NotFound {
            return Err(error);
        }
        make_cpuset(parent)?;
        create(folder)?;
    }
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let is_empty =
            |folder: &Path| Ok::<_, io::Error>(fs::read_to_string(folder.join(file))?.trim().is_empty());
        if is_empty(folder)? {
            if is_empty(parent)? {
                make_cpuset(parent)?;
            }
            write(&folder.join(file), fs::read_to_string(parent.join(file))?.trim())?;
        }
    }
    Ok(())
}

/// The groups above have every controller of the hierarchy in force for those below.
fn make_unified(root: &Path, folder: &Path) -> io::Result<()> {
    if folder.exists() {
        return Ok(());
    }
    let available = fs::read_to_string(root.join("cgroup.controllers"))?;
    let mut above = root.to_owned();
    for part in folder.strip_prefix(root).unwrap_or(folder) {
        let enabled = fs::read_to_string(above.join("cgroup.subtree_control"))?;
        let missing =
            available.split_whitespace().filter(|one| !enabled.split_whitespace().any(|name| name == *one));
        for controller in missing {
            // One that cannot be had is missed where a limit needs it.
            write(&above.join("cgroup.subtree_control"), &format!("+{controller}")).ok();
        }
        above.push(part);
        create(&above)?;
    }
    Ok(())
}

fn create(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}

fn collect(folder: &Path, pids: &mut Vec<i32>) {
    let procs = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    pids.extend(procs.lines().filter_map(|line| line.parse::<i32>().ok()));
    for below in below(folder) {
        collect(&below, pids);
    }
}

fn below(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path())
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            // Busy with groups below, or with processes that are ending.
            below(folder).try_for_each(|below| remove(&below))?;
            fs::remove_dir(folder)
        }
        done => done,
    }
}

/// Whether a file of a group has this value.
pub(crate) fn says(folder: &Path, file: &str, value: &str) -> bool {
    fs::read_to_string(folder.join(file)).is_ok_and(|text| text.trim() == value)
}

/// Asks until the answer is yes.
fn until(mut ask: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    let start = Instant::now();
    while !ask()? {
        if start.elapsed() > PATIENCE {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("the kernel took more than {PATIENCE:?}"),
            ));
        }
        std::thread::sleep(INTERVAL);
    }
    Ok(())
}

/// Writes into a file that the kernel has made.
pub(crate) fn write(file: &Path, value: &str) -> io::Result<()> {
    let written = open(file).and_then(|mut file| file.write_all(value.as_bytes()));
    written.map_err(|error| not_written(value, file, &error))
}

/// Writes lines into files of a folder, each with a write of its own, in order. A file is opened once for the lines that follow each
/// other in it.
pub(crate) fn write_lines(
    folder: &Path,
    lines: impl Iterator<Item = (&'static str, String)>,
) -> io::Result<()> {
    let mut opened: Option<(&str, File)> = None;
    for (name, line) in lines {
        let mut file = match opened.take() {
            Some((of, file)) if of == name => file,
            _ => open(&folder.join(name)).map_err(|error| not_written(&line, &folder.join(name), &error))?,
        };
        file.write_all(line.as_bytes()).map_err(|error| not_written(&line, &folder.join(name), &error))?;
        opened = Some((name, file));
    }
    Ok(())
}

fn open(file: &Path) -> io::Result<File> {
    File::options().write(true).open(file)
}

fn not_written(value: &str, file: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{value:?} cannot be written to {}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_that_are_where_they_are_by_custom_are_found_by_their_names() {
        let root = tempfile::tempdir().unwrap();
        let told = "12:cpu,cpuacct:/a\n2:name=systemd:/a/b:c\n0::/init.scope\n";
        for folder in ["cpu,cpuacct", "systemd"] {
            assert_eq!(by_name(told, root.path()), None, "before {folder} is there");
            fs::create_dir(root.path().join(folder)).unwrap();
            fs::write(root.path().join(folder).join("cgroup.procs"), "").unwrap();
        }
        let found = by_name(told, root.path()).unwrap();
        assert_eq!(found[0], (vec!["cpu".to_owned(), "cpuacct".to_owned()], root.path().join("cpu,cpuacct")));
        assert_eq!(found[1], (vec!["name=systemd".to_owned()], root.path().join("systemd")));
        assert_eq!((found.len(), by_name("0::/\n", root.path())), (2, None));
    }

    #[test]
    fn hierarchies_are_found_with_their_controllers_and_once_each() {
        let mountinfo = "\
25 20 0:21 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
26 25 0:22 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
27 25 0:23 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
28 25 0:24 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
29 25 0:22 / /mnt/cpu rw - cgroup cgroup rw,cpu,cpuacct
";
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            mounted(mountinfo),
            [
                (names(&["cpu", "cpuacct"]), PathBuf::from("/sys/fs/cgroup/cpu,cpuacct")),
                (names(&["name=systemd"]), PathBuf::from("/sys/fs/cgroup/systemd")),
            ]
        );
    }

    #[test]
    fn a_cpuset_group_is_filled_though_the_group_above_is_not_yet() {
        let root = tempfile::tempdir().unwrap();
        let (above, group) = (root.path().join("a"), root.path().join("a/b"));
        for (folder, content) in [(root.path(), "0-1\n"), (&above, "\n"), (&group, "\n")] {
            fs::create_dir_all(folder).unwrap();
            for file in ["cpuset.cpus", "cpuset.mems"] {
                fs::write(folder.join(file), content).unwrap();
            }
        }
        make_cpuset(&group).unwrap();
        for folder in [above, group] {
            assert!(fs::read_to_string(folder.join("cpuset.mems")).unwrap().starts_with("0-1"));
        }
    }

    #[test]
    fn a_path_that_leads_out_of_the_hierarchy_is_refused() {
        assert!(Tree::of(Path::new("/a/../../etc")).is_err());
    }
}
