//! The processes of a cluster, each with a log, by their names.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bed::lock;
use crate::process;

/// How long a server may take to end.
const TO_END: Duration = Duration::from_secs(60);
/// `GOGC` of a cluster's servers: there is memory enough, and collecting garbage as often as by default takes from the processors
/// that the cases wait for.
pub(crate) const GARBAGE: &str = "400";

/// Servers that run.
#[derive(Debug)]
pub struct Servers {
    mark: String,
    logs: PathBuf,
    running: Mutex<BTreeMap<String, Child>>,
}

impl Servers {
    /// None yet. `mark` is what [`crate::leaks`] knows their processes by; `logs` is the folder of their logs.
    ///
    /// # Errors
    /// Those of making the folder.
    pub fn new(mark: &str, logs: PathBuf) -> Result<Self> {
        fs::create_dir_all(&logs)?;
        Ok(Self { mark: mark.to_owned(), logs, running: Mutex::default() })
    }

    /// Starts one (again); its output is appended to its log.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn start(&self, name: &str, mut command: Command) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log_path(name))?;
        command.env("WISP_TESTS_BED", &self.mark).env("GOGC", GARBAGE);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = process::spawn_lasting(command).with_context(|| format!("starting {name}"))?;
        lock(&self.running).insert(name.to_owned(), child);
        Ok(())
    }

    /// Stops one with a signal and waits for its end.
    ///
    /// # Errors
    /// Where it does not run or does not end.
    pub fn stop(&self, name: &str, signal: Signal) -> Result<()> {
        // From now on it is not one that has ended by itself.
        let child = self.taken(name)?;
        kill(Pid::from_raw(child.id().cast_signed()), signal)?;
        ended(name, child, TO_END).with_context(|| format!("on {signal}"))
    }

    /// Starts one again that has ended though nobody stopped it, as systemd does.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn revive(&self, name: &str, command: impl FnOnce() -> Command) -> Result<()> {
        let has_ended = matches!(lock(&self.running).get_mut(name).map(Child::try_wait), Some(Ok(Some(_))));
        if has_ended { self.start(name, command()) } else { Ok(()) }
    }

    /// Waits for the end of one that was told to end, no longer than `limit`.
    ///
    /// # Errors
    /// Where it does not run or does not end; then it is killed.
    pub fn until_ended(&self, name: &str, limit: Duration) -> Result<()> {
        ended(name, self.taken(name)?, limit)
    }

    fn taken(&self, name: &str) -> Result<Child> {
        lock(&self.running).remove(name).with_context(|| format!("{name} is not running"))
    }

    /// Requires that one runs.
    ///
    /// # Errors
    /// The end of its log, where it has ended.
    pub fn require(&self, name: &str) -> Result<()> {
        match lock(&self.running).get_mut(name).map(Child::try_wait) {
            Some(Ok(None)) => Ok(()),
            _ => bail!("{name} has ended: {}", self.log_tail(name, 15)),
        }
    }

    /// The process id of one.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn pid(&self, name: &str) -> Result<u32> {
        lock(&self.running).get(name).map(Child::id).with_context(|| format!("{name} is not running"))
    }

    /// The folder of their logs.
    #[must_use]
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// The last lines of a log.
    #[must_use]
    pub fn log_tail(&self, name: &str, lines: usize) -> String {
        let log = fs::read_to_string(self.log_path(name)).unwrap_or_default();
        let all: Vec<_> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }

    /// Ends all of them, those that serve others last. Nothing that they keep is wanted any more, so that only those that have
    /// something of the machine's to give back are asked.
    pub fn end(&self) {
        // The kernel of User Mode Linux does not hear SIGTERM; its processes end with it.
        let _ = self.stop("linux", Signal::SIGKILL);
        let asked = ["kubelet", "kube-proxy", "kube-scheduler", "kube-controller-manager", "containerd"];
        for name in asked {
            // One that has ended already needs no end.
            let _ = self.stop(name, Signal::SIGTERM);
        }
        // The API server would wait a minute for those who watch, who are no more.
        let rest: Vec<_> = lock(&self.running).keys().cloned().collect();
        for name in rest {
            let _ = self.stop(&name, Signal::SIGKILL);
        }
    }
}

fn ended(name: &str, mut child: Child, limit: Duration) -> Result<()> {
    if process::wait(&mut child, limit)?.is_none() {
        child.kill()?;
        child.wait()?;
        bail!("{name} did not end");
    }
    Ok(())
}
