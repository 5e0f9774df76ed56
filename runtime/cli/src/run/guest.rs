//! The guest process: its plan, its start and its end.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};

use anyhow::{Context, Result, anyhow};
use nix::libc;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::pipe::{PipeFlags, pipe_with};
use wisp_cache::Compiled;
use wisp_contract::companion;
use wisp_contract::plan::{Entry, HttpSettings, PLAN_FD, Plan, Preopen, Program, Report};

use super::Args;
use super::options::{Listen, Volume};
use crate::program::Failure;

/// Signals that are the guest's business.
const FORWARDED: [Signal; 6] =
    [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2];

/// What runs.
pub(super) struct Guest {
    /// Its arguments, of which the first is its name.
    pub(super) args: Vec<String>,
    /// Where it is.
    pub(super) workdir: String,
    /// What of it is called.
    pub(super) entry: Entry,
    /// Its code.
    pub(super) compiled: Compiled,
    /// Its variables.
    pub(super) env: Vec<String>,
    /// The folders that it sees.
    pub(super) volumes: Vec<Volume>,
    /// Where it listens, if it is a service.
    pub(super) serves: Option<Listen>,
    /// How it serves.
    pub(super) http: HttpSettings,
}

impl Guest {
    /// Runs it to its end and gives its exit code.
    pub(super) fn run(self, args: &Args) -> Result<u8, Failure> {
        let serves = self.serves;
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).context("a pipe")?;
        let waited = block().context("signals")?;
        let mut child = self.spawn(args, write)?;
        let report = report(read.into());
        if let (Ok(()), Some(listen)) = (&report, serves) {
            writeln!(io::stderr(), "wisp: serving on http://{listen}/").ok();
        }
        let status = follow(&mut child, &waited).context("the guest process")?;
        // A signal before the program was loaded ends it without a report, and needs no explanation.
        match report {
            Err(error) if code(status) <= 128 => Err(Failure::NotRunnable(error)),
            _ => Ok(code(status)),
        }
    }

    fn spawn(self, args: &Args, report: OwnedFd) -> Result<Child> {
        let mut kept = Kept::default();
        let arguments = self.args;
        let plan = Plan {
            id: "run".into(),
            entry: self.entry,
            args: arguments.clone(),
            env: self.env,
            cwd: self.workdir,
            preopens: self.volumes.iter().map(|volume| preopen(volume, &mut kept)).collect::<Result<_>>()?,
            memory_limit: args.memory,
            cpus: args.cpus,
            http: self.http,
            control_fd: None,
            counters_fd: None,
            proc_fd: None,
            termination_log: None,
            report_fd: kept.keep(&report)?,
            wait_for_start: false,
            program: Program {
                path: arguments[0].clone(),
                code_fd: kept.keep(&self.compiled.code)?,
                facts: self.compiled.facts,
            },
        };
        let plan = written(&plan).context("the plan")?;
        let plan = kept.keep(&plan)?;
        let mut command = Command::new(companion::find("wisp-guest")?);
        command.arg0(&arguments[0]).args(&arguments[1..]).env_clear();
        kept.inherit(&mut command, plan);
        command.spawn().context("wisp-guest")
    }
}

/// A folder of this machine as the guest's.
fn preopen(volume: &Volume, kept: &mut Kept) -> Result<Preopen> {
    let dir =
        rustix::fs::open(&volume.host, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .with_context(|| format!("--volume: {} cannot be opened as a folder", volume.host.display()))?;
    Ok(Preopen { guest_path: volume.guest.clone(), fd: kept.keep(&dir)?, writable: volume.writable })
}

/// Descriptors that the guest process is to have, all above the plan's.
#[derive(Default)]
struct Kept(Vec<OwnedFd>);

impl Kept {
    fn keep(&mut self, fd: &impl AsFd) -> io::Result<RawFd> {
        let copy = rustix::io::fcntl_dupfd_cloexec(fd, PLAN_FD + 1)?;
        let number = copy.as_raw_fd();
        self.0.push(copy);
        Ok(number)
    }

    /// Hands over what is kept, the plan under its own number, and nothing else: not what this process inherited either.
    fn inherit(self, command: &mut Command, plan: RawFd) {
        let hand_over = move || {
            let check =
                |result: libc::c_long| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
            // SAFETY: system calls on plain numbers; what was at the plan's number was not meant for the guest process.
            unsafe {
                let first = PLAN_FD as libc::c_uint;
                check(libc::syscall(
                    libc::SYS_close_range,
                    first,
                    libc::c_uint::MAX,
                    libc::CLOSE_RANGE_CLOEXEC,
                ))?;
                check(libc::dup2(plan, PLAN_FD).into())?;
                for fd in self.0.iter().filter(|fd| fd.as_raw_fd() != plan) {
                    check(libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, 0).into())?;
                }
                // A killed `wisp run` leaves no guest behind.
                check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL).into())
            }
        };
        // SAFETY: what runs between fork and exec is system calls alone.
        unsafe { command.pre_exec(hand_over) };
    }
}

/// The plan in a sealed memfd.
fn written(plan: &Plan) -> Result<File> {
    let mut file = File::from(memfd_create("wisp-plan", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    file.write_all(&serde_json::to_vec(plan)?)?;
    file.rewind()?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file)
}

/// What the guest process says once it has loaded its program.
fn report(mut pipe: File) -> Result<()> {
    let mut text = Vec::new();
    pipe.read_to_end(&mut text)?;
    if text.is_empty() {
        return Err(anyhow!("the guest process ended before its program was loaded"));
    }
    match serde_json::from_slice(&text).context("the guest process's report")? {
        Report::Ready => Ok(()),
        Report::Failed(why) => Err(anyhow!(why)),
    }
}

/// Takes signals out of their usual way, from before there is a child, so that none is lost. The guest process unblocks them.
fn block() -> nix::Result<SigSet> {
    let waited: SigSet = FORWARDED.into_iter().chain([Signal::SIGCHLD]).collect();
    waited.thread_block()?;
    Ok(waited)
}

/// Passes signals on until the guest has ended. A Ctrl-C reaches it twice, from the terminal and from here, which is once.
fn follow(child: &mut Child, waited: &SigSet) -> io::Result<ExitStatus> {
    let pid = Pid::from_raw(child.id().cast_signed());
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        match waited.wait()? {
            Signal::SIGCHLD => {}
            signal => kill(pid, signal)?,
        }
    }
}

/// An end as a shell tells it.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    u8::try_from(code).unwrap_or(u8::MAX)
}
