//! The container's root: the spec's mounts in their order, devices, and what is masked.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use oci_spec::runtime::{Linux, LinuxDevice, LinuxDeviceType, Mount, Spec};
use rustix::fs::{CWD, FileType, Mode, chmodat, makedev, mknodat, symlinkat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};

use super::mount_api::{
    Attributes, Place, attach, clone_mount, make_below, open_below, set_attributes, set_attributes_recursive,
};
use super::options::{Bind, Options, Tree, propagation_flag};

/// The devices that every container has (runtime-spec, "Default Devices").
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
/// The links that every container has in /dev.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Makes the container's mounts over `rootfs` in this process's own mount namespace, and returns the new root. It is
/// attached where the bundle has it, so that hooks find it there.
///
/// # Errors
/// With the mount that could not be made.
pub fn build(rootfs: &Path, bundle: &Path, spec: &Spec) -> Result<OwnedFd> {
    isolate(spec.linux().as_ref())?;
    let root = clone_mount(CWD, rootfs, true)
        .and_then(|root| {
            let target = super::mount_api::open_path(rootfs)?;
            attach(&root, target)?;
            // Devices are in /dev, which is a file system of the container's own.
            set_attributes(root.as_fd(), Attributes::NO_DEVICES)?;
            Ok(root)
        })
        .with_context(|| format!("the root file system {}", rootfs.display()))?;
    let mut own_dev = false;
    for mount in spec.mounts().iter().flatten() {
        make(root.as_fd(), bundle, mount)
            .with_context(|| format!("the mount at {} cannot be made", mount.destination().display()))?;
        own_dev |= mount.destination() == Path::new("/dev") && mount.typ().as_deref() != Some("bind");
    }
    if own_dev {
        devices(root.as_fd(), spec).context("/dev cannot be filled")?;
    }
    Ok(root)
}

/// Keeps what is mounted here from reaching the node.
fn isolate(linux: Option<&Linux>) -> Result<()> {
    let word = linux.and_then(|linux| linux.rootfs_propagation().as_deref()).unwrap_or("rslave");
    let Some(flag) = propagation_flag(word.strip_prefix('r').unwrap_or(word)) else {
        bail!("rootfsPropagation is {word:?}, expected private, slave, shared or unbindable");
    };
    // A shared root still must not spread the container's own mounts while they are made.
    let flag = if flag == libc::MS_SHARED { libc::MS_SLAVE } else { flag };
    let root = super::mount_api::open_path(Path::new("/"))?;
    set_attributes_recursive(root.as_fd(), Attributes::spread(flag))
        .context("the node's mounts cannot be kept apart")
}

fn make(root: BorrowedFd<'_>, bundle: &Path, mount: &Mount) -> Result<()> {
    let options = Options::parse(mount.options().iter().flatten())?;
    let typ = mount.typ().as_deref().unwrap_or("none");
    let source = mount.source().as_deref();
    if options.bind.is_some() || typ == "bind" {
        return bind(
            root,
            bundle,
            source.context("a bind mount needs a source")?,
            mount.destination(),
            &options,
        );
    }
    let Some(typ) = file_system(typ) else { return Ok(()) };
    let tree = new_mount(typ, source, &options)?;
    let target = make_below(root, mount.destination(), Place::Directory)?;
    attach(&tree, target)?;
    propagate(tree.as_fd(), &options)
}

/// The kernel's name of a file system; none for version 1 cgroups, which nobody in a Wasm container can see and which
/// would cost a mount for each controller.
fn file_system(typ: &str) -> Option<&str> {
    match typ {
        "cgroup" if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() => Some("cgroup2"),
        "cgroup" => None,
        typ => Some(typ),
    }
}

fn new_mount(typ: &str, source: Option<&Path>, options: &Options) -> Result<OwnedFd> {
    let context =
        fsopen(typ, FsOpenFlags::FSOPEN_CLOEXEC).with_context(|| format!("the file system {typ:?}"))?;
    if let Some(source) = source {
        fsconfig_set_string(&context, "source", source)?;
    }
    for (key, value) in &options.data {
        match value {
            Some(value) => fsconfig_set_string(&context, key.as_str(), value.as_str()),
            None => fsconfig_set_flag(&context, key.as_str()),
        }
        .with_context(|| format!("the mount option {key:?}"))?;
    }
    fsconfig_create(&context).with_context(|| format!("the file system {typ:?}"))?;
    let attributes = MountAttrFlags::from_bits_retain(u32::try_from(options.attributes.set)?);
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

fn bind(
    root: BorrowedFd<'_>,
    bundle: &Path,
    source: &Path,
    destination: &Path,
    options: &Options,
) -> Result<()> {
    let source: PathBuf = bundle.join(source);
    let tree = clone_mount(CWD, &source, options.bind != Some(Bind::One))
        .with_context(|| format!("its source {}", source.display()))?;
    let is_dir = FileType::from_raw_mode(rustix::fs::fstat(&tree)?.st_mode) == FileType::Directory;
    let target = make_below(root, destination, if is_dir { Place::Directory } else { Place::File })?;
    if !options.attributes.is_empty() {
        set_attributes(tree.as_fd(), options.attributes)?;
    }
    if !options.recursive.is_empty() {
        set_attributes_recursive(tree.as_fd(), options.recursive)?;
    }
    attach(&tree, target)?;
    propagate(tree.as_fd(), options)
}

fn propagate(mount: BorrowedFd<'_>, options: &Options) -> Result<()> {
    for (propagation, tree) in &options.propagation {
        let attributes = Attributes::spread(*propagation);
        match tree {
            Tree::One => set_attributes(mount, attributes)?,
            Tree::All => set_attributes_recursive(mount, attributes)?,
        }
    }
    Ok(())
}

fn devices(root: BorrowedFd<'_>, spec: &Spec) -> Result<()> {
    let dev = open_below(root, Path::new("/dev"))?;
    for (name, major, minor) in DEVICES {
        node(&dev, Path::new(name), FileType::CharacterDevice, 0o666, (major, minor))?;
    }
    for (name, target) in LINKS {
        exists_is_fine(symlinkat(target, &dev, name))?;
    }
    for device in spec.linux().as_ref().iter().flat_map(|linux| linux.devices().iter().flatten()) {
        asked(root, device).with_context(|| format!("the device {}", device.path().display()))?;
    }
    Ok(())
}

fn asked(root: BorrowedFd<'_>, device: &LinuxDevice) -> Result<()> {
    let path = device.path();
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        bail!("is no path of a device")
    };
    let dir = make_below(root, parent, Place::Directory)?;
    let kind = match device.typ() {
        LinuxDeviceType::B => FileType::BlockDevice,
        LinuxDeviceType::P => FileType::Fifo,
        _ => FileType::CharacterDevice,
    };
    let numbers = (u32::try_from(device.major())?, u32::try_from(device.minor())?);
    node(&dir, Path::new(name), kind, device.file_mode().unwrap_or(0o666), numbers)?;
    let (uid, gid) = (device.uid().unwrap_or(0), device.gid().unwrap_or(0));
    rustix::fs::chownat(
        &dir,
        Path::new(name),
        Some(rustix::fs::Uid::from_raw(uid)),
        Some(rustix::fs::Gid::from_raw(gid)),
        rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
    )?;
    Ok(())
}

fn node(dir: &OwnedFd, name: &Path, kind: FileType, mode: u32, (major, minor): (u32, u32)) -> Result<()> {
    let mode = Mode::from_raw_mode(mode & 0o7777);
    exists_is_fine(mknodat(dir, name, kind, mode, makedev(major, minor)))?;
    // Whatever the umask took.
    Ok(chmodat(dir, name, mode, rustix::fs::AtFlags::empty())?)
}

fn exists_is_fine(done: rustix::io::Result<()>) -> io::Result<()> {
    match done {
        Err(rustix::io::Errno::EXIST) => Ok(()),
        done => Ok(done?),
    }
}

/// Hides and write-protects what the spec says, and the root itself where it is to be read-only. The root is `/` by now.
///
/// # Errors
/// With the path that could not be protected.
pub fn protect(spec: &Spec) -> Result<()> {
    let linux = spec.linux().as_ref();
    let mut cover = None;
    for path in linux.iter().flat_map(|linux| linux.masked_paths().iter().flatten()) {
        mask(Path::new(path), &mut cover).with_context(|| format!("{path} cannot be masked"))?;
    }
    for path in linux.iter().flat_map(|linux| linux.readonly_paths().iter().flatten()) {
        freeze(Path::new(path)).with_context(|| format!("{path} cannot be made read-only"))?;
    }
    if spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false) {
        let root = super::mount_api::open_path(Path::new("/"))?;
        set_attributes(root.as_fd(), Attributes::READ_ONLY).context("the root cannot be made read-only")?;
    }
    Ok(())
}

fn mask(path: &Path, cover: &mut Option<OwnedFd>) -> Result<()> {
    let target = match super::mount_api::open_path(path) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if FileType::from_raw_mode(rustix::fs::fstat(&target)?.st_mode) != FileType::Directory {
        return Ok(attach(clone_mount(CWD, Path::new("/dev/null"), false)?, target)?);
    }
    // One empty read-only file system covers every folder that is masked.
    match cover {
        Some(cover) => attach(clone_mount(&*cover, Path::new(""), false)?, target)?,
        None => {
            let read_only = Options { attributes: Attributes::READ_ONLY, ..Options::default() };
            attach(cover.insert(new_mount("tmpfs", None, &read_only)?), target)?;
        }
    }
    Ok(())
}

fn freeze(path: &Path) -> Result<()> {
    let clone = match clone_mount(CWD, path, true) {
        Ok(clone) => clone,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    set_attributes_recursive(clone.as_fd(), Attributes::READ_ONLY)?;
    Ok(attach(clone, super::mount_api::open_path(path)?)?)
}
