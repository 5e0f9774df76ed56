//! The sandbox: from a prepared program to a process inside all of its walls.
//!
//! The process is one `clone3(2)` away from the command, because the command has one thread. Parent and child share what
//! was prepared; they talk over two channels ([`channel`]): one to take turns, one for the one report of how it ended.
//!
//! - [`init`]: a container's first process, step by step.
//! - [`enter`]: a further process in a running container.
//! - [`launch`]: what both end in: identity, filters, exec.

pub mod channel;
pub mod console;
pub mod enter;
pub mod identity;
pub mod init;
pub mod kernel;
pub mod launch;
pub mod lsm;
pub mod mount_api;
pub mod namespaces;
pub mod options;
pub mod rootfs;
pub mod seccomp;
pub mod termination;
pub mod view;

use std::io;
use std::os::fd::AsRawFd;

use nix::sched::CloneFlags;
use wisp_cgroup::Entry;

/// `CLONE_INTO_CGROUP` (`clone(2)`, Linux 5.7), beyond what `CloneFlags` can hold.
const INTO_CGROUP: u64 = 1 << 33;

/// Makes a child with new namespaces, like fork(2): `None` in the child, its pid in the parent. Where `entry` is such, it is made
/// in its cgroup.
///
/// # Errors
/// The kernel's.
pub(crate) fn clone(flags: CloneFlags, entry: Option<&Entry>) -> io::Result<Option<i32>> {
    #[allow(clippy::cast_sign_loss, reason = "flags are bits, and a descriptor is no negative number")]
    let mut arguments = CloneArguments {
        flags: flags.bits() as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArguments::default()
    };
    if let Some(Entry::Born(cgroup)) = entry {
        arguments.flags |= INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child has a copy of this process, which has one thread (rule 8 of the house: never fork a
    // threaded process), so that the child may go on in Rust. `arguments` is a zeroed `struct clone_args` of version 2.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<CloneArguments>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid => Ok(Some(i32::try_from(pid).map_err(io::Error::other)?)),
    }
}

/// `struct clone_args`, version 2 (`clone(2)`).
#[derive(Default)]
#[repr(C)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}
