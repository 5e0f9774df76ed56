//! The end of every process that this runtime makes: limits, identity, filters, and one exec.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result};
use oci_spec::runtime::Process;
use rustix::fs::{
    CWD, MemfdFlags, Mode, OFlags, ResolveFlags, SealFlags, fcntl_add_seals, memfd_create, openat, openat2,
};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use seccompiler::BpfProgram;
use wisp_contract::plan::{PLAN_FD, Plan, Program as PlannedProgram};

use super::channel::{Child, Said};
use super::identity::{self, Program};
use super::lsm::Labels;
use super::mount_api::{PROC, kind_of_file_system};
use super::seccomp;
use super::view::View;
use crate::program::Guest;

/// Descriptors of the guest process are above the plan's.
const FIRST_FD: RawFd = PLAN_FD + 1;

/// What all processes need, prepared by the parent.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The container's id.
    pub id: &'a str,
    /// The process in the OCI spec's form.
    pub process: &'a Process,
    /// The filters of the spec's seccomp profile.
    filters: Vec<BpfProgram>,
}

/// What the process becomes.
pub enum Become<'a> {
    /// A guest process.
    Guest {
        /// The program.
        guest: &'a Guest,
        /// What the guest can open.
        view: View,
        /// What only a container's first process has.
        first: Option<First>,
    },
    /// A native program.
    Native {
        /// Its path in the container, found on its `PATH` already.
        path: &'a Path,
    },
}

/// What a container's first process has beside its program.
pub struct First {
    /// The control socket, listening.
    pub control: OwnedFd,
    /// The page of counters.
    pub counters: OwnedFd,
    /// Where a trap is told beside stderr ([`super::termination`]).
    pub termination_log: Option<OwnedFd>,
}

impl<'a> Launch<'a> {
    /// Prepares what can be prepared before the sandbox is entered.
    ///
    /// # Errors
    /// If the seccomp profile asks for what this runtime does not carry out.
    pub fn new(
        id: &'a str,
        process: &'a Process,
        profile: Option<&oci_spec::runtime::LinuxSeccomp>,
    ) -> Result<Self> {
        let filters = profile.map(seccomp::compile).transpose()?.unwrap_or_default();
        Ok(Self { id, process, filters })
    }

    /// Becomes the program; returns only if that failed.
    ///
    /// # Errors
    /// With the step that failed.
    pub fn exec(&self, mut labels: Labels, child: &Child, becoming: Become<'_>) -> Result<()> {
        let program = match becoming {
            Become::Guest { .. } => Program::Wasm,
            Become::Native { .. } => Program::Native,
        };
        // From here on only what is meant to be inherited is.
        close_on_exec()?;
        let image = match becoming {
            Become::Guest { guest, view, first } => self.guest(child, guest, view, first)?,
            Become::Native { path } => self.native(path)?,
        };
        identity::limit(self.process)?;
        if self.process.terminal().unwrap_or(false) {
            super::console::own_terminal(self.process.user().uid()).ok();
        }
        labels.apply()?;
        let no_new_privileges = self.process.no_new_privileges().unwrap_or(false);
        // Without no_new_privs a filter needs a privilege, which goes with the next step.
        if !no_new_privileges {
            self.filter()?;
        }
        identity::bound(self.process, program)?;
        identity::become_user(self.process, program)?;
        let cwd = self.process.cwd();
        rustix::process::chdir(cwd).with_context(|| format!("the working directory {}", cwd.display()))?;
        if no_new_privileges {
            rustix::thread::set_no_new_privs(true)?;
            self.filter()?;
        }
        image.exec()
    }

    fn filter(&self) -> Result<()> {
        for filter in &self.filters {
            seccompiler::apply_filter(filter).context("the seccomp profile cannot be applied")?;
        }
        Ok(())
    }

    fn guest(&self, child: &Child, guest: &Guest, view: View, first: Option<First>) -> Result<Image> {
        let mut preopens = view.preopens;
        for (preopen, descriptor) in preopens.iter_mut().zip(&view.descriptors) {
            preopen.fd = inherit(descriptor.as_fd())?;
        }
        child.say(&Said::View { tree: inherit(view.tree.as_fd())?, preopens: preopens.clone() })?;
        let first = first.as_ref();
        let inherited = |fd: Option<&OwnedFd>| fd.map(|fd| inherit(fd.as_fd())).transpose();
        let control_fd = inherited(first.map(|first| &first.control))?;
        let counters_fd = inherited(first.map(|first| &first.counters))?;
        let termination_log = inherited(first.and_then(|first| first.termination_log.as_ref()))?;
        let plan = Plan {
            id: self.id.to_owned(),
            program: PlannedProgram {
                path: guest.path.clone(),
                code_fd: inherit(guest.code.as_fd())?,
                facts: guest.facts.clone(),
            },
            entry: guest.entry.clone(),
            args: self.process.args().clone().unwrap_or_default(),
            env: self.process.env().clone().unwrap_or_default(),
            cwd: self.process.cwd().display().to_string(),
            preopens,
            memory_limit: guest.memory_limit,
            cpus: guest.cpus,
            http: guest.http.clone(),
            control_fd,
            counters_fd,
            proc_fd: Some(inherit(proc_fs()?.as_fd())?),
            termination_log,
            report_fd: inherit(child.report.as_fd())?,
            wait_for_start: first.is_some(),
        };
        place(&plan)?;
        let arguments = plan.args.iter().map(text).collect::<Result<Vec<_>>>()?;
        Ok(Image {
            file: guest.binary.file.as_raw_fd(),
            path: CString::default(),
            arguments,
            environment: Vec::new(),
        })
    }

    fn native(&self, path: &Path) -> Result<Image> {
        let arguments = self.process.args().iter().flatten().map(text);
        let environment = self.process.env().iter().flatten().map(text);
        Ok(Image {
            file: libc::AT_FDCWD,
            path: text(path)?,
            arguments: arguments.collect::<Result<_>>()?,
            environment: environment.collect::<Result<_>>()?,
        })
    }
}

/// A program with its arguments, ready for exec.
struct Image {
    /// Open on the program, with an empty path; or where a path begins.
    file: RawFd,
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Image {
    fn exec(&self) -> Result<()> {
        let pointers = |texts: &[CString]| -> Vec<_> {
            texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
        };
        let (arguments, environment) = (pointers(&self.arguments), pointers(&self.environment));
        // SAFETY: both lists end with a null pointer and their strings live in `self`, as the path does.
        unsafe {
            libc::syscall(
                libc::SYS_execveat,
                self.file,
                self.path.as_ptr(),
                arguments.as_ptr(),
                environment.as_ptr(),
                libc::AT_EMPTY_PATH,
            )
        };
        let name = self.arguments.first().map(|name| name.to_string_lossy()).unwrap_or_default();
        Err(io::Error::last_os_error()).with_context(|| format!("exec {name:?}"))
    }
}

/// A proc file system in which this process finds itself: the container's own, or where it has none, one that is mounted nowhere.
/// To close that one takes the guest process a grace period of RCU.
fn proc_fs() -> Result<OwnedFd> {
    if let Ok(Some(mounted)) = mounted_proc() {
        return Ok(mounted);
    }
    let make = || -> rustix::io::Result<OwnedFd> {
        let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&context)?;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)
    };
    make().context("a proc file system for loading the program")
}

/// The container's /proc, unless it is something else, or something is mounted over where this process has its descriptors.
fn mounted_proc() -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let proc = openat(CWD, "/proc", flags, Mode::empty())?;
    if kind_of_file_system(&proc)? != PROC {
        return Ok(None);
    }
    openat2(&proc, "self/fd", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::NO_XDEV)?;
    Ok(Some(proc))
}

/// Puts the plan where the guest process looks for it.
fn place(plan: &Plan) -> Result<()> {
    let mut file = File::from(memfd_create("wisp-plan", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    file.write_all(&serde_json::to_vec(plan)?)?;
    file.rewind()?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    // SAFETY: dup2 of an open descriptor; whatever was at the plan's number was not meant to be inherited.
    match unsafe { libc::dup2(file.as_raw_fd(), PLAN_FD) } {
        -1 => Err(io::Error::last_os_error()).context("the plan"),
        _ => Ok(()),
    }
}

/// A copy of a descriptor that survives the exec.
fn inherit(fd: BorrowedFd<'_>) -> io::Result<RawFd> {
    // SAFETY: F_DUPFD takes an open descriptor and a number.
    match unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD, FIRST_FD) } {
        -1 => Err(io::Error::last_os_error()),
        copy => Ok(copy),
    }
}

/// Marks every descriptor but stdio close-on-exec, those that this process inherited itself too.
fn close_on_exec() -> io::Result<()> {
    // SAFETY: close_range(2) only sets flags here.
    match unsafe {
        libc::syscall(libc::SYS_close_range, PLAN_FD, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn text(text: impl AsRef<OsStr>) -> Result<CString> {
    CString::new(text.as_ref().as_bytes()).context("arguments and variables hold no zero bytes")
}
