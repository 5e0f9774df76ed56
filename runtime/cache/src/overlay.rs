//! Whether what an overlay tells of a file is the kernel's own word. It passes on what the file systems of its layers say: those
//! that fetch an image while it runs (FUSE), and those that are images themselves (EROFS), tell numbers and times that are in the image.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, StatxFlags, fstatfs, statfs, statx};

use crate::statmount;

/// What `statfs(2)` says of an overlay (`linux/magic.h`).
const OVERLAY: u64 = 0x794c_7630;
/// And of ext4, XFS, Btrfs and tmpfs, where nobody chooses the time of a file's last change.
const OF_THE_KERNEL: [u64; 4] = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994];

/// Whether a file is one of an overlay whose layers are all on such file systems, as far as that can be seen from here.
pub(crate) fn is_of_kernels_layers(file: &File) -> io::Result<bool> {
    if kind(fstatfs(file)?) != OVERLAY {
        return Ok(false);
    }
    let Some(layers) = options(file)?.as_deref().and_then(layers) else { return Ok(false) };
    let is_of_kernel = |layer: &PathBuf| statfs(layer).is_ok_and(|of| OF_THE_KERNEL.contains(&kind(of)));
    Ok(layers.iter().all(is_of_kernel))
}

#[allow(clippy::cast_sign_loss, reason = "the kernel's magic numbers are unsigned")]
fn kind(of: rustix::fs::StatFs) -> u64 {
    of.f_type as u64
}

/// The options of the mount that a file is on; `None` where it is not in sight.
fn options(file: &File) -> io::Result<Option<String>> {
    if let Some(options) = statmount::options(file) {
        return Ok(Some(options));
    }
    let number = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?.stx_mnt_id;
    Ok(options_in(&fs::read_to_string("/proc/self/mountinfo")?, number).map(str::to_owned))
}

/// The options of a mount of this number in a `mountinfo` (`proc(5)`).
fn options_in(mountinfo: &str, number: u64) -> Option<&str> {
    let is_it = |line: &&str| line.split(' ').next().is_some_and(|first| first.parse() == Ok(number));
    let (_, told) = mountinfo.lines().find(is_it)?.split_once(" - ")?;
    // Its kind, its source, its options.
    told.split(' ').nth(2)
}

/// The folders of the layers of an overlay with these options; `None` where they are not all to be seen.
fn layers(options: &str) -> Option<Vec<PathBuf>> {
    let mut layers = Vec::new();
    for option in options.split(',') {
        match option.split_once('=') {
            Some(("lowerdir" | "lowerdir+" | "upperdir", paths)) => {
                layers.extend(paths.split(':').map(PathBuf::from));
            }
            Some(("datadir+", _)) => return None,
            _ => {}
        }
    }
    // One that was mounted from within a folder tells paths from there.
    let are_whole = !layers.is_empty() && layers.iter().all(|layer| Path::is_absolute(layer));
    are_whole.then_some(layers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_has_the_options_that_it_has_among_all_of_them() {
        let told = options(&File::open("/dev/shm").unwrap()).unwrap().unwrap();
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = mountinfo.lines().rfind(|line| line.split(' ').nth(4) == Some("/dev/shm")).unwrap();
        assert!(line.ends_with(&told), "{told:?} is not the end of {line:?}");
    }

    #[test]
    fn the_options_of_a_mount_are_found_by_its_number() {
        const MOUNTINFO: &str = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 22 0:41 / /run/a/rootfs rw - overlay overlay rw,lowerdir=/s/2/fs:/s/1/fs,uuid=on
";
        assert_eq!(options_in(MOUNTINFO, 40), Some("rw,lowerdir=/s/2/fs:/s/1/fs,uuid=on"));
        assert_eq!(options_in(MOUNTINFO, 4), None);
    }

    #[test]
    fn the_layers_of_an_overlay_are_those_below_and_the_one_that_is_written() {
        let paths = |layers: &[&str]| Some(layers.iter().map(PathBuf::from).collect::<Vec<_>>());
        let told = "rw,lowerdir=/s/2/fs:/s/1/fs,upperdir=/s/3/fs,workdir=/s/3/work,uuid=on";
        assert_eq!(layers(told), paths(&["/s/2/fs", "/s/1/fs", "/s/3/fs"]));
        assert_eq!(layers("lowerdir+=/s/2/fs,lowerdir+=/s/1/fs"), paths(&["/s/2/fs", "/s/1/fs"]));
    }

    #[test]
    fn layers_that_are_not_all_to_be_seen_are_none() {
        for told in ["rw,lowerdir=2/fs:1/fs", "rw,lowerdir+=/s/2/fs,datadir+=/s/1/fs", "rw,relatime", ""] {
            assert_eq!(layers(told), None, "{told}");
        }
    }

    #[test]
    fn a_file_of_no_overlay_has_no_layers() {
        assert!(!is_of_kernels_layers(&File::open("/proc/self/status").unwrap()).unwrap());
    }
}
