//! Driving an OCI runtime through its command line, as containerd's runc shim drives runc.
//!
//! Every verb is one process, waited for through the [`Reaper`]. What it prints goes to a memory file, so that
//! nothing has to be read while it runs; what went wrong is the last error in its JSON log.

mod choice;
mod control;
mod log;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use tokio::sync::Notify;
use tracing::{debug, warn};

pub(crate) use self::choice::Chooser;
use crate::bundle::RuntimeRecord;
use crate::cgroup::Cgroup;
use crate::error::{Context, Error, Result};
use crate::reaper::{ExitOf, Reaper};

/// The most that is read of what a runtime prints.
const MAX_OUTPUT: usize = 1 << 20;

/// The binary of an OCI runtime.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// Where it was found.
    path: PathBuf,
    /// An open descriptor of it, which is executed in place of the path: a shim and its runtime stay of one version while
    /// the node is upgraded.
    held: Option<Arc<OwnedFd>>,
}

impl Program {
    fn at(path: PathBuf) -> Self {
        Self { path, held: None }
    }

    fn command(&self) -> Command {
        match &self.held {
            None => Command::new(&self.path),
            Some(fd) => {
                let mut command = Command::new(format!("/proc/self/fd/{}", fd.as_raw_fd()));
                command.arg0(&self.path);
                command
            }
        }
    }

    fn name(&self) -> String {
        self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned()
    }
}

/// The OCI runtime of one container.
#[derive(Debug, Clone)]
pub(crate) struct Runtime {
    program: Program,
    root: PathBuf,
    log: PathBuf,
    systemd_cgroup: bool,
    /// Whether it is `wisp-runtime`, whose containers are guest processes, which have a control socket.
    guests: bool,
    reaper: Reaper,
}

/// Where the three standard descriptors of a container's process lead.
#[derive(Debug)]
pub(crate) struct ProcessStdio {
    /// Descriptor 0.
    pub stdin: Stdio,
    /// Descriptor 1.
    pub stdout: Stdio,
    /// Descriptor 2.
    pub stderr: Stdio,
}

/// How a process of a container is made.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    /// The file in which the runtime leaves the process id.
    pub pid_file: &'a Path,
    /// A process on a terminal: the socket on which the runtime hands over its master.
    pub console_socket: Option<&'a Path>,
    /// The process's stdio; none for a process on a terminal.
    pub stdio: Option<ProcessStdio>,
    /// Options of [`Runtime::create`] only, as flags of its command line.
    pub flags: Vec<&'static str>,
    /// Told when nobody waits for the process any more: the runtime, which may be compiling, is then ended.
    pub abandoned: Option<&'a Notify>,
}

impl Runtime {
    /// What `delete` needs to know of it.
    pub(crate) fn record(&self) -> RuntimeRecord {
        RuntimeRecord {
            program: self.program.path.clone(),
            root: self.root.clone(),
            systemd_cgroup: self.systemd_cgroup,
        }
    }

    /// Makes a container, whose process waits to be started.
    ///
    /// # Errors
    /// The runtime's own sentence. So it is for every verb.
    pub(crate) async fn create(&self, id: &str, bundle: &Path, launch: Launch<'_>) -> Result<()> {
        let args = ["create".into(), "--bundle".into(), bundle.into()];
        self.launch("create", args.into(), id, launch).await
    }

    /// Runs another process in a container. `process` is a file with the OCI process.
    pub(crate) async fn exec(&self, id: &str, process: &Path, launch: Launch<'_>) -> Result<()> {
        let args = ["exec".into(), "--process".into(), process.into(), "--detach".into()];
        self.launch("exec", args.into(), id, launch).await
    }

    async fn launch(&self, verb: &str, mut args: Vec<OsString>, id: &str, launch: Launch<'_>) -> Result<()> {
        args.extend(["--pid-file".into(), launch.pid_file.into()]);
        if let Some(socket) = launch.console_socket {
            args.extend(["--console-socket".into(), socket.into()]);
        }
        args.extend(launch.flags.iter().map(OsString::from));
        args.push(id.into());
        self.run(verb, args, launch.stdio, launch.abandoned).await
    }

    /// Starts the process of a container that was made. A guest process is asked without a command in between, unless there
    /// are hooks to run; where it does not answer, the command says why.
    pub(crate) async fn start(&self, id: &str, hooks: bool) -> Result<()> {
        if self.guests && !hooks {
            match control::start(&self.root.join(id)).await {
                Ok(()) => return Ok(()),
                Err(error) => debug!(id, %error, "a guest process was not started by its control socket"),
            }
        }
        self.run("start", vec!["start".into(), id.into()], None, None).await
    }

    /// Sends a signal to a container's first process, or to all of its processes.
    pub(crate) async fn kill(&self, id: &str, signal: u32, all: bool) -> Result<()> {
        let mut args: Vec<OsString> = vec!["kill".into()];
        if all {
            args.push("--all".into());
        }
        args.extend([id.into(), signal.to_string().into()]);
        self.run("kill", args, None, None).await
    }

    /// Deletes what the runtime has of a container; with `force` also if it runs.
    pub(crate) async fn delete(&self, id: &str, force: bool) -> Result<()> {
        let mut args: Vec<OsString> = vec!["delete".into()];
        if force {
            args.push("--force".into());
        }
        args.push(id.into());
        self.run("delete", args, None, None).await
    }

    /// Removes what the runtime has of a guest process that has ended: its control group and its folder. It is what `delete` does
    /// for one without hooks, but no command is run, which costs more than all that it does.
    ///
    /// # Errors
    /// It is for [`Runtime::delete`]: the container is not a guest process, or something is in the way. A part may be gone.
    pub(crate) fn clear(&self, id: &str, cgroup: &Cgroup) -> io::Result<()> {
        if !self.guests || self.systemd_cgroup {
            return Err(io::ErrorKind::Unsupported.into());
        }
        cgroup.remove()?;
        fs::remove_dir_all(self.root.join(id))
    }

    /// Whether its containers' control groups are systemd's, which removes one as soon as it is empty.
    pub(crate) fn has_systemd_cgroups(&self) -> bool {
        self.systemd_cgroup
    }

    /// Freezes a container.
    pub(crate) async fn pause(&self, id: &str) -> Result<()> {
        self.run("pause", vec!["pause".into(), id.into()], None, None).await
    }

    /// Thaws a container.
    pub(crate) async fn resume(&self, id: &str) -> Result<()> {
        self.run("resume", vec!["resume".into(), id.into()], None, None).await
    }

    /// Changes a container's limits; `resources` is the JSON of OCI's `LinuxResources`.
    pub(crate) async fn update(&self, id: &str, resources: &[u8]) -> Result<()> {
        let input = memory_file_with(resources).context(|| "keeping the resources".to_owned())?;
        let stdio = ProcessStdio { stdin: input.into(), stdout: Stdio::null(), stderr: Stdio::null() };
        self.run(
            "update",
            vec!["update".into(), "--resources".into(), "-".into(), id.into()],
            Some(stdio),
            None,
        )
        .await
    }

    /// Runs one command. Without `stdio` it reads nothing, and what it prints is kept for the error.
    async fn run(
        &self,
        verb: &str,
        args: Vec<OsString>,
        stdio: Option<ProcessStdio>,
        abandoned: Option<&Notify>,
    ) -> Result<()> {
        let log = log::Tail::of(&self.log);
        let output = memory_file().context(|| "making a file for the runtime's output".to_owned())?;
        let mut command = self.command(args);
        match stdio {
            Some(stdio) => command.stdin(stdio.stdin).stdout(stdio.stdout).stderr(stdio.stderr),
            None => {
                let again =
                    output.try_clone().context(|| "making a file for the runtime's output".to_owned())?;
                let once_more =
                    again.try_clone().context(|| "making a file for the runtime's output".to_owned())?;
                command.stdin(Stdio::null()).stdout(again).stderr(once_more)
            }
        };
        let failed = |why: String| Error::unknown(format!("OCI runtime {verb} failed: {why}"));
        let spawned = self.reaper.spawn(&mut command);
        // The container's own ends of its stdio are closed here, so that their readers see the end when it ends.
        drop(command);
        let (pid, exit) =
            spawned.map_err(|error| failed(format!("{}: {error}", self.program.path.display())))?;
        let status = wait(pid, exit, abandoned).await;
        let log = log.read();
        for warning in &log.warnings {
            warn!("{} {verb}: {warning}", self.program.name());
        }
        if status == 0 {
            return Ok(());
        }
        Err(failed(log.error.or_else(|| printed(&output)).unwrap_or_else(|| {
            format!("{} ended with status {status} and said nothing", self.program.name())
        })))
    }

    fn command(&self, args: Vec<OsString>) -> Command {
        let mut command = self.program.command();
        command.arg("--root").arg(&self.root).arg("--log").arg(&self.log).args(["--log-format", "json"]);
        if self.systemd_cgroup {
            command.arg("--systemd-cgroup");
        }
        self.die_with_shim(&mut command);
        // It would make runc wait for systemd's readiness protocol.
        command.args(args).env_remove("NOTIFY_SOCKET");
        command
    }

    /// A command that outlived a killed shim would go on making a container that `delete` has cleaned up.
    fn die_with_shim(&self, command: &mut Command) {
        if self.guests {
            // Without a closure before the exec the standard library needs no fork, which copies the shim's page tables.
            command.arg("--die-with-parent").arg(std::process::id().to_string());
            return;
        }
        // SAFETY: between fork and exec the closure makes one system call, and allocates nothing.
        unsafe {
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
        }
    }
}

/// Waits for a command, and ends it if it is abandoned; its status.
pub(crate) async fn wait(pid: i32, exit: ExitOf, abandoned: Option<&Notify>) -> u32 {
    let mut exit = pin!(exit.wait());
    let Some(abandoned) = abandoned else { return exit.await.status };
    tokio::select! {
        exit = &mut exit => return exit.status,
        () = abandoned.notified() => {}
    }
    if let Some(pid) = Pid::from_raw(pid) {
        // It has not been waited for, so the pid is still its own; it may have ended by itself.
        let _ = kill_process(pid, Signal::KILL);
    }
    exit.await.status
}

/// A file in memory, for what a command prints.
pub(crate) fn memory_file() -> io::Result<File> {
    Ok(memfd_create("wisp-output", MemfdFlags::CLOEXEC)?.into())
}

fn memory_file_with(bytes: &[u8]) -> io::Result<File> {
    let mut file = memory_file()?;
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

/// What a command printed, if anything.
pub(crate) fn printed(output: &File) -> Option<String> {
    let len = usize::try_from(output.metadata().ok()?.len()).unwrap_or(MAX_OUTPUT).min(MAX_OUTPUT);
    let mut bytes = vec![0; len];
    output.read_exact_at(&mut bytes, 0).ok()?;
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    (!text.is_empty()).then_some(text)
}
