//! `create`: from a bundle to a process that waits for `start`.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};
use oci_spec::runtime::Spec;
use tracing::warn;
use wisp_cgroup::{Cgroup, Entry};
use wisp_contract::facts::Kind;
use wisp_contract::{control, counters};

use crate::args;
use crate::bundle::Bundle;
use crate::entrypoint::Program;
use crate::hooks::{self, Moment};
use crate::process;
use crate::program::Guest;
use crate::sandbox::channel::{self, Parent, Said};
use crate::sandbox::init::Init;
use crate::sandbox::launch::Launch;
use crate::sandbox::namespaces::Namespaces;
use crate::sandbox::{clone, console};
use crate::state::{self, Claim, Container, Record, Status};

/// Creates a container.
pub(super) fn run(root: &Path, args: &args::Create) -> Result<Container> {
    let bundle = Bundle::open(&args.bundle)?;
    let claim = Claim::new(root, &args.id)?;
    let guest = guest(&bundle)?;
    let process = bundle.process()?;
    let console = terminal(process.terminal().unwrap_or(false), args.console_socket.as_deref())?;
    let linux = bundle.spec.linux().as_ref();
    let launch = Launch::new(&args.id, process, linux.and_then(|linux| linux.seccomp().as_ref()))?;
    let namespaces = Namespaces::open(&bundle.spec)?;
    let mut record = record(&args.id, &bundle, guest.facts.kind);
    let (parent, child) = channel::pair()?;
    let (control, counters) = doors(&claim.dir)?;
    let cgroup = state::cgroup(&args.id, &bundle.spec)?;
    cgroup.check_unused()?;
    // Noted before there is anything, so that `delete` finds all of it should this command be cut off.
    claim.note(&record, &bundle.spec)?;
    // To make it takes half as long as the process takes for its mounts, and the process can do without it for these.
    let cgroup_is_late = cgroup.is_entered_later() && !namespaces.new_cgroup;
    let mut making = Making { cgroup, cgroup_is_late, pid: None, kept: false };
    let entry = if cgroup_is_late { Entry::Itself } else { making.make_cgroup(&bundle.spec)? };
    let pid = {
        let _pid_namespace = PidNamespace::enter(namespaces.pid.as_ref())?;
        let unclaimed = Container { dir: claim.dir.clone(), record: record.clone() };
        let state = unclaimed.state(Status::Created);
        let console = console.map(console::connect).transpose()?;
        match clone(namespaces.new, Some(&entry)).context("the container's process cannot be made")? {
            None => {
                let _exit = ExitChild;
                drop(parent);
                let init = Init {
                    bundle: &bundle,
                    guest: &guest,
                    launch,
                    namespaces: &namespaces,
                    cgroup: (&making.cgroup, &entry),
                    cgroup_is_late,
                    console,
                    control,
                    counters,
                    state,
                };
                if let Err(error) = init.run(&child) {
                    child.fail(&error);
                }
                return Err(anyhow::anyhow!("the child ends here"));
            }
            Some(pid) => pid,
        }
    };
    drop((child, control, counters));
    making.pid = Some(pid);
    record.pid = pid;
    making.raise(parent, &entry, &bundle.spec, &claim, &mut record)?;
    super::write_pid_file(args.pid_file.as_deref(), pid)?;
    let container = claim.keep(record)?;
    making.kept = true;
    Ok(container)
}

/// A container's process and cgroup while it is made; undone unless it is kept.
struct Making {
    cgroup: Cgroup,
    cgroup_is_late: bool,
    pid: Option<i32>,
    kept: bool,
}

impl Making {
    /// Follows the child until it is a guest process that waits.
    fn raise(
        &self,
        parent: Parent,
        entry: &Entry,
        spec: &Spec,
        claim: &Claim,
        record: &mut Record,
    ) -> Result<()> {
        let pid = record.pid;
        record.pid_start = process::stat(pid).context("the container's process ended at once")?.start;
        let made = claim.update(record)?;
        if self.cgroup_is_late {
            self.make_cgroup(spec)?;
        }
        if matches!(entry, Entry::Moved) {
            self.cgroup.adopt(pid)?;
            self.limit(spec)?;
            parent.go()?;
        }
        score(pid, spec);
        parent.go()?;
        while let Some(said) = parent.hear()? {
            match said {
                Said::Mounted => {
                    for moment in [Moment::Prestart, Moment::CreateRuntime] {
                        hooks::run(spec, moment, &made.state(Status::Created))?;
                    }
                    parent.go()?;
                }
                Said::View { tree, preopens } => (record.tree, record.preopens) = (tree, preopens),
            }
        }
        parent.ended_well(true)
    }

    /// Makes the cgroup with its limits, unless systemd is to make it around the process.
    fn make_cgroup(&self, spec: &Spec) -> Result<Entry> {
        let entry = self.cgroup.make()?;
        if !matches!(entry, Entry::Moved) {
            self.limit(spec)?;
        }
        Ok(entry)
    }

    /// Sets the limits and device rules. No process may be in the group that makes device nodes meanwhile: rules of version 1
    /// are in force one by one.
    fn limit(&self, spec: &Spec) -> Result<()> {
        let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
        if let Some(resources) = resources {
            self.cgroup.apply(resources)?;
        }
        let devices = resources.and_then(|resources| resources.devices().as_deref()).unwrap_or_default();
        Ok(self.cgroup.hold_devices(devices)?)
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if let Some(pid) = self.pid {
            process::kill(pid, libc::SIGKILL).ok();
            super::wait(pid).ok();
        }
        if let Err(error) = self.cgroup.remove() {
            warn!("the cgroup of a container that was not created stays: {error:#}");
        }
    }
}

fn guest(bundle: &Bundle) -> Result<Guest> {
    match bundle.program()? {
        Program::Wasm(wasm) => Guest::prepare(wasm, &bundle.spec),
        Program::Native(path) => bail!(
            "the entrypoint {} is a native program, and this runtime's containers run Wasm; give the container to runc",
            path.display()
        ),
    }
}

/// Where the terminal is to go, by what the spec and the flags say together, as runc has it.
fn terminal(wanted: bool, socket: Option<&Path>) -> Result<Option<&Path>> {
    ensure!(
        !wanted || socket.is_some(),
        "cannot allocate tty if the runtime will detach without setting console socket"
    );
    ensure!(wanted || socket.is_none(), "cannot use console socket if the runtime will not allocate tty");
    Ok(socket)
}

fn record(id: &str, bundle: &Bundle, kind: Kind) -> Record {
    Record {
        id: id.to_owned(),
        pid: 0,
        pid_start: 0,
        bundle: bundle.dir.clone(),
        rootfs: bundle.rootfs.clone(),
        created: state::now(),
        started: false,
        kind: Some(kind),
        annotations: bundle.spec.annotations().clone().unwrap_or_default(),
        preopens: Vec::new(),
        tree: 0,
    }
}

/// The control socket and the page of counters in the container's folder.
fn doors(dir: &Path) -> Result<(UnixListener, OwnedFd)> {
    let folder = File::open(dir)?;
    let listener =
        UnixListener::bind(state::short(&folder).join(control::SOCKET)).context("the control socket")?;
    let page = File::options().read(true).write(true).create_new(true).open(dir.join(counters::FILE))?;
    page.set_len(counters::PAGE as u64)?;
    Ok((listener, page.into()))
}

/// Sets what the kernel's OOM killer thinks of the process. A node whose root may not lower it is served all the same.
fn score(pid: i32, spec: &Spec) {
    let Some(score) = spec.process().as_ref().and_then(|process| process.oom_score_adj()) else { return };
    if let Err(error) = fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string()) {
        warn!("oom_score_adj stays as it is, {score} cannot be set: {error}");
    }
}

/// Children are made in another pid namespace while this lives.
struct PidNamespace(Option<File>);

impl PidNamespace {
    fn enter(namespace: Option<&OwnedFd>) -> Result<Self> {
        let Some(namespace) = namespace else { return Ok(Self(None)) };
        let own = File::open("/proc/self/ns/pid").context("this process's own pid namespace")?;
        setns(namespace, CloneFlags::CLONE_NEWPID).context("the pid namespace cannot be joined")?;
        Ok(Self(Some(own)))
    }
}

impl Drop for PidNamespace {
    fn drop(&mut self) {
        if let Some(own) = &self.0 {
            setns(own, CloneFlags::CLONE_NEWPID).ok();
        }
    }
}

/// Ends the child whatever way it leaves: it must not go on as if it were the command.
pub(super) struct ExitChild;

impl Drop for ExitChild {
    fn drop(&mut self) {
        // SAFETY: _exit(2) ends the process without running what belongs to the parent.
        unsafe { libc::_exit(1) }
    }
}
