//! What signals do, from before the program is loaded.
//!
//! A fatal signal ends the process at once with 128 and its number: process 1 of a PID namespace gets only the signals that
//! it handles, and a guest that loops, or is blocked in a host call or on a full pipe, cannot be asked. An HTTP service is
//! told instead ([`stop_asked`]), so that it can finish what it does.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::OnceLock;

use rustix::event::{EventfdFlags, eventfd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Signals whose default is to end the process, without those that a fault raises (Wasmtime's), without SIGPIPE (ignored,
/// so that EPIPE reaches the guest) and without SIGKILL.
const FATAL: [libc::c_int; 14] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGABRT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGTERM,
    libc::SIGSTKFLT,
    libc::SIGXCPU,
    libc::SIGXFSZ,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGPWR,
];

/// Signals that ask a service to stop: what kubelet sends, and what images name as their STOPSIGNAL.
const STOP: [libc::c_int; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT];

/// The eventfd that is written where a service is to be told to stop; without one, signals end the process.
static DRAIN: OnceLock<OwnedFd> = OnceLock::new();

/// Catches every fatal signal, ignores SIGPIPE and lets the kernel reap children (as process 1 this process inherits those
/// of execs), and unblocks everything, whatever was inherited.
pub(crate) fn catch() {
    // SAFETY: the handler calls only what signal-safety(7) allows; the structures are valid and live for each call; no
    // other thread exists yet.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handle as *const () as libc::sighandler_t;
        // Wasm runs on stacks of its own, which may be full: use the alternate one.
        action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
        for signal in FATAL.into_iter().chain(libc::SIGRTMIN()..=libc::SIGRTMAX()) {
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
        for signal in [libc::SIGPIPE, libc::SIGCHLD] {
            libc::signal(signal, libc::SIG_IGN);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

extern "C" fn handle(signal: libc::c_int) {
    // To read a OnceLock is one atomic load.
    let drain = DRAIN.get().filter(|_| STOP.contains(&signal));
    // SAFETY: write(2) and _exit(2) are async-signal-safe; the interrupted code's errno is kept.
    unsafe {
        let Some(drain) = drain else { libc::_exit(128 + signal) };
        let errno = *libc::__errno_location();
        let one: u64 = 1;
        libc::write(drain.as_raw_fd(), (&raw const one).cast(), size_of::<u64>());
        *libc::__errno_location() = errno;
    }
}

/// Does what SIGTERM would do.
pub(crate) fn stop() {
    handle(libc::SIGTERM);
}

/// From here on, SIGTERM and its like are told by [`stop_asked`] and do not end the process.
pub(crate) fn tell_instead_of_exit() -> io::Result<()> {
    let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let _ = DRAIN.set(fd);
    Ok(())
}

/// Waits until the process is asked to stop.
pub(crate) async fn stop_asked() {
    // SAFETY: the descriptor is in a static: it stays open, and the same, for as long as the process lives.
    let watched =
        DRAIN.get().map(|fd| unsafe { AsyncFd::register_with_interest(fd.as_fd(), Interest::READABLE) });
    match watched {
        Some(Ok(fd)) => {
            let _ = fd.readable().await;
        }
        _ => std::future::pending().await,
    }
}
