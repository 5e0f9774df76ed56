//! What the kernel tells of one mount alone (`statmount(2)`; its options since Linux 6.11). `/proc/self/mountinfo` tells of all of them and
//! takes 3 µs for each, and a node of two hundred pods has a thousand.

use std::ffi::CStr;
use std::fs::File;
use std::mem::offset_of;

use linux_raw_sys::general::{
    __NR_statmount, MNT_ID_REQ_SIZE_VER0, STATMOUNT_MNT_OPTS, STATX_MNT_ID_UNIQUE, mnt_id_req, statmount,
};
use rustix::fs::{AtFlags, StatxFlags, statx};

/// The most that is told of a mount: options of an overlay with hundreds of layers.
const ROOM: usize = 16 << 10;

/// The options of the mount that a file is on, as they stand in a `mountinfo`; `None` where this kernel does not tell them.
pub(crate) fn options(file: &File) -> Option<String> {
    let unique = StatxFlags::from_bits_retain(STATX_MNT_ID_UNIQUE);
    let told = statx(file, "", AtFlags::EMPTY_PATH, unique).ok()?;
    if told.stx_mask & STATX_MNT_ID_UNIQUE == 0 {
        return None;
    }
    let request = mnt_id_req {
        size: MNT_ID_REQ_SIZE_VER0,
        spare: 0,
        mnt_id: told.stx_mnt_id,
        param: STATMOUNT_MNT_OPTS.into(),
        mnt_ns_id: 0,
    };
    let mut answer = vec![0_u8; ROOM];
    // SAFETY: the kernel reads as much of the request as its size says, and writes no more into the buffer than its length.
    let done = unsafe {
        libc::syscall(__NR_statmount.into(), &raw const request, answer.as_mut_ptr(), answer.len(), 0_u32)
    };
    if done == 0 { options_in(&answer) } else { None }
}

/// The options in what the kernel wrote: a [`statmount`], and texts behind it.
fn options_in(answer: &[u8]) -> Option<String> {
    let mask = u64::from_ne_bytes(*answer.get(offset_of!(statmount, mask)..)?.first_chunk()?);
    if mask & u64::from(STATMOUNT_MNT_OPTS) == 0 {
        return None;
    }
    let at = u32::from_ne_bytes(*answer.get(offset_of!(statmount, mnt_opts)..)?.first_chunk()?) as usize;
    let text = CStr::from_bytes_until_nul(answer.get(size_of::<statmount>() + at..)?).ok()?;
    text.to_str().ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_without_options_or_without_an_end_has_none() {
        let mut answer = vec![0; size_of::<statmount>() + 8];
        assert_eq!(options_in(&answer), None);
        answer[offset_of!(statmount, mask)] = 128;
        answer[size_of::<statmount>()..].copy_from_slice(b"lowerdir");
        assert_eq!(options_in(&answer), None);
        assert_eq!(options_in(&answer[..4]), None);
        answer[size_of::<statmount>() + 5] = 0;
        assert_eq!(options_in(&answer).as_deref(), Some("lower"));
    }
}
