//! The kernel's newer mount calls (`fsopen(2)` and its kin, Linux 5.12) where rustix does not have them.
//!
//! Everything is addressed by descriptors: no path is walked twice, and /proc is not needed.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

/// What `mount_setattr(2)` changes; the layout is the kernel's `struct mount_attr`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Attributes {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
    /// `MS_SHARED` and its like, or 0.
    pub propagation: u64,
    userns_fd: u64,
}

impl Attributes {
    /// `MOUNT_ATTR_RDONLY`.
    pub const READ_ONLY: Self = Self::set(0x1);
    /// `MOUNT_ATTR_NODEV`.
    pub const NO_DEVICES: Self = Self::set(0x4);

    /// Attributes that only set.
    #[must_use]
    pub const fn set(set: u64) -> Self {
        Self { set, clear: 0, propagation: 0, userns_fd: 0 }
    }

    /// Attributes that only change how mounts spread.
    #[must_use]
    pub const fn spread(propagation: u64) -> Self {
        Self { set: 0, clear: 0, propagation, userns_fd: 0 }
    }

    /// Whether they change nothing.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// `mount_setattr(2)` on one mount.
///
/// # Errors
/// The kernel's.
pub fn set_attributes(mount: BorrowedFd<'_>, attributes: Attributes) -> io::Result<()> {
    setattr(mount, attributes, 0)
}

/// `mount_setattr(2)` on a mount and all below it.
///
/// # Errors
/// The kernel's.
pub fn set_attributes_recursive(mount: BorrowedFd<'_>, attributes: Attributes) -> io::Result<()> {
    setattr(mount, attributes, libc::AT_RECURSIVE)
}

fn setattr(mount: BorrowedFd<'_>, attributes: Attributes, flags: libc::c_int) -> io::Result<()> {
    // SAFETY: the path is an empty C string and `attributes` has the layout and size that the kernel is told.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | flags,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A detached clone of the mount at `path`, of it alone or with all below it.
///
/// # Errors
/// The kernel's.
pub fn clone_mount(dir: impl AsFd, path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    Ok(open_tree(dir, path, flags)?)
}

/// Attaches a detached mount over what `target` is open on.
///
/// # Errors
/// The kernel's.
pub fn attach(mount: impl AsFd, target: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, c"", target, c"", flags)?)
}

/// Opens what is at `path` below `root`, where links lead nowhere outside of it.
///
/// # Errors
/// The kernel's.
pub fn open_below(root: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
    Ok(openat2(root, relative, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT)?)
}

/// What is to be at the place of a mount when nothing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A folder.
    Directory,
    /// An empty file.
    File,
}

/// Opens the place of a mount below `root` and makes what is missing of it, as runc does.
///
/// # Errors
/// The kernel's.
pub fn make_below(root: impl AsFd, path: &Path, place: Place) -> io::Result<OwnedFd> {
    match open_below(&root, path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        found => return found,
    }
    let relative = path.strip_prefix("/").unwrap_or(path);
    let mut walked = std::path::PathBuf::new();
    let mut dir = open_below(&root, Path::new("."))?;
    let names: Vec<_> = relative.components().map(|component| component.as_os_str()).collect();
    for (index, name) in names.iter().enumerate() {
        walked.push(name);
        dir = match open_below(&root, &walked) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if index + 1 == names.len() && place == Place::File {
                    let flags =
                        OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                    openat(&dir, Path::new(name), flags, Mode::from_raw_mode(0o755))?;
                } else {
                    mkdirat(&dir, Path::new(name), Mode::from_raw_mode(0o755))?;
                }
                open_below(&root, &walked)?
            }
            found => found?,
        };
    }
    Ok(dir)
}

/// Makes a mount's root the root of this process and of its mount namespace. The old root lands on top of the new one (`pivot_root(2)`,
/// "Notes").
///
/// # Errors
/// The kernel's.
pub fn pivot(root: impl AsFd) -> io::Result<()> {
    rustix::process::fchdir(root)?;
    Ok(rustix::process::pivot_root(".", ".")?)
}

/// The same, and what was the root is gone.
///
/// # Errors
/// The kernel's.
pub fn pivot_and_leave(root: impl AsFd) -> io::Result<()> {
    pivot(root)?;
    rustix::mount::unmount(".", rustix::mount::UnmountFlags::DETACH)?;
    Ok(rustix::process::chdir("/")?)
}

/// The kind of a proc file system ([`kind_of_file_system`]).
pub const PROC: u64 = 0x9fa0;

/// What kind of file system a descriptor is open on (`statfs(2)`, `f_type`).
///
/// # Errors
/// The kernel's.
pub fn kind_of_file_system(fd: impl AsFd) -> io::Result<u64> {
    #[allow(clippy::cast_sign_loss, reason = "the kernel's magic numbers are unsigned")]
    Ok(rustix::fs::fstatfs(fd)?.f_type as u64 & 0xffff_ffff)
}

/// Opens a place on the node.
///
/// # Errors
/// The kernel's.
pub fn open_path(path: &Path) -> io::Result<OwnedFd> {
    Ok(openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}
