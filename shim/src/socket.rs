//! The sockets of shims: where they are, and whether somebody is behind one.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use sha2::{Digest, Sha256};

/// How often, and after what pause, to knock at a socket before it is taken for dead: another `start` may be between
/// making it and listening.
const KNOCKS: (usize, Duration) = (5, Duration::from_millis(2));

/// The address of a pod's shim; the same form for ever, so that shims of all versions find each other.
pub(crate) fn path(folder: &Path, containerd: &str, namespace: &str, group: &str) -> PathBuf {
    let digest =
        Sha256::digest(Path::new(containerd).join(namespace).join(group).as_os_str().as_encoded_bytes());
    folder.join(digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// Makes a socket; `None` if a shim answers there already. A socket that nobody answers is replaced.
///
/// # Errors
/// Those of making it.
pub(crate) fn listen(path: &Path) -> io::Result<Option<UnixListener>> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if !is_dead(path) {
                return Ok(None);
            }
            fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        other => other?,
    };
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(Some(listener))
}

/// Removes a socket if nobody is behind it.
pub(crate) fn remove_dead(path: &Path) {
    if is_dead(path) {
        // Somebody else may have been faster.
        let _ = fs::remove_file(path);
    }
}

/// Whether the socket is there and refuses connections.
fn is_dead(path: &Path) -> bool {
    let refuses =
        || UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    (0..KNOCKS.0).all(|_| {
        let refused = refuses();
        if refused {
            sleep(KNOCKS.1);
        }
        refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_containers_have_one_address_which_is_upstreams() {
        let path = path(Path::new("/s"), "/run/containerd/containerd.sock", "k8s.io", "pod");
        let same = Sha256::digest(b"/run/containerd/containerd.sock/k8s.io/pod");
        assert_eq!(
            path,
            Path::new("/s").join(same.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        );
    }

    #[test]
    fn a_socket_is_taken_over_only_from_the_dead() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s/socket");
        let listener = listen(&path).unwrap().expect("nobody is there");
        assert!(listen(&path).unwrap().is_none(), "the first answers");
        drop(listener);
        assert!(listen(&path).unwrap().is_some(), "nobody answers any more");
    }
}
