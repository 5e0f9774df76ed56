//! Layers as files, within one folder and within limits.
//!
//! Paths and links are followed within the folder as if it were the root (`openat2(2)`, `RESOLVE_IN_ROOT`, by pathrs), so that
//! nothing outside is ever written. Of what a tar archive can hold, the guest gets folders, files and links; devices and pipes are
//! left out, and owners are whoever unpacks. Whiteouts are OCI's (`layer.md`).

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use oci_spec::image::Descriptor;
use pathrs::flags::OpenFlags;
use pathrs::{InodeType, Root};
use rustix::fs::{Dir, Timespec, Timestamps, futimens};
use tar::EntryType;
use wisp_contract::digest::Digest;

use crate::Error;
use crate::blobs::Blobs;
use crate::layer::Layer;

/// How much an image may unpack to.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// All files together, in bytes.
    pub bytes: u64,
    /// Files, folders and links of all layers.
    pub entries: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 4 << 30, entries: 1 << 20 }
    }
}

/// What an entry may spend on its headers: names and attributes, which are held in memory.
const MAX_HEADER: u64 = 1 << 20;

const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";

/// Unpacks layers, each with the digest that its content must have, in their order.
pub(crate) fn all<'a>(
    blobs: &Blobs,
    layers: impl Iterator<Item = (&'a Descriptor, Option<Digest>)>,
    folder: &Path,
    limits: Limits,
) -> Result<(), Error> {
    let root = Root::open(folder).map_err(|error| Error::Io(folder.into(), io::Error::other(error)))?;
    let mut unpack = Unpack { root, left: limits, limits };
    for (descriptor, diff_id) in layers {
        unpack.layer(Layer::open(blobs, descriptor, diff_id)?)?;
    }
    Ok(())
}

struct Unpack {
    root: Root,
    left: Limits,
    limits: Limits,
}

impl Unpack {
    fn layer(&mut self, layer: Layer) -> Result<(), Error> {
        let allowance = Rc::new(Cell::new(MAX_HEADER));
        let mut archive = tar::Archive::new(Guarded { from: layer, left: Rc::clone(&allowance) });
        let result = self.entries(&mut archive, &allowance);
        let layer = archive.into_inner().from;
        match result {
            Ok(()) => layer.finish(),
            Err(Failure::Read(error)) => Err(layer.unreadable(&error)),
            Err(Failure::Other(error)) => Err(error),
        }
    }

    fn entries(
        &mut self,
        archive: &mut tar::Archive<Guarded<Layer>>,
        allowance: &Cell<u64>,
    ) -> Result<(), Failure> {
        let mut entries = archive.entries()?;
        loop {
            allowance.set(MAX_HEADER);
            let Some(entry) = entries.next() else { return Ok(()) };
            let mut entry = entry?;
            self.count(entry.size())?;
            // The entry's own bytes, and the padding to whole blocks.
            allowance.set(entry.size().saturating_add(1 << 10));
            self.entry(&mut entry)?;
            io::copy(&mut entry, &mut io::sink())?;
        }
    }

    fn count(&mut self, size: u64) -> Result<(), Error> {
        let left = self.left.bytes.checked_sub(size).zip(self.left.entries.checked_sub(1));
        let Some((bytes, entries)) = left else {
            return Err(Error::Refused(format!(
                "the image unpacks to more than {} bytes or {} files, which is more than is unpacked here",
                self.limits.bytes, self.limits.entries
            )));
        };
        self.left = Limits { bytes, entries };
        Ok(())
    }

    fn entry(&self, entry: &mut tar::Entry<'_, Guarded<Layer>>) -> Result<(), Failure> {
        let Some(path) = inside(&entry.path()?)? else { return Ok(()) };
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let parent = path.parent().unwrap_or(Path::new(""));
        if name == OPAQUE {
            return Ok(self.clear(parent)?);
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            if Path::new(hidden).components().all(|part| matches!(part, Component::Normal(_))) {
                self.remove(&parent.join(hidden))?;
            }
            return Ok(());
        }
        self.folder(parent, 0o755)?;
        let mode = entry.header().mode()? & 0o777;
        match entry.header().entry_type() {
            EntryType::Directory => self.folder(&path, mode)?,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.file(&path, mode, entry)?;
            }
            EntryType::Symlink => {
                let target = entry.link_name()?.unwrap_or_default().into_owned();
                self.link(&path, &InodeType::Symlink(target))?;
            }
            EntryType::Link => {
                let target = entry.link_name()?.unwrap_or_default();
                let Some(target) = inside(&target)? else { return Ok(()) };
                self.link(&path, &InodeType::Hardlink(target))?;
            }
            other => tracing::debug!("{} is left out: {other:?}", path.display()),
        }
        Ok(())
    }

    /// A folder that is there afterwards, and that who unpacks can enter and empty.
    fn folder(&self, path: &Path, mode: u32) -> Result<(), Error> {
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        let permissions = Permissions::from_mode(mode | 0o700);
        match self.root.mkdir_all(path, &permissions) {
            Ok(_) => Ok(()),
            // Something else of a layer below is in the way.
            Err(_) => {
                self.remove(path)?;
                self.root.mkdir_all(path, &permissions).map(drop).map_err(|error| refused(path, error))
            }
        }
    }

    fn file(
        &self,
        path: &Path,
        mode: u32,
        entry: &mut tar::Entry<'_, Guarded<Layer>>,
    ) -> Result<(), Failure> {
        self.remove(path)?;
        let flags = OpenFlags::O_WRONLY | OpenFlags::O_EXCL | OpenFlags::O_NOFOLLOW;
        let mut file = self
            .root
            .create_file(path, flags, &Permissions::from_mode(mode | 0o200))
            .map_err(|error| refused(path, error))?;
        copy(entry, &mut file, path)?;
        file.set_permissions(Permissions::from_mode(mode)).map_err(Error::at(path))?;
        let seconds = i64::try_from(entry.header().mtime()?).unwrap_or_default();
        let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        // A time that the file system cannot hold is no reason to fail.
        futimens(file.as_fd(), &times).ok();
        Ok(())
    }

    fn link(&self, path: &Path, kind: &InodeType) -> Result<(), Error> {
        self.remove(path)?;
        self.root.create(path, kind).map_err(|error| refused(path, error))
    }

    /// Removes what is there, if something is.
    fn remove(&self, path: &Path) -> Result<(), Error> {
        match self.root.resolve_nofollow(path) {
            Err(_) => Ok(()),
            Ok(_) => self.root.remove_all(path).map_err(|error| refused(path, error)),
        }
    }

    /// Empties a folder of what the layers below put there; a layer says this before it has entries there itself.
    fn clear(&self, path: &Path) -> Result<(), Error> {
        let flags = OpenFlags::O_RDONLY | OpenFlags::O_DIRECTORY;
        let Ok(folder) = self.root.open_subpath(Path::new(".").join(path), flags) else { return Ok(()) };
        let entries = Dir::read_from(folder.as_fd()).map_err(|error| Error::Io(path.into(), error.into()))?;
        for entry in entries {
            let entry = entry.map_err(|error| Error::Io(path.into(), error.into()))?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                self.remove(&path.join(name))?;
            }
        }
        Ok(())
    }
}

/// A path of an archive as one below the root; `None` for the root itself.
fn inside(path: &Path) -> Result<Option<PathBuf>, Error> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(Error::Refused(format!(
                    "a layer has the path {}, which leads out of the image; such an image is not unpacked",
                    path.display()
                )));
            }
        }
    }
    Ok(Some(clean).filter(|path| !path.as_os_str().is_empty()))
}

/// An entry's bytes into a file.
fn copy(from: &mut impl Read, file: &mut File, path: &Path) -> Result<(), Failure> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            read => file.write_all(&buffer[..read]).map_err(Error::at(path))?,
        }
    }
}

fn refused(path: &Path, error: pathrs::error::Error) -> Error {
    Error::Io(path.into(), io::Error::other(error))
}

/// Why a layer was not unpacked.
enum Failure {
    /// It cannot be read.
    Read(io::Error),
    /// Something else.
    Other(Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// A reader that gives no more than it is allowed, because `tar` holds an entry's names in memory, however long they are.
struct Guarded<R> {
    from: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Guarded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.left.get()).unwrap_or(usize::MAX);
        if left == 0 && !buffer.is_empty() {
            return Err(io::Error::other(format!(
                "an entry's names and attributes take more than {MAX_HEADER} bytes"
            )));
        }
        let length = buffer.len().min(left);
        let read = self.from.read(&mut buffer[..length])?;
        self.left.set((left - read) as u64);
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
