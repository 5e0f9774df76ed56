//! Mounting what containerd asks for as a container's root file system, and taking it away again.
//!
//! The options of `mount(2)` must fit a page, which the lower directories of an image with many layers do not, unless they
//! are written relative to a common folder. So the thread changes its working directory for the one call; the shim's
//! other thread, which shares it, uses absolute paths only.

use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, mount_remount, unmount,
};
use tracing::warn;

use crate::error::{Context, Error, Result};

/// One mount, as containerd describes it (`api/types/mount.proto`).
#[derive(Debug, Clone, Default)]
pub(crate) struct Mount {
    /// The file system's type.
    pub kind: String,
    /// What is mounted.
    pub source: String,
    /// Where, relative to the root file system.
    pub target: String,
    /// Options as in fstab.
    pub options: Vec<String>,
}

/// Longest option string that `mount(2)` takes: a page with its terminating zero.
const PAGE: usize = 4096;

/// Mounts all of them on `root`, in order; where one fails, none stays.
///
/// # Errors
/// Says which mount failed.
pub(crate) fn mount_all(mounts: &[Mount], root: &Path) -> Result<()> {
    for each in mounts {
        let mounted = target(root, &each.target).and_then(|target| mount_one(each, &target));
        if let Err(error) = mounted {
            if let Err(error) = unmount_all(root) {
                warn!(%error, root = %root.display(), "a root file system was left mounted");
            }
            return Err(error.context("failed to mount rootfs component"));
        }
    }
    Ok(())
}

/// Unmounts everything that is mounted on `path`, topmost first. A path where nothing is mounted, or that is not there, is
/// no error.
///
/// # Errors
/// Those of `umount2(2)`.
pub(crate) fn unmount_all(path: &Path) -> io::Result<()> {
    loop {
        match unmount(path, UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            // Something is mounted inside or still open: it goes when the last user does.
            Err(Errno::BUSY) => unmount(path, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)?,
            Err(error) => return Err(error.into()),
        }
    }
}

fn target(root: &Path, inside: &str) -> Result<PathBuf> {
    let inside = Path::new(inside.trim_start_matches('/'));
    if inside.components().any(|component| component == std::path::Component::ParentDir) {
        return Err(Error::invalid_argument(format!(
            "the mount target {} leaves the root",
            inside.display()
        )));
    }
    Ok(root.join(inside))
}

fn mount_one(wanted: &Mount, target: &Path) -> Result<()> {
    let what = || format!("mounting {} {} on {}", wanted.kind, wanted.source, target.display());
    let mut parsed = Parsed::of(&wanted.options);
    if let Some(option) = &parsed.unsupported {
        return Err(Error::invalid_argument(format!(
            "{}: the mount option {option} is not supported",
            what()
        )));
    }
    let folder = if parsed.data_len() >= PAGE { parsed.shorten() } else { None };
    let data = parsed.data.join(",");
    if data.len() >= PAGE {
        return Err(Error::invalid_argument(format!(
            "{}: its options take {} bytes, and the kernel takes {PAGE}; the image has too many layers",
            what(),
            data.len()
        )));
    }
    let data = CString::new(data)
        .map_err(|_| Error::invalid_argument(format!("{}: an option has a zero byte", what())))?;
    if parsed.is_bind() {
        mount(&wanted.source, target, "", parsed.flags & (MountFlags::BIND | MountFlags::REC), None)
            .context(what)?;
        let others = parsed.flags - MountFlags::BIND - MountFlags::REC;
        if !others.is_empty() {
            mount_remount(target, others | MountFlags::BIND, "").context(what)?;
        }
    } else {
        in_folder(folder.as_deref(), || mount(&wanted.source, target, &wanted.kind, parsed.flags, &*data))
            .context(what)?;
    }
    for change in parsed.propagation {
        mount_change(target, change).context(what)?;
    }
    Ok(())
}

/// Calls `act` with another working directory and comes back.
fn in_folder(folder: Option<&Path>, act: impl FnOnce() -> rustix::io::Result<()>) -> io::Result<()> {
    let Some(folder) = folder else { return Ok(act()?) };
    let here = openat(CWD, ".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::process::chdir(folder)?;
    let result = act();
    rustix::process::fchdir(here)?;
    Ok(result?)
}

/// Mount options taken apart.
#[derive(Debug)]
struct Parsed {
    flags: MountFlags,
    propagation: Vec<MountPropagationFlags>,
    data: Vec<String>,
    unsupported: Option<String>,
}

impl Parsed {
    fn of(options: &[String]) -> Self {
        let mut parsed =
            Self { flags: MountFlags::empty(), propagation: Vec::new(), data: Vec::new(), unsupported: None };
        for option in options {
            parsed.add(option);
        }
        parsed
    }

    fn add(&mut self, option: &str) {
        let (on, off) = (MountFlags::empty(), MountFlags::empty());
        let (on, off) = match option {
            "bind" => (MountFlags::BIND, off),
            "rbind" => (MountFlags::BIND | MountFlags::REC, off),
            "ro" => (MountFlags::RDONLY, off),
            "rw" => (on, MountFlags::RDONLY),
            "nosuid" => (MountFlags::NOSUID, off),
            "suid" => (on, MountFlags::NOSUID),
            "nodev" => (MountFlags::NODEV, off),
            "dev" => (on, MountFlags::NODEV),
            "noexec" => (MountFlags::NOEXEC, off),
            "exec" => (on, MountFlags::NOEXEC),
            "sync" => (MountFlags::SYNCHRONOUS, off),
            "async" => (on, MountFlags::SYNCHRONOUS),
            "dirsync" => (MountFlags::DIRSYNC, off),
            "noatime" => (MountFlags::NOATIME, off),
            "atime" => (on, MountFlags::NOATIME),
            "nodiratime" => (MountFlags::NODIRATIME, off),
            "diratime" => (on, MountFlags::NODIRATIME),
            "relatime" => (MountFlags::RELATIME, off),
            "norelatime" => (on, MountFlags::RELATIME),
            "strictatime" => (MountFlags::STRICTATIME, off),
            "nostrictatime" => (on, MountFlags::STRICTATIME),
            "defaults" => (on, off),
            other => return self.add_other(other),
        };
        self.flags = (self.flags | on) - off;
    }

    fn add_other(&mut self, option: &str) {
        let recursive = MountPropagationFlags::REC;
        match option {
            "private" => self.propagation.push(MountPropagationFlags::PRIVATE),
            "rprivate" => self.propagation.push(MountPropagationFlags::PRIVATE | recursive),
            "shared" => self.propagation.push(MountPropagationFlags::SHARED),
            "rshared" => self.propagation.push(MountPropagationFlags::SHARED | recursive),
            "slave" => self.propagation.push(MountPropagationFlags::DOWNSTREAM),
            "rslave" => self.propagation.push(MountPropagationFlags::DOWNSTREAM | recursive),
            "unbindable" => self.propagation.push(MountPropagationFlags::UNBINDABLE),
            "runbindable" => self.propagation.push(MountPropagationFlags::UNBINDABLE | recursive),
            // The kernel knows none of these: they are asked of a mount program.
            "loop" => self.unsupported = Some(option.to_owned()),
            _ if option.starts_with("uidmap=") || option.starts_with("gidmap=") => {
                self.unsupported = Some(option.to_owned());
            }
            _ if option.starts_with("X-") || option.starts_with("x-") => {}
            "" => {}
            _ => self.data.push(option.to_owned()),
        }
    }

    fn is_bind(&self) -> bool {
        self.flags.contains(MountFlags::BIND)
    }

    fn data_len(&self) -> usize {
        self.data.iter().map(|option| option.len() + 1).sum()
    }

    /// Writes an overlay's lower directories relative to the folder that they have in common, which is returned.
    fn shorten(&mut self) -> Option<PathBuf> {
        let lower = self.data.iter_mut().find(|option| option.starts_with("lowerdir="))?;
        let paths: Vec<&str> = lower.strip_prefix("lowerdir=")?.split(':').collect();
        let folder = common_folder(&paths)?;
        let relative: Option<Vec<&str>> =
            paths.iter().map(|path| Some(path.strip_prefix(folder)?.trim_start_matches('/'))).collect();
        let (folder, shorter) = (PathBuf::from(folder), format!("lowerdir={}", relative?.join(":")));
        *lower = shorter;
        Some(folder)
    }
}

/// The longest folder that holds all of the absolute paths.
fn common_folder<'a>(paths: &[&'a str]) -> Option<&'a str> {
    let first = *paths.first()?;
    let shared = paths.iter().fold(first.len(), |shared, path| {
        first.bytes().zip(path.bytes()).take(shared).take_while(|(a, b)| a == b).count()
    });
    let end = first[..shared].rfind('/')?;
    (end > 0).then(|| &first[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(options: &[&str]) -> Parsed {
        Parsed::of(&options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn options_become_flags_and_data() {
        let options = parsed(&["ro", "nosuid", "rw", "rprivate", "lowerdir=/a:/b", "x-ignored", "index=off"]);
        assert_eq!(options.flags, MountFlags::NOSUID);
        assert_eq!(options.data.join(","), "lowerdir=/a:/b,index=off");
        assert_eq!(options.propagation, [MountPropagationFlags::PRIVATE | MountPropagationFlags::REC]);
        assert!(parsed(&["rbind", "ro"]).is_bind());
        assert_eq!(parsed(&["loop"]).unsupported.as_deref(), Some("loop"));
    }

    #[test]
    fn a_hundred_layers_fit_a_page() {
        let layer =
            |n| format!("/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/{n}/fs");
        let lower = format!("lowerdir={}", (100..200).map(layer).collect::<Vec<_>>().join(":"));
        let mut options = parsed(&["workdir=/w", &lower]);
        assert!(options.data_len() > PAGE);
        let folder = options.shorten().unwrap();
        assert_eq!(folder, Path::new("/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots"));
        assert!(options.data[1].starts_with("lowerdir=100/fs:101/fs:"));
        assert!(options.data_len() < PAGE);
    }

    #[test]
    fn a_folder_is_common_only_if_it_is_one() {
        assert_eq!(common_folder(&["/s/12/fs", "/s/13/fs"]), Some("/s"));
        assert_eq!(common_folder(&["/s/12/fs", "/s/12/fs"]), Some("/s/12"));
        assert_eq!(common_folder(&["/a/x", "/b/x"]), None);
        assert_eq!(common_folder(&[]), None);
    }

    #[test]
    fn a_target_cannot_leave_the_root() {
        assert_eq!(target(Path::new("/r"), "/etc").unwrap(), Path::new("/r/etc"));
        assert!(target(Path::new("/r"), "a/../../etc").is_err());
    }
}
