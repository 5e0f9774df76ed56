//! What the process does that holds a pod's namespaces: give up everything, and wait for the shim's end. See
//! [`holder`](super::holder) for why.

use std::fs::File;
use std::io::{self, Write};

use anyhow::Context;
use rustix::io::{Errno, read};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use rustix::process::{Gid, Uid, chdir, pivot_root};
use rustix::stdio::{stdin, take_stdout};
use rustix::thread::{
    UnshareFlags, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid, unshare_unsafe,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// What it says when it is ready.
pub(super) const READY: &str = "ready";
/// Whom it runs as: nobody that an image has, as with the pause image.
const NOBODY: u32 = 65535;

/// What the process does: the whole of it.
///
/// # Errors
/// It was not started by [`Holder::spawn`].
pub(crate) fn hold() -> anyhow::Result<()> {
    // SAFETY: nothing else of this process uses its stdout.
    let mut said = File::from(unsafe { take_stdout() });
    if let Err(error) = confine() {
        let _ = write!(said, "{error:#}");
        return Err(error);
    }
    said.write_all(READY.as_bytes())?;
    drop(said);
    // Nothing is ever written: this ends with the shim.
    while read(stdin(), &mut [0; 1]) == Err(Errno::INTR) {}
    Ok(())
}

/// Gives up everything that the process does not need, for ever.
fn confine() -> anyhow::Result<()> {
    // The kernel then reaps what ends in the pod.
    // SAFETY: the signal's disposition is not a function.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    close_inherited().context("closing what was inherited")?;
    leave_files().context("leaving the node's files")?;
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    set_thread_groups(&[]).context("leaving root's groups")?;
    set_thread_res_gid(group, group, group).context("leaving root's group")?;
    // Capabilities go with root.
    set_thread_res_uid(user, user, user).context("leaving root")?;
    set_no_new_privs(true).context("giving up privileges")?;
    seccompiler::apply_filter(&filter()?).context("filtering system calls")
}

/// Closes all descriptors but those of the standard streams: whoever started containerd may have left some open.
fn close_inherited() -> io::Result<()> {
    // SAFETY: this process has opened none that it still uses.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    if closed < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Changes the root file system for an empty one.
fn leave_files() -> io::Result<()> {
    // SAFETY: the flags concern namespaces and not the table of descriptors.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::NEWCGROUP) }?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    // Any folder that every node has.
    let folder = "/proc";
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("none", folder, "tmpfs", flags, None)?;
    chdir(folder)?;
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    Ok(chdir("/")?)
}

fn filter() -> anyhow::Result<BpfProgram> {
    let allowed =
        [libc::SYS_read, libc::SYS_write, libc::SYS_close, libc::SYS_restart_syscall, libc::SYS_exit_group];
    let filter = SeccompFilter::new(
        allowed.into_iter().map(|number| (number, vec![])).collect(),
        SeccompAction::Errno(libc::EPERM as u32),
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into()?,
    )?;
    Ok(filter.try_into()?)
}
