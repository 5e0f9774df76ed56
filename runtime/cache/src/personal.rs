//! The cache of one who is not root.
//!
//! What is in it is run as machine code of theirs, so it must be a folder that only they can write.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

/// Makes the folder where it is not there: `$XDG_CACHE_HOME/wisp`, or `~/.cache/wisp`.
///
/// # Errors
/// One sentence that names the folder.
pub(crate) fn folder() -> io::Result<PathBuf> {
    let set = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let parent = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache"))).ok_or_else(|| {
        io::Error::other(
            "neither XDG_CACHE_HOME nor HOME names a folder for it; set XDG_CACHE_HOME to one of yours",
        )
    })?;
    let folder = parent.join("wisp");
    own(&folder).map_err(|error| {
        let folder = folder.display();
        io::Error::new(error.kind(), format!("{folder}: {error}; set XDG_CACHE_HOME to a folder of yours"))
    })?;
    Ok(folder)
}

fn own(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    if fs::symlink_metadata(folder)?.uid() != geteuid().as_raw() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is another user's"));
    }
    fs::set_permissions(folder, Permissions::from_mode(0o700))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_owner_enters_it() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("wisp");
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(0o777)).unwrap();
        own(&folder).unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
    }
}
