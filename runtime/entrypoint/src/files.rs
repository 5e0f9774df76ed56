//! A container's files, before its mounts are made or from outside while it runs.
//!
//! Nothing that an image says leads out of the container: each step opens one path none of whose folders is a link
//! (`openat2(2)`, `RESOLVE_NO_SYMLINKS`), and links are followed here, from the container's root and into its mounts.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2, readlinkat};

/// As many links as Linux follows (`path_resolution(7)`).
const MAX_LINKS: usize = 40;
/// How many files a message about a missing entrypoint names.
const NAMED: usize = 5;
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A container's files.
#[derive(Debug)]
pub struct Files {
    root: OwnedFd,
    /// Bind mounts, where in the container and what of the node; later ones cover earlier ones.
    binds: Vec<(PathBuf, PathBuf)>,
}

impl Files {
    /// The files of a container whose root is at `root` and to which these parts of the node will be bound.
    ///
    /// # Errors
    /// If the root cannot be opened.
    pub fn with_binds(root: &Path, binds: Vec<(PathBuf, PathBuf)>) -> io::Result<Self> {
        Ok(Self { root: openat(CWD, root, FOLDER, Mode::empty())?, binds })
    }

    /// The files that process `pid` sees, mounts and all.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn of_process(pid: i32) -> io::Result<Self> {
        Self::with_binds(Path::new(&format!("/proc/{pid}/root")), Vec::new())
    }

    /// Opens the regular file at an absolute path.
    pub(crate) fn open(&self, path: &Path) -> io::Result<File> {
        let found = self.resolve(path)?;
        match FileType::from_raw_mode(fstat(&found)?.st_mode) {
            // Opened for reading only now that it is known to be a plain file: opening a device or pipe has effects.
            FileType::RegularFile => File::open(format!("/proc/self/fd/{}", found.as_fd().as_raw_fd())),
            FileType::Directory => Err(io::Error::other("it is a folder, not a file")),
            _ => Err(io::Error::other("it is not a regular file")),
        }
    }

    /// Wasm files that lie at the container's root, for a message.
    pub(crate) fn wasm_at_root(&self) -> Vec<String> {
        let list =
            openat(&self.root, ".", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).and_then(Dir::new);
        let names = list
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str().ok().map(str::to_owned));
        let mut names: Vec<_> =
            names.filter(|name| name.ends_with(".wasm")).map(|name| format!("/{name}")).collect();
        names.sort();
        names.truncate(NAMED);
        names
    }

    /// Finds a file, following links inside the container.
    fn resolve(&self, path: &Path) -> io::Result<OwnedFd> {
        let mut at = PathBuf::from("/");
        let mut rest = components(path);
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                at.pop();
                continue;
            }
            at.push(&name);
            let file = self.open_plain(&at)?;
            if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::Symlink {
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(io::Error::from_raw_os_error(libc::ELOOP));
            }
            let target = PathBuf::from(OsString::from_vec(readlinkat(&file, "", Vec::new())?.into_bytes()));
            at.pop();
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            let mut followed = components(&target);
            followed.append(&mut rest);
            rest = followed;
        }
        self.open_plain(&at)
    }

    /// Opens a path none of whose folders is a link; a link at its end is opened as itself.
    fn open_plain(&self, path: &Path) -> io::Result<OwnedFd> {
        let covering =
            self.binds.iter().rev().find_map(|(to, from)| Some((from, path.strip_prefix(to).ok()?)));
        let Some((source, inside)) = covering else { return below(&self.root, path) };
        // The source itself is the node's and trusted; what is in it is not.
        if inside.as_os_str().is_empty() {
            return Ok(openat(CWD, source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?);
        }
        below(&openat(CWD, source, FOLDER, Mode::empty())?, inside)
    }
}

fn below(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let path = path.strip_prefix("/").unwrap_or(path);
    let (parent, name) = match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if !parent.as_os_str().is_empty() => (parent, Path::new(name)),
        (_, Some(name)) => (Path::new("."), Path::new(name)),
        (_, None) => (Path::new("."), Path::new(".")),
    };
    let plain = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let folder = openat2(root, parent, FOLDER, Mode::empty(), plain)?;
    Ok(openat(&folder, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

fn components(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect()
}
