//! The third wall: what the process may ask of the kernel once its program is loaded.
//!
//! A guest that breaks out of Wasm finds a process that can do what WASI offers and little else: no program to execute, no
//! process to trace, no mount, no BPF, no memory that becomes executable. The container's own seccomp profile, where it has
//! one, was installed before and holds too.

mod numbers;

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use seccompiler::SeccompCmpArgLen::{Dword, Qword};
use seccompiler::{BpfProgram, SeccompAction, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule};

/// What WASI's host functions, tokio and musl call, whatever the arguments.
const ALLOWED: &[libc::c_long] = &[
    // Files.
    libc::SYS_close,
    libc::SYS_copy_file_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fadvise64,
    libc::SYS_fallocate,
    libc::SYS_fcntl,
    libc::SYS_fdatasync,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_linkat,
    libc::SYS_lseek,
    libc::SYS_mkdirat,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_statx,
    libc::SYS_symlinkat,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
    libc::SYS_write,
    libc::SYS_writev,
    // Sockets, but for their making.
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_listen,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    // Waiting.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    // Memory that is not executable; the memfd is the image of a memory whose program could not be mapped.
    libc::SYS_memfd_create,
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mincore,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Time and chance.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getrandom,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    // Threads, and what they know of themselves.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_membarrier,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_sigaltstack,
    libc::SYS_sysinfo,
    libc::SYS_uname,
];

/// The older forms that musl still uses where the architecture has them.
#[cfg(target_arch = "x86_64")]
const OLDER: &[libc::c_long] = &[
    libc::SYS_access,
    libc::SYS_epoll_wait,
    libc::SYS_fstat,
    libc::SYS_lstat,
    libc::SYS_open,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_select,
    libc::SYS_stat,
    libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[libc::c_long] = &[];

/// `PAGEMAP_SCAN` (`linux/fs.h`): which of this process's own pages were written.
const PAGEMAP_SCAN: u64 = 0xc060_6610;

/// Asks of terminals, sockets and pages; not what changes or simulates (`TIOCSTI`).
const IOCTLS: [u64; 6] = [
    libc::TCGETS as u64,
    libc::TIOCGWINSZ as u64,
    libc::FIONBIO as u64,
    libc::FIONREAD as u64,
    libc::FIOCLEX as u64,
    PAGEMAP_SCAN,
];

/// Refuses from here on, on every thread, what this process has no use for: EPERM.
pub(crate) fn confine() -> Result<()> {
    for filter in filters().context("the filters of system calls")? {
        seccompiler::apply_filter_all_threads(&filter)
            .context("the filters of system calls were not taken by the kernel")?;
    }
    Ok(())
}

/// Two filters, of which the stricter answer counts (`seccomp(2)`): by numbers, and of what that lets pass by arguments. The second
/// also ends a process that makes calls of another architecture. After it no other is installed.
fn filters() -> Result<[BpfProgram; 2]> {
    let refusals = refusals()?;
    let by_number = numbers::filter(ALLOWED.iter().chain(OLDER).chain(refusals.keys()).copied())?;
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    let arch = std::env::consts::ARCH.try_into()?;
    let by_arguments = SeccompFilter::new(refusals, SeccompAction::Allow, refused, arch)?;
    Ok([by_number, by_arguments.try_into()?])
}

/// The calls that pass with some arguments only, each with rules for those with which it does not; without a rule it never does.
fn refusals() -> Result<BTreeMap<libc::c_long, Vec<SeccompRule>>> {
    let executable = libc::PROT_EXEC as u64;
    let threads = libc::CLONE_THREAD as u64;
    let this = u64::from(std::process::id());
    let when = |argument, length, comparison, value| {
        SeccompRule::new(vec![SeccompCondition::new(argument, length, comparison, value)?])
    };
    let none_of = |argument, values: &[u64]| {
        let condition = |value: &u64| SeccompCondition::new(argument, Dword, SeccompCmpOp::Ne, *value);
        SeccompRule::new(values.iter().map(condition).collect::<Result<_, _>>()?)
    };
    Ok(BTreeMap::from([
        (libc::SYS_mmap, vec![when(2, Dword, SeccompCmpOp::MaskedEq(executable), executable)?]),
        (libc::SYS_mprotect, vec![when(2, Dword, SeccompCmpOp::MaskedEq(executable), executable)?]),
        (libc::SYS_clone, vec![when(0, Qword, SeccompCmpOp::MaskedEq(threads), 0)?]),
        (libc::SYS_socket, vec![none_of(0, &[libc::AF_INET as u64, libc::AF_INET6 as u64])?]),
        (libc::SYS_ioctl, vec![none_of(1, &IOCTLS)?]),
        (libc::SYS_prctl, vec![none_of(0, &[libc::PR_SET_NAME as u64])?]),
        // To ask for limits, not to set them.
        (libc::SYS_prlimit64, vec![when(2, Qword, SeccompCmpOp::Ne, 0)?]),
        // To abort.
        (libc::SYS_tgkill, vec![none_of(0, &[this])?]),
        (libc::SYS_tkill, vec![none_of(0, &[this])?]),
        // The first filter lets it pass, so that the second can be installed.
        (libc::SYS_seccomp, Vec::new()),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confined_process_writes_and_does_not_execute_or_make_code() {
        // A filter is for ever: a child takes it.
        // SAFETY: the child only makes system calls and ends; it allocates nothing after the fork but the filter, and the
        // allocator's lock is not held by this thread.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let code = if confine().is_err() { 1 } else { what_fails() };
            // SAFETY: ends the child without the test harness's exit handlers.
            unsafe { libc::_exit(code) };
        }
        let mut status = 0;
        // SAFETY: waits for the child above.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(libc::WEXITSTATUS(status), 0);
    }

    fn what_fails() -> i32 {
        let refused = || std::io::Error::last_os_error().raw_os_error() == Some(libc::EPERM);
        // SAFETY: each call is refused, or maps a page that nobody uses.
        unsafe {
            let page = |prot| {
                libc::mmap(std::ptr::null_mut(), 4096, prot, libc::MAP_PRIVATE | libc::MAP_ANON, -1, 0)
            };
            // musl makes ENOMEM of this EPERM.
            if page(libc::PROT_READ | libc::PROT_EXEC) != libc::MAP_FAILED {
                return 2;
            }
            let data = page(libc::PROT_READ | libc::PROT_WRITE);
            if data == libc::MAP_FAILED || libc::mprotect(data, 4096, libc::PROT_EXEC) == 0 || !refused() {
                return 3;
            }
            if libc::execve(c"/bin/true".as_ptr(), std::ptr::null(), std::ptr::null()) == 0 || !refused() {
                return 4;
            }
            if libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0) >= 0 || !refused() {
                return 5;
            }
            if libc::syscall(libc::SYS_ptrace, 0, 0, 0, 0) == 0 || !refused() {
                return 6;
            }
            if libc::kill(1, 0) == 0 || !refused() {
                return 7;
            }
            // These pass with other arguments.
            let code = libc::MAP_PRIVATE | libc::MAP_ANON;
            if libc::syscall(libc::SYS_mmap, 0, 4096, libc::PROT_EXEC, code, -1, 0) >= 0 || !refused() {
                return 8;
            }
            if libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) >= 0 || !refused() {
                return 9;
            }
            if libc::ioctl(0, libc::TIOCSTI, c"x".as_ptr()) == 0 || !refused() {
                return 10;
            }
            if libc::prctl(libc::PR_SET_DUMPABLE, 1) == 0 || !refused() {
                return 11;
            }
            let limit = libc::rlimit { rlim_cur: 1, rlim_max: 1 };
            if libc::syscall(libc::SYS_prlimit64, 0, libc::RLIMIT_CORE, &raw const limit, 0) == 0
                || !refused()
            {
                return 12;
            }
            if libc::syscall(libc::SYS_tgkill, 1, 1, 0) == 0 || !refused() {
                return 13;
            }
            if libc::syscall(libc::SYS_seccomp, 0, 0, 0) == 0 || !refused() {
                return 14;
            }
            // And these are such others.
            let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
            if socket < 0 || libc::mprotect(data, 4096, libc::PROT_READ) != 0 {
                return 15;
            }
            if libc::syscall(libc::SYS_tgkill, libc::getpid(), libc::gettid(), 0) != 0 {
                return 16;
            }
        }
        0
    }
}
