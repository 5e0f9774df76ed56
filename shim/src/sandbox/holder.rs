//! The first process of a pod whose containers share their processes: it holds the pod's namespaces, and the kernel makes
//! it the parent of orphans. It is this binary, run again, and does nothing but wait for the shim's end.
//!
//! The pod's containers see it. So that those who may trace processes find nothing in it, it has no root file system, no
//! descriptor, no capability, and may make no system call but a few.

use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::warn;

use super::hold::READY;
use crate::args::HOLD;
use crate::error::{Context, Error, Result};
use crate::reaper::{ExitOf, Expectation};

/// What the process is called.
const NAME: &str = "wisp-pod";
/// The most that is read of what it says.
const MAX_SAID: u64 = 4096;
/// How long it may take to end that has been killed.
const KILLED: Duration = Duration::from_secs(10);

/// A process that has been started and confined.
#[derive(Debug)]
pub(super) struct Spawned {
    pid: i32,
    pidfd: OwnedFd,
    alive: ChildStdin,
}

/// The holding process, as the shim knows it.
#[derive(Debug)]
pub(super) struct Holder {
    pid: i32,
    pidfd: OwnedFd,
    /// The process ends when this is closed: with the shim, however that ends.
    _alive: ChildStdin,
    exit: watch::Receiver<Option<u32>>,
}

impl Holder {
    /// Starts it in the namespaces of the calling thread, and waits until it is confined.
    pub(super) fn spawn() -> Result<Spawned> {
        let starting = || "starting the process that holds the pod's namespaces".to_owned();
        let program = read_only_self().context(starting)?;
        let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
        command
            .arg0(NAME)
            .arg(HOLD)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().context(starting)?;
        let mut said = String::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(MAX_SAID).read_to_string(&mut said).context(starting)?;
        }
        let (Some(pid), Some(alive)) = (Pid::from_raw(child.id().cast_signed()), child.stdin.take()) else {
            return Err(Error::unknown(starting()));
        };
        if said != READY {
            return Err(Error::unknown(format!("{}: {said}", starting())));
        }
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).context(starting)?;
        Ok(Spawned { pid: pid.as_raw_pid(), pidfd, alive })
    }

    /// Its process id on the node.
    pub(super) fn pid(&self) -> u32 {
        self.pid.cast_unsigned()
    }

    /// Waits until it has ended; its status.
    pub(super) async fn ended(&self) -> u32 {
        let mut exit = self.exit.clone();
        let status = exit.wait_for(Option::is_some).await.map(|status| *status);
        status.ok().flatten().unwrap_or_default()
    }

    /// Ends it, and with it all processes of the pod that it is the first of.
    pub(super) async fn end(&self) -> Result<()> {
        // It has not been waited for, or has ended.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        if timeout(KILLED, self.ended()).await.is_err() {
            warn!(pid = self.pid, "the process that holds the pod's namespaces has not ended");
        }
        Ok(())
    }
}

impl Spawned {
    /// Follows it to its end, from the thread that reaps.
    pub(super) fn claim(self, expected: &Expectation) -> Holder {
        let (tell, exit) = watch::channel(None);
        tokio::spawn(follow(expected.claim(self.pid), tell));
        Holder { pid: self.pid, pidfd: self.pidfd, _alive: self.alive, exit }
    }
}

async fn follow(exit: ExitOf, tell: watch::Sender<Option<u32>>) {
    tell.send_replace(Some(exit.wait().await.status));
}

/// This binary through a read-only clone of its mount: what a container reaches as `/proc/1/exe` cannot be written
/// (CVE-2019-5736).
fn read_only_self() -> io::Result<OwnedFd> {
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, "/proc/self/exe", clone)?;
    make_read_only(&tree)?;
    Ok(tree)
}

fn make_read_only(tree: &OwnedFd) -> io::Result<()> {
    /// The kernel's `struct mount_attr`.
    #[repr(C)]
    struct Attributes {
        set: u64,
        others: [u64; 3],
    }
    let attributes = Attributes { set: libc::MOUNT_ATTR_RDONLY, others: [0; 3] };
    // SAFETY: the path is an empty C string, and `attributes` has the layout and size that the kernel is told.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
