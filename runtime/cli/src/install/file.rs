//! Files that change whole or not at all, and back.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::NamedTempFile;

/// A text file as it was and as it is to be; `None` is no file.
#[derive(Debug, Clone)]
pub(crate) struct Edit {
    /// The file.
    pub(crate) path: PathBuf,
    /// What is in it.
    pub(crate) before: Option<String>,
    /// What is to be in it.
    pub(crate) after: Option<String>,
}

impl Edit {
    /// An edit that makes `after` of what the file holds now.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub(crate) fn of(path: &Path, after: Option<String>) -> Result<Self> {
        let before = match fs::read_to_string(path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        Ok(Self { path: path.into(), before, after })
    }

    /// Makes the change.
    ///
    /// # Errors
    /// Those of the file system; then nothing has changed.
    pub(crate) fn apply(&self) -> Result<()> {
        put(&self.path, self.after.as_deref())
    }

    /// Undoes the change.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn undo(&self) -> Result<()> {
        put(&self.path, self.before.as_deref())
    }
}

fn put(path: &Path, text: Option<&str>) -> Result<()> {
    let done = match text {
        Some(text) => replace(path, text.as_bytes(), None),
        None => fs::remove_file(path),
    };
    done.with_context(|| format!("writing {}", path.display()))
}

/// Gives a file this content at once: whoever opens it finds the old content or the new, also after a power cut. Mode and owner
/// stay; a new file gets `mode`, or 0644.
///
/// # Errors
/// Those of the file system; then nothing has changed.
pub(crate) fn replace(path: &Path, mut content: impl Read, mode: Option<u32>) -> io::Result<()> {
    // The target of a link is what changes, not the link.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.into());
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut file = NamedTempFile::with_prefix_in(".wisp-", folder)?;
    io::copy(&mut content, &mut file)?;
    let old = fs::metadata(&path).ok();
    let kept = old.as_ref().map(|old| old.mode() & 0o7777);
    file.as_file().set_permissions(Permissions::from_mode(mode.or(kept).unwrap_or(0o644)))?;
    if let Some(old) = old {
        std::os::unix::fs::fchown(file.as_file(), Some(old.uid()), Some(old.gid()))?;
    }
    file.flush()?;
    file.as_file().sync_all()?;
    file.persist(&path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

/// Makes a folder and those above it, and answers the ones that were not there, the outermost first.
///
/// # Errors
/// Those of the file system.
pub(crate) fn make_folder(path: &Path) -> Result<Vec<PathBuf>> {
    let mut missing: Vec<_> =
        path.ancestors().take_while(|folder| !folder.exists()).map(Path::to_path_buf).collect();
    missing.reverse();
    fs::create_dir_all(path).with_context(|| format!("making {}", path.display()))?;
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_is_undone_to_the_byte_and_keeps_mode_and_link() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("real.toml"), folder.path().join("link.toml"));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let edit = Edit::of(&link, Some("new".into())).unwrap();
        edit.apply().unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        edit.undo().unwrap();
        assert_eq!(fs::read_to_string(&link).unwrap(), "old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_new_file_is_undone_by_its_removal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/new.toml");
        assert_eq!(make_folder(path.parent().unwrap()).unwrap().len(), 2);
        let edit = Edit::of(&path, Some("new".into())).unwrap();
        edit.apply().unwrap();
        edit.undo().unwrap();
        assert!(!path.exists());
    }
}
