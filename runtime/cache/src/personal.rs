//! The cache of one who is not root, or root only to themselves.
//!
//! What is in it is run as machine code of theirs, so it must be a folder that only they can write.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

/// Who the compiler runs as where this process may become somebody else: nobody, in every distribution.
pub(crate) const NOBODY: u32 = 65534;

/// Whether this process is root among others. Root of a user namespace with no other user (`unshare --map-root-user`) is somebody
/// outside, who can become nobody else.
pub(crate) fn is_root() -> bool {
    let is_among_others = |map: &str| {
        // A kernel without user namespaces has no maps.
        fs::read_to_string(format!("/proc/self/{map}")).map_or(true, |map| names(&map, NOBODY))
    };
    geteuid().is_root() && is_among_others("uid_map") && is_among_others("gid_map")
}

/// Whether a map of ids (`user_namespaces(7)`: lines of first, first outside, length) has this one.
fn names(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let numbers: Vec<u64> = line.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        matches!(numbers[..], [first, _, length] if (first..first + length).contains(&id.into()))
    })
}

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
    fn a_namespace_of_one_user_has_nobody_else() {
        assert!(names("         0          0 4294967295\n", NOBODY));
        assert!(names("0 1000 1\n1 100000 65536\n", NOBODY), "rootless containers");
        assert!(!names("         0       1000          1\n", NOBODY));
        assert!(!names("", NOBODY) && !names("0 0\n", NOBODY));
    }

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
