//! What a guest sees of the container's files: preopens that cannot lead to its own process.
//!
//! A guest that is root and finds a proc file system below a writable preopen could write its own process's memory, which
//! is native code execution. So the guest does not get the container's root. It gets a second tree of detached clones of
//! single mounts: the root file system alone, with the spec's mounts laid over it one by one, and of those never proc,
//! sysfs, cgroup or their like, whatever path they came from. What is mounted below a host's folder does not come along.
//!
//! The second tree lies beneath the container's own root, at the bottom of its mount namespace, where no path leads:
//! `setns(2)` and `chroot(2)` find the root on top, and the guest has a descriptor.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use oci_spec::runtime::Spec;
use rustix::fs::{CWD, FileType, Mode, OFlags, StatVfsMountFlags, fstat, fstatvfs, openat};
use wisp_contract::plan::Preopen;

use super::mount_api::{
    Attributes, PROC, attach, clone_mount, kind_of_file_system, open_below, open_path, pivot, set_attributes,
};

/// File systems that show or change the kernel and its processes (`statfs(2)`, `f_type`).
const KERNEL_FILE_SYSTEMS: [u64; 11] = [
    PROC,
    0x6265_6572, // sysfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0xcafe_4a11, // bpf
    0x7363_6673, // securityfs
    0x6265_6570, // configfs
    0xf97c_ff8c, // selinuxfs
    0xde5e_81e4, // efivarfs
];

/// The guest's tree and its preopens.
#[derive(Debug)]
pub struct View {
    /// The tree's root, by which further processes find their preopens.
    pub tree: OwnedFd,
    /// For the plan.
    pub preopens: Vec<Preopen>,
    /// Kept open into the guest process.
    pub descriptors: Vec<OwnedFd>,
}

/// Lays the guest's tree beneath the container's root. The root is `/` by now, with all of its mounts.
///
/// # Errors
/// With the mount that could not be cloned.
pub fn lay(spec: &Spec) -> Result<View> {
    let container = open_path(Path::new("/"))?;
    let bottom = guest_mount(Path::new("/"))?.context("the root file system is one of the kernel's own")?;
    let (mounts, covers) = (mounts(spec)?, covers(spec)?);
    attach(&bottom, &container).context("the guest's root")?;
    // The container's root lands on top of the guest's, with all of its mounts, and stays there.
    pivot(&bottom).context("the guest's root")?;
    let mut folders = vec![Path::new("/")];
    for (path, mount) in &mounts {
        if put(&bottom, path, mount)? && is_dir(mount)? {
            folders.push(path);
        }
    }
    for (path, cover) in &covers {
        put(&bottom, path, cover)?;
    }
    // What covers a folder is what the guest finds there.
    let preopens = folders.into_iter().map(|path| preopen(&open_below(&bottom, path)?, path));
    let preopens = preopens.collect::<Result<Vec<_>>>()?;
    rustix::process::fchdir(&container)?;
    rustix::process::chroot(".")?;
    rustix::process::chdir("/")?;
    let (preopens, descriptors) = preopens.into_iter().unzip();
    Ok(View { tree: bottom, preopens, descriptors })
}

/// Puts a mount into the guest's tree; not if its place is not there, which then lies in a mount that was left out.
fn put(tree: &OwnedFd, path: &Path, mount: &OwnedFd) -> Result<bool> {
    let Ok(place) = open_below(tree, path) else { return Ok(false) };
    attach(mount, place).with_context(|| format!("the guest's mount at {}", path.display()))?;
    Ok(true)
}

/// Clones of what hides or write-protects a path of the container, but for those of the kernel's file systems, which no guest
/// has.
fn covers(spec: &Spec) -> Result<Vec<(PathBuf, OwnedFd)>> {
    let linux = spec.linux().as_ref();
    let visible = |path: &&String| !["/proc", "/sys"].iter().any(|top| Path::new(path).starts_with(top));
    let mut covers = Vec::new();
    let masked = linux.iter().flat_map(|linux| linux.masked_paths().iter().flatten());
    for path in masked.filter(visible).map(PathBuf::from) {
        match clone_mount(CWD, &path, false) {
            Ok(mask) => covers.push((path, mask)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("the mask at {}", path.display())),
        }
    }
    let read_only = linux.iter().flat_map(|linux| linux.readonly_paths().iter().flatten());
    for path in read_only.filter(visible).map(PathBuf::from) {
        let cover = guest_mount(&path).with_context(|| format!("the read-only path {}", path.display()))?;
        covers.extend(cover.map(|cover| (path, cover)));
    }
    Ok(covers)
}

/// Clones of the spec's mounts that a guest may have, in their order.
fn mounts(spec: &Spec) -> Result<Vec<(PathBuf, OwnedFd)>> {
    let mut seen = BTreeSet::new();
    let mut mounts = Vec::new();
    for mount in spec.mounts().iter().flatten() {
        let path = mount.destination();
        if path == Path::new("/") || !seen.insert(path.clone()) {
            continue;
        }
        if let Some(clone) = guest_mount(path).with_context(|| format!("the mount at {}", path.display()))? {
            mounts.push((path.clone(), clone));
        }
    }
    Ok(mounts)
}

/// A clone of the one mount at `path`, unless it is one that no guest may have.
fn guest_mount(path: &Path) -> Result<Option<OwnedFd>> {
    let place = match open_path(path) {
        Ok(place) => place,
        // A mount that is not made at all (version 1 cgroups), or one that a later mount covers.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // Looked at before it is cloned: to give up a clone, the kernel waits for a grace period of RCU.
    if KERNEL_FILE_SYSTEMS.contains(&kind_of_file_system(&place)?) {
        return Ok(None);
    }
    let clone = clone_mount(&place, Path::new(""), false)?;
    // A device node in an image's layer or a volume is a file to a guest, never the device.
    if path != Path::new("/dev") {
        set_attributes(clone.as_fd(), Attributes::NO_DEVICES)?;
    }
    Ok(Some(clone))
}

/// The preopens of a further process, opened anew in the tree of the first.
///
/// # Errors
/// The kernel's.
pub fn again(tree: OwnedFd, preopens: &[Preopen]) -> Result<View> {
    let mut view = View { tree, preopens: Vec::new(), descriptors: Vec::new() };
    for asked in preopens {
        let path = Path::new(&asked.guest_path);
        let place = open_below(&view.tree, path)
            .with_context(|| format!("the guest's mount at {}", path.display()))?;
        let (preopen, dir) = preopen(&place, path)?;
        view.preopens.push(preopen);
        view.descriptors.push(dir);
    }
    Ok(view)
}

/// A preopen of the mount or folder that `place` is open on.
fn preopen(place: &OwnedFd, path: &Path) -> Result<(Preopen, OwnedFd)> {
    let dir = openat(place, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let preopen = Preopen {
        guest_path: path.display().to_string(),
        fd: dir.as_raw_fd(),
        writable: !fstatvfs(&dir)?.f_flag.contains(StatVfsMountFlags::RDONLY),
    };
    Ok((preopen, dir))
}

fn is_dir(fd: &OwnedFd) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode) == FileType::Directory)
}
