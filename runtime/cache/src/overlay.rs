//! Whether what an overlay tells of a file is the kernel's own word. It passes on what the file systems of its layers say: those
//! that fetch an image while it runs (FUSE), and those that are images themselves (EROFS), tell numbers and times that are in the image.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, StatxFlags, fstatfs, statfs, statx};

/// What `statfs(2)` says of an overlay (`linux/magic.h`).
const OVERLAY: u64 = 0x794c_7630;
/// And of ext4, XFS, Btrfs and tmpfs, where nobody chooses the time of a file's last change.
const OF_THE_KERNEL: [u64; 4] = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994];

/// Whether a file is one of an overlay whose layers are all on such file systems, as far as that can be seen from here.
pub(crate) fn is_of_kernels_layers(file: &File) -> io::Result<bool> {
    if kind(fstatfs(file)?) != OVERLAY {
        return Ok(false);
    }
    let told = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    let Some(layers) = layers(&fs::read_to_string("/proc/self/mountinfo")?, told.stx_mnt_id) else {
        return Ok(false);
    };
    let is_of_kernel = |layer: &PathBuf| statfs(layer).is_ok_and(|of| OF_THE_KERNEL.contains(&kind(of)));
    Ok(layers.iter().all(is_of_kernel))
}

#[allow(clippy::cast_sign_loss, reason = "the kernel's magic numbers are unsigned")]
fn kind(of: rustix::fs::StatFs) -> u64 {
    of.f_type as u64
}

/// The folders of the layers of a mount of this number in a `mountinfo` (`proc(5)`); `None` where they are not all to be seen.
fn layers(mountinfo: &str, number: u64) -> Option<Vec<PathBuf>> {
    let is_it = |line: &&str| line.split(' ').next().is_some_and(|first| first.parse() == Ok(number));
    let (_, told) = mountinfo.lines().find(is_it)?.split_once(" - ")?;
    let mut layers = Vec::new();
    // Its kind, its source, its options.
    for option in told.split(' ').nth(2)?.split(',') {
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

    const MOUNTINFO: &str = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 22 0:41 / /run/a/rootfs rw - overlay overlay rw,lowerdir=/s/2/fs:/s/1/fs,upperdir=/s/3/fs,workdir=/s/3/work,uuid=on
41 22 0:42 / /run/b/rootfs rw - overlay overlay rw,lowerdir=2/fs:1/fs
42 22 0:43 / /run/c/rootfs rw - overlay overlay rw,lowerdir+=/s/2/fs,lowerdir+=/s/1/fs
43 22 0:44 / /run/d/rootfs rw - overlay overlay rw,lowerdir+=/s/2/fs,datadir+=/s/1/fs
";

    #[test]
    fn the_layers_of_an_overlay_are_those_below_and_the_one_that_is_written() {
        let paths = |layers: &[&str]| Some(layers.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(layers(MOUNTINFO, 40), paths(&["/s/2/fs", "/s/1/fs", "/s/3/fs"]));
        assert_eq!(layers(MOUNTINFO, 42), paths(&["/s/2/fs", "/s/1/fs"]));
    }

    #[test]
    fn layers_that_are_not_all_to_be_seen_are_none() {
        for number in [41, 43, 22, 4] {
            assert_eq!(layers(MOUNTINFO, number), None, "{number}");
        }
    }

    #[test]
    fn a_file_of_no_overlay_has_no_layers() {
        assert!(!is_of_kernels_layers(&File::open("/proc/self/status").unwrap()).unwrap());
    }
}
