//! The container's termination log: the file that a kubelet reads a container's last words from.
//!
//! A kubelet names it to the runtime only by a mount: `PODS/UID/containers/NAME/ID` of the node, a file that everyone may
//! write, at the pod's `terminationMessagePath` (`makeMounts` in its `kuberuntime_container.go`).

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use oci_spec::runtime::{Mount, Spec};
use rustix::fs::{FileType, Mode, OFlags, RawMode, fstat, open};
use tracing::warn;

/// Where the log is unless a pod says otherwise.
const DEFAULT: &str = "/dev/termination-log";
/// What others may do who are to write to a file.
const OTHERS_WRITE: RawMode = 0o002;

/// Opens the log of the container whose root is this process's, if it has one.
pub fn open_log(spec: &Spec) -> Option<OwnedFd> {
    let mount = spec.mounts().iter().flatten().find(|mount| is_log(mount))?;
    let path = mount.destination();
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    match open(path, flags, Mode::empty()) {
        Ok(file) if is_for_everyone(&file) => Some(file),
        Ok(_) => None,
        Err(error) => {
            warn!(
                "a trap is told on stderr only, the termination log {} cannot be opened: {error}",
                path.display()
            );
            None
        }
    }
}

fn is_log(mount: &Mount) -> bool {
    let Some(source) = mount.source() else { return false };
    mount.destination() == Path::new(DEFAULT) || is_kubelets(source)
}

/// `…/pods/UID/containers/NAME/` and eight hexadecimal digits.
fn is_kubelets(source: &Path) -> bool {
    let parts: Vec<&[u8]> = source.iter().map(OsStr::as_bytes).collect();
    let [.., b"pods", _, b"containers", _, id] = parts.as_slice() else { return false };
    id.len() == 8 && id.iter().all(u8::is_ascii_hexdigit)
}

/// The log is opened before this process becomes the container's user, whose file it must be as well.
fn is_for_everyone(file: impl AsFd) -> bool {
    fstat(file).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_mode & OTHERS_WRITE != 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(source: &str, destination: &str) -> Mount {
        serde_json::from_value(
            serde_json::json!({"source": source, "destination": destination, "type": "bind"}),
        )
        .unwrap()
    }

    #[test]
    fn the_log_is_known_by_a_kubelets_file_or_the_default_place() {
        let kubelets = "/var/lib/kubelet/pods/0b9f/containers/app/1a2b3c4d";
        assert!(is_log(&mount(kubelets, "/last-words")));
        assert!(is_log(&mount("/srv/log", "/dev/termination-log")));
        assert!(!is_log(&mount("/var/lib/kubelet/pods/0b9f/volumes/app/1a2b3c4d", "/data")));
        assert!(!is_log(&mount("/var/lib/kubelet/pods/0b9f/containers/app/1a2b3c4g", "/data")));
    }
}
