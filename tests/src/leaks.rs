//! What is on the machine because of a bed: processes, mounts, control groups, files under `/run` and in containerd's state.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bed::Bed;
use crate::site;

/// Everything of a bed that a container could leave behind, one line each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory(BTreeSet<String>);

impl Inventory {
    /// Looks at a bed.
    ///
    /// # Errors
    /// Where its containerd does not run.
    pub fn of(bed: &Bed) -> Result<Self> {
        let daemon = bed.pid()?;
        let mut lines = BTreeSet::new();
        for process in processes(&bed.name) {
            if process.pid != daemon.cast_signed() {
                lines.insert(format!("process {} {}", process.pid, process.command));
            }
        }
        let (state, records) = (bed.folder.join("state"), bed.folder.join("root/io.containerd.grpc.v1.cri"));
        let once = [
            format!("io.containerd.runtime.v2.task/{}", bed.namespace),
            format!("io.containerd.sandbox.controller.v1.shim/{}", bed.namespace),
            "io.containerd.grpc.v1.cri/image-volumes".to_owned(),
        ]
        .map(|folder| format!("file d {}", state.join(folder).display()));
        lines.extend(bed.space.inside(move || {
            let mut lines = mounts()?;
            lines.extend(files(Path::new("/run"), "file").into_iter().filter(|line| deep(line)));
            lines.extend(files(&state, "file").into_iter().filter(|line| !once.contains(line)));
            // Of pods: what CRI keeps of them, and who has which address.
            lines.extend(files(&records, "file"));
            lines.extend(files(Path::new("/var/lib/cni"), "file"));
            Ok(lines)
        })?);
        lines
            .extend(control_groups(&bed.name).iter().map(|path| format!("control group {}", path.display())));
        Ok(Self(lines))
    }

    /// What has come since `before`.
    #[must_use]
    pub fn new_since(&self, before: &Self) -> BTreeSet<String> {
        self.0.difference(&before.0).cloned().collect()
    }

    /// Requires that nothing has come since `before`; waits a little for what is still going.
    ///
    /// # Errors
    /// What has come.
    pub fn nothing_new(bed: &Bed, before: &Self) -> Result<()> {
        let start = Instant::now();
        loop {
            let new = Vec::from_iter(Self::of(bed)?.new_since(before));
            if new.is_empty() {
                return Ok(());
            }
            ensure!(
                start.elapsed() < Duration::from_secs(5),
                "left behind on {}:\n{}",
                bed.version,
                new.join("\n")
            );
            thread::sleep(Duration::from_millis(50)); // teardown goes on after the last answer, as under runc
        }
    }
}

/// What is made once for all containers is no leak: `/run/wisp/<namespace>`, `/run/wisp/.pods/<namespace>`,
/// `/run/containerd/runc/<namespace>`, and the notes of which compiled code was checked, and which programs were read, since the boot.
fn deep(line: &str) -> bool {
    let path = line.rsplit(' ').next().unwrap_or_default();
    if ["checked", "compile.", "digests"].iter().any(|name| path.starts_with(&format!("/run/wisp/{name}"))) {
        return false;
    }
    let parts = path.matches('/').count();
    let nested = ["/run/containerd/runc", "/run/wisp/.pods"].iter().any(|folder| path.starts_with(folder));
    !line.starts_with("file d") || parts > if nested { 4 } else { 3 }
}

fn mounts() -> Result<BTreeSet<String>> {
    let info = fs::read_to_string("/proc/thread-self/mountinfo")?;
    Ok(info.lines().filter_map(|line| line.split(' ').nth(4)).map(|path| format!("mount {path}")).collect())
}

fn files(folder: &Path, what: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        found.insert(format!("{what} {} {}", if kind.is_dir() { "d" } else { "f" }, path.display()));
        if kind.is_dir() {
            found.extend(files(&path, what));
        }
    }
    found
}

/// One process of a bed.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its command line.
    pub command: String,
}

/// The processes of the beds whose namespace begins with `namespace`: by their environment, control group or command line.
#[must_use]
pub fn processes(namespace: &str) -> Vec<Process> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    pids.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
        .filter(|&pid: &i32| pid != std::process::id().cast_signed())
        .filter_map(|pid| {
            let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
            let ours = contains(&read("environ"), &mark(namespace))
                || contains(&read("cgroup"), &format!("/{namespace}"))
                || command.contains(&format!(" {namespace}"));
            (ours && !command.is_empty()).then(|| Process { pid, command: command.trim_end().to_owned() })
        })
        .collect()
}

/// What the environment of a bed's processes holds.
#[must_use]
pub fn mark(namespace: &str) -> String {
    format!("WISP_TESTS_BED={namespace}")
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// The control groups below those of the beds whose namespace begins with `namespace`, innermost first.
fn control_groups(namespace: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for top in control_group_roots(namespace) {
        collect_folders(&top, &mut found);
    }
    found
}

fn control_group_roots(namespace: &str) -> Vec<PathBuf> {
    let hierarchies =
        fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
    let all = hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]);
    all.flat_map(|hierarchy| fs::read_dir(hierarchy).into_iter().flatten().flatten())
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(namespace))
        .map(|entry| entry.path())
        .collect()
}

fn collect_folders(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect_folders(&entry.path(), found);
            found.push(entry.path());
        }
    }
}

/// Removes a control group on each hierarchy, as whoever made it for a pod does; one that is not empty stays.
pub fn remove_empty_groups(path: &str) {
    let Some(path) = path.strip_prefix('/').filter(|path| !path.is_empty()) else { return };
    let hierarchies =
        fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
    for hierarchy in hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]) {
        let _ = fs::remove_dir(hierarchy.join(path));
    }
}

/// The control group of a process on hierarchy `controller`, or on the one hierarchy of version 2.
///
/// # Errors
/// Where it has ended, or there is no such hierarchy.
pub fn group_of(pid: u32, controller: &str) -> Result<PathBuf> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let path = |wanted: &str| {
        groups.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(":/")?;
            controllers.split(',').any(|one| one == wanted).then_some(path)
        })
    };
    let root = Path::new("/sys/fs/cgroup");
    if let Some(path) = path(controller) {
        return Ok(root.join(controller).join(path));
    }
    Ok(root.join(path("").context("no such hierarchy")?))
}

/// The parent of a process.
///
/// # Errors
/// Where it has ended.
pub fn parent_of(pid: i32) -> Result<i32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    Ok(line.unwrap_or_default().trim().parse()?)
}

/// Whether a process is in another network than a bed's containerd.
#[must_use]
pub fn in_another_network(bed: &Bed, pid: i32) -> bool {
    let network = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let daemon = bed.pid().ok().map(u32::cast_signed);
    network(pid).is_some_and(|own| daemon.and_then(network).is_some_and(|nodes| own != nodes))
}

/// The names of the children of a process.
#[must_use]
pub fn children_of(pid: i32) -> Vec<String> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    pids.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
        .filter(|&child: &i32| parent_of(child).is_ok_and(|parent| parent == pid))
        .filter_map(|child| fs::read_to_string(format!("/proc/{child}/comm")).ok())
        .collect()
}

/// Whether this machine's controllers are those of cgroup v1.
#[must_use]
pub fn has_cgroup_v1() -> bool {
    Path::new("/sys/fs/cgroup/memory").is_dir()
}

/// The open descriptors of a process.
#[must_use]
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Kills what is left of the beds whose namespace begins with `namespace`, and removes their control groups and folder.
pub fn sweep(namespace: &str, folder: &Path) {
    let start = Instant::now();
    loop {
        let left = processes(namespace);
        if left.is_empty() || start.elapsed() > Duration::from_secs(10) {
            break;
        }
        thaw(namespace);
        for process in left {
            let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
            let _ = crate::process::gone(process.pid, Duration::from_secs(1));
        }
    }
    for group in control_groups(namespace).into_iter().chain(control_group_roots(namespace)) {
        let _ = fs::remove_dir(group);
    }
    let _ = fs::remove_dir_all(folder);
}

/// A frozen process does not die.
fn thaw(namespace: &str) {
    for group in control_groups(namespace) {
        let _ = fs::write(group.join("freezer.state"), "THAWED");
        let _ = fs::write(group.join("cgroup.freeze"), "0");
    }
}

/// Sweeps up after earlier runs that were killed.
pub fn sweep_dead_runs() {
    for entry in fs::read_dir(site::RUNS).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix("wisp-t") else { continue };
        if !Path::new("/proc").join(pid).exists() {
            sweep(&format!("{name}-"), &entry.path());
        }
    }
}
