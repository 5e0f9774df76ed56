//! The third wall: what the process may ask of the kernel once its program is loaded.
//!
//! A guest that breaks out of Wasm finds a process that can do what WASI offers and little else: no program to execute, no
//! process to trace, no mount, no BPF, no memory that becomes executable. The container's own seccomp profile, where it has
//! one, was installed before and holds too.

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
    let filter = filter().context("the filter of system calls")?;
    seccompiler::apply_filter_all_threads(&filter)
        .context("the filter of system calls was not taken by the kernel")
}

fn filter() -> Result<BpfProgram> {
    let mut rules: BTreeMap<libc::c_long, Vec<SeccompRule>> =
        ALLOWED.iter().chain(OLDER).map(|number| (*number, vec![])).collect();
    let executable = libc::PROT_EXEC as u64;
    let threads = libc::CLONE_THREAD as u64;
    let only = |argument, length, comparison, value| {
        SeccompCondition::new(argument, length, comparison, value).and_then(|one| SeccompRule::new(vec![one]))
    };
    let one_of = |argument, values: &[u64]| {
        values
            .iter()
            .map(|value| only(argument, Dword, SeccompCmpOp::Eq, *value))
            .collect::<Result<Vec<_>, _>>()
    };
    for mapping in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(mapping, vec![only(2, Dword, SeccompCmpOp::MaskedEq(executable), 0)?]);
    }
    rules.insert(libc::SYS_clone, vec![only(0, Qword, SeccompCmpOp::MaskedEq(threads), threads)?]);
    rules.insert(libc::SYS_socket, one_of(0, &[libc::AF_INET as u64, libc::AF_INET6 as u64])?);
    rules.insert(libc::SYS_ioctl, one_of(1, &IOCTLS)?);
    rules.insert(libc::SYS_prctl, one_of(0, &[libc::PR_SET_NAME as u64])?);
    // To ask for limits, not to set them.
    rules.insert(libc::SYS_prlimit64, vec![only(2, Qword, SeccompCmpOp::Eq, 0)?]);
    // To abort.
    let this = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, one_of(0, &[this])?);
    rules.insert(libc::SYS_tkill, one_of(0, &[this])?);
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    let filter =
        SeccompFilter::new(rules, refused, SeccompAction::Allow, std::env::consts::ARCH.try_into()?)?;
    Ok(filter.try_into()?)
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
        }
        0
    }
}
