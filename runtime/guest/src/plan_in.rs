//! Taking the plan over from `wisp-runtime`.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, getrlimit, setrlimit};
use wisp_contract::plan::{PLAN_FD, Plan, Report};

/// The pipe on which this process says once whether it can run its program.
pub(crate) struct Reporter(File);

impl Reporter {
    /// Writes the report and closes the pipe.
    pub(crate) fn report(mut self, report: &Report) -> Result<()> {
        let message = serde_json::to_vec(report)?;
        self.0.write_all(&message).context("the report could not be written")
    }
}

/// Reads the plan from [`PLAN_FD`] and takes the report pipe that it names.
pub(crate) fn take() -> Result<(Plan, Reporter)> {
    let mut file = File::from(own(PLAN_FD).context(
        "there is no plan at descriptor 3; wisp-guest is started by wisp-runtime and not by hand",
    )?);
    file.rewind()?;
    let mut json = Vec::new();
    file.read_to_end(&mut json).context("the plan could not be read")?;
    let plan: Plan =
        serde_json::from_slice(&json).context("the plan is not one that this wisp-guest understands")?;
    let reporter = Reporter(own(plan.report_fd).context("the plan's report pipe")?.into());
    Ok((plan, reporter))
}

/// Takes over an inherited descriptor, and closes it on the way into another program.
pub(crate) fn own(fd: RawFd) -> Result<OwnedFd> {
    ensure!(fd > 2, "{fd} is not a descriptor that can be handed over");
    // SAFETY: only for the next two calls, which fail on a descriptor that is not open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let flags = rustix::io::fcntl_getfd(borrowed).with_context(|| format!("descriptor {fd}"))?;
    rustix::io::fcntl_setfd(borrowed, flags | rustix::io::FdFlags::CLOEXEC)?;
    // SAFETY: the descriptor is open, and by contract with `wisp-runtime` it is named once in the plan and is this
    // process's own.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A guest opens files and sockets up to the hard limit; the soft one is for programs that call `select(2)`.
pub(crate) fn raise_open_files_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Without it there are only fewer descriptors.
    let _ = setrlimit(Resource::Nofile, limit);
}
