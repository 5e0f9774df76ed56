//! The confined process: `wisp-compiler`, which reads a stranger's program and is trusted with nothing else.
//!
//! It runs as nobody, without network, privileges or its caller's environment, in a cgroup of its own (not the pod's, whose limits are
//! for the guest, and not containerd's), first in line for the kernel's OOM killer. What it opens it was given: the Wasm
//! at descriptor 0, the code's file at 3; facts go to 1, the one sentence of a refusal to 2. Its parent is a keeper
//! ([`crate::keeper`]), with which it ends.

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Pid, Uid, getpid, setgroups, setresgid, setresuid};
use oci_spec::runtime::{LinuxCpuBuilder, LinuxMemoryBuilder, LinuxResourcesBuilder};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, pidfd_open};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use wisp_cgroup::Cgroup;
use wisp_contract::facts::Facts;

use crate::personal::{self, NOBODY};
use crate::{Compiled, in_memory};

/// The cgroup that all compiles of the node share.
pub const COMPILER_CGROUP: &str = "/wisp-compiler";

/// Where the compiler expects the file for its output.
const CODE_FD: RawFd = 3;
/// How the compiler's allocator (mimalloc) is set: it gives nothing back, because a compile takes again what it frees and then ends,
/// and takes no pages of 2 MiB, which are zeroed whole for the part that is used.
const ALLOCATOR: [(&str, &str); 2] = [("MIMALLOC_PURGE_DELAY", "-1"), ("MIMALLOC_ALLOW_THP", "0")];
/// What the kernel's OOM killer takes first (`proc(5)`, `oom_score_adj`).
const FIRST_TO_GO: &str = "1000";
/// How often a compile looks whether it is still wanted.
const WANTED_INTERVAL: Duration = Duration::from_secs(1);
/// All compiles together compete as one service of the system does by default: a container waits for them, and kubelet waits no longer
/// than two minutes.
const CPU_SHARES: u64 = 1024;

/// Why a program was not compiled.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The program is not one that Wisp runs; the compiler's own sentence.
    #[error("{0}")]
    Refused(String),
    /// The compiler took too long.
    #[error(
        "the program was not compiled within {0:?}; compile it beforehand with `wisp compile`, or raise compiler.timeout \
         in /etc/wisp/config.toml"
    )]
    Timeout(Duration),
    /// The compiler died.
    #[error(
        "the compiler ended with {0}; if memory was short, raise compiler.memory in /etc/wisp/config.toml"
    )]
    Died(ExitStatus),
    /// The compiler's facts make no sense.
    #[error("the compiler gave facts that cannot be read: {0}")]
    Facts(#[from] serde_json::Error),
    /// Nobody has waited for it any more.
    #[error("the program was not compiled, because nobody waited for it any more")]
    Abandoned,
    /// The process that owned the compile is gone.
    #[error("the compile was ended from outside; start the container again")]
    Killed,
    /// A failure that another process had, in its words.
    #[error("{0}")]
    Told(String),
    /// The compiler could not be run.
    #[error("the compiler could not be run: {0}")]
    Io(#[from] io::Error),
}

/// What the compiler writes to, in memory.
#[derive(Debug)]
pub(crate) struct Output {
    code: File,
    facts: File,
    said: File,
}

impl Output {
    pub(crate) fn new() -> io::Result<Self> {
        let (code, facts) = (in_memory("wisp-code")?, in_memory("wisp-facts")?);
        Ok(Self { code, facts, said: in_memory("wisp-said")? })
    }

    pub(crate) fn descriptors(&self) -> [RawFd; 3] {
        [self.code.as_raw_fd(), self.facts.as_raw_fd(), self.said.as_raw_fd()]
    }

    /// The code and the facts, once the compiler has ended well.
    pub(crate) fn compiled(&self) -> Result<Compiled, Failure> {
        let facts: Facts = serde_json::from_str(&content(&self.facts)?)?;
        let mut code = self.code.try_clone()?;
        code.rewind()?;
        Ok(Compiled { code, facts })
    }
}

/// Compiles the program in `wasm`, for as long as it is `wanted`.
pub(crate) fn run(
    compiler: &Path,
    limits: &wisp_config::Compiler,
    wasm: &File,
    output: &Output,
    wanted: impl Fn() -> bool,
) -> Result<Compiled, Failure> {
    let mut command = Command::new(compiler);
    command
        .args(["--profile", "auto"])
        .env_clear()
        .envs(ALLOCATOR)
        .stdin(Stdio::from(wasm.try_clone()?))
        .stdout(Stdio::from(output.facts.try_clone()?))
        .stderr(Stdio::from(output.said.try_clone()?));
    confine(&mut command, limits, output.code.as_raw_fd())?;
    let status = wait(command.spawn()?, limits.timeout, wanted)?;
    if !status.success() {
        return Err(match content(&output.said)?.trim() {
            "" => Failure::Died(status),
            sentence if status.code() == Some(1) => Failure::Refused(sentence.into()),
            _ => Failure::Died(status),
        });
    }
    output.compiled()
}

/// What the process does between fork and exec. This process has one thread, so that the child may allocate.
fn confine(command: &mut Command, limits: &wisp_config::Compiler, code: RawFd) -> Result<(), Failure> {
    let filter = filter().map_err(io::Error::other)?;
    let (memory, seconds) = (limits.memory.as_u64(), limits.timeout.as_secs().max(1));
    let (parent, is_root) = (getpid(), personal::is_root());
    let in_child = move || {
        die_with(parent)?;
        setrlimit(Resource::RLIMIT_AS, memory, memory)?;
        setrlimit(Resource::RLIMIT_CPU, seconds, seconds)?;
        setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC).ok();
        // SAFETY: dup2 on descriptors that are open; the copy at 3 has no close-on-exec flag.
        if unsafe { libc::dup2(code, CODE_FD) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // Who is not root compiles as themselves, for a cache of their own.
        if is_root {
            setgroups(&[])?;
            setresgid(Gid::from_raw(NOBODY), Gid::from_raw(NOBODY), Gid::from_raw(NOBODY))?;
            setresuid(Uid::from_raw(NOBODY), Uid::from_raw(NOBODY), Uid::from_raw(NOBODY))?;
        }
        seccompiler::apply_filter(&filter).map_err(io::Error::other)
    };
    // SAFETY: the caller is single-threaded (rule 8 of the house), so the child of fork may allocate and call anything.
    unsafe { command.pre_exec(in_child) };
    Ok(())
}

/// The compiler ends with its keeper; the next who waits has a new one.
fn die_with(parent: Pid) -> io::Result<()> {
    // SAFETY: prctl with plain integers.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } < 0 {
        return Err(io::Error::last_os_error());
    }
    if nix::unistd::getppid() == parent { Ok(()) } else { Err(io::Error::other("the parent has ended")) }
}

/// Makes this process, and the compiler that it will start, one that nothing else on the node suffers from: first in line for
/// the kernel's OOM killer, and in the compilers' cgroup, whose limits are for all of them.
pub(crate) fn stand_back(limits: &wisp_config::Compiler) -> Result<(), Box<dyn std::error::Error>> {
    fs::write("/proc/self/oom_score_adj", FIRST_TO_GO).ok();
    let memory = LinuxMemoryBuilder::default().limit(i64::try_from(limits.memory.as_u64())?).build()?;
    let cpu = LinuxCpuBuilder::default().shares(CPU_SHARES).build()?;
    let resources = LinuxResourcesBuilder::default().memory(memory).cpu(cpu).build()?;
    let cgroup = Cgroup::of("wisp-compiler", Some(Path::new(COMPILER_CGROUP)))?;
    cgroup.make()?;
    cgroup.enter()?;
    cgroup.apply(&resources)?;
    Ok(())
}

/// System calls that a compiler has no use for, refused.
fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let refused = [
        libc::SYS_socket,
        libc::SYS_socketpair,
        libc::SYS_connect,
        libc::SYS_bind,
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_move_mount,
        libc::SYS_open_tree,
        libc::SYS_fsopen,
        libc::SYS_pivot_root,
        libc::SYS_chroot,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_userfaultfd,
        libc::SYS_io_uring_setup,
        libc::SYS_kexec_load,
        libc::SYS_init_module,
        libc::SYS_finit_module,
    ];
    let rules = refused.into_iter().map(|call| (call, vec![])).collect();
    SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM as u32),
        std::env::consts::ARCH.try_into()?,
    )?
    .try_into()
}

/// Waits for the compiler, and ends it when its time is over or nobody wants it.
fn wait(mut child: Child, timeout: Duration, wanted: impl Fn() -> bool) -> Result<ExitStatus, Failure> {
    let pid = rustix::process::Pid::from_child(&child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from)?;
    let deadline = Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let failure = match (left.is_zero(), wanted()) {
            (true, _) => Some(Failure::Timeout(timeout)),
            (false, false) => Some(Failure::Abandoned),
            (false, true) => None,
        };
        if let Some(failure) = failure {
            child.kill()?;
            child.wait()?;
            return Err(failure);
        }
        let left = Timespec::try_from(left.min(WANTED_INTERVAL)).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&left)) {
            Ok(0) => {}
            Ok(_) => return Ok(child.wait()?),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
    }
}

fn content(mut file: &File) -> io::Result<String> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
