//! One container of a pod: its description, and what runs.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::bed::{GUESTS, LIMIT, eventually};
use crate::cri::api::{
    ContainerConfig, ContainerMetadata, ContainerState, ContainerStatus, ExecSyncResponse, ImageSpec,
    KeyValue, LinuxContainerConfig, LinuxContainerResources, LinuxContainerSecurityContext, Mount,
};
use crate::cri::logs::{self, Line};
use crate::cri::pod::Pod;
use crate::{leaks, task};

/// A container that is to be made.
#[derive(Debug, Clone)]
pub struct ContainerSpec<'p, 'n> {
    pod: &'p Pod<'n>,
    /// What CRI is asked for.
    pub config: ContainerConfig,
}

impl<'p, 'n> ContainerSpec<'p, 'n> {
    pub(super) fn new(pod: &'p Pod<'n>, args: &[&str]) -> Self {
        let name = pod.node.bed.id("c");
        // Where runc stands in for Wisp, the native build of the same program does.
        let stand_in = |arg: &&str| task::without_wisp() && arg.starts_with("/rust-");
        let args = args.iter().map(|arg| if stand_in(arg) { "/native" } else { arg });
        let linux = pod.config.linux.clone().unwrap_or_default();
        let security = LinuxContainerSecurityContext {
            // A kubelet says the pod's again for each container.
            namespace_options: linux.security_context.unwrap_or_default().namespace_options,
            ..Default::default()
        };
        let config = ContainerConfig {
            log_path: format!("{name}.log"),
            metadata: Some(ContainerMetadata { name, attempt: 0 }),
            image: Some(ImageSpec { image: GUESTS.into(), ..Default::default() }),
            command: args.map(str::to_owned).collect(),
            linux: Some(LinuxContainerConfig { security_context: Some(security), ..Default::default() }),
            ..Default::default()
        };
        Self { pod, config }
    }

    /// Changes what CRI is asked for.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut ContainerConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// Runs another image.
    #[must_use]
    pub fn image(self, name: &str) -> Self {
        let image = ImageSpec { image: name.to_owned(), ..Default::default() };
        self.with(|config| config.image = Some(image))
    }

    /// Adds a variable.
    #[must_use]
    pub fn env(self, key: &str, value: &str) -> Self {
        let variable = KeyValue { key: key.to_owned(), value: value.to_owned() };
        self.with(|config| config.envs.push(variable))
    }

    /// Changes who it runs as and what it may do.
    #[must_use]
    pub fn security(mut self, change: impl FnOnce(&mut LinuxContainerSecurityContext)) -> Self {
        let linux = self.config.linux.get_or_insert_default();
        change(linux.security_context.get_or_insert_default());
        self
    }

    /// Changes its limits.
    #[must_use]
    pub fn resources(mut self, change: impl FnOnce(&mut LinuxContainerResources)) -> Self {
        change(self.config.linux.get_or_insert_default().resources.get_or_insert_default());
        self
    }

    /// Limits its memory, in mebibytes.
    #[must_use]
    pub fn memory(self, mebibytes: i64) -> Self {
        self.resources(|resources| resources.memory_limit_in_bytes = mebibytes << 20)
    }

    /// Mounts a file or folder of this machine.
    #[must_use]
    pub fn mount(self, source: &std::path::Path, destination: &str, readonly: bool) -> Self {
        let mount = Mount {
            host_path: source.display().to_string(),
            container_path: destination.to_owned(),
            readonly,
            ..Default::default()
        };
        self.with(|config| config.mounts.push(mount))
    }

    /// Makes it, and does not start it.
    ///
    /// # Errors
    /// What CRI said.
    pub fn create(self) -> Result<Running<'p, 'n>> {
        let log = self.pod.logs().join(&self.config.log_path);
        let cri = &self.pod.node.cri;
        let id = cri
            .create(&self.pod.id, self.config, self.pod.config.clone())
            .map_err(|status| anyhow::anyhow!("making a container: {}", status.message()))?;
        Ok(Running { pod: self.pod, id, log })
    }

    /// Makes it and starts it.
    ///
    /// # Errors
    /// What CRI said.
    pub fn start(self) -> Result<Running<'p, 'n>> {
        let container = self.create()?;
        container.start()?;
        Ok(container)
    }

    /// Makes it, starts it and waits for its end.
    ///
    /// # Errors
    /// What CRI said, or where it does not end.
    pub fn run(self) -> Result<Ended> {
        self.start()?.ended()
    }

    /// Requires that it does not start; the sentence that a kubelet shows.
    ///
    /// # Errors
    /// Where it starts all the same.
    pub fn refused(self) -> Result<String> {
        match self.start() {
            Ok(_) => bail!("the container was not refused"),
            Err(error) => Ok(format!("{error:#}")),
        }
    }
}

/// A container that was made.
#[derive(Debug)]
pub struct Running<'p, 'n> {
    /// Where it is.
    pub pod: &'p Pod<'n>,
    /// Its id.
    pub id: String,
    log: PathBuf,
}

impl Running<'_, '_> {
    /// Starts it.
    ///
    /// # Errors
    /// What CRI said.
    pub fn start(&self) -> Result<()> {
        let answer = self.pod.node.cri.start(&self.id);
        answer.map_err(|status| anyhow::anyhow!("starting a container: {}", status.message()))
    }

    /// How it is.
    ///
    /// # Errors
    /// What CRI said.
    pub fn status(&self) -> Result<ContainerStatus> {
        self.pod.node.cri.container_status(&self.id, false)?.status.context("a status without a status")
    }

    /// Its process on the machine.
    ///
    /// # Errors
    /// Where containerd does not say it.
    pub fn pid(&self) -> Result<u32> {
        let info = self.pod.node.cri.container_status(&self.id, true)?.info;
        let info: Value = serde_json::from_str(info.get("info").context("no info")?)?;
        let pid = info["pid"].as_u64().filter(|&pid| pid > 0).context("no pid in the container's status")?;
        Ok(u32::try_from(pid)?)
    }

    /// Waits until it has printed `text`.
    ///
    /// # Errors
    /// Where it does not, with what it printed.
    pub fn until(&self, text: &str) -> Result<()> {
        eventually("", LIMIT, || {
            if self.printed()?.contains(text) {
                return Ok(Some(()));
            }
            let status = self.status()?;
            let ended = status.state() == ContainerState::ContainerExited;
            // What it printed last may have come in between.
            ensure!(!ended || self.printed()?.contains(text), "it ended: {status:?}");
            Ok(None)
        })
        .with_context(|| {
            format!("{} did not print {text:?}: {:?}\n{}", self.id, self.printed(), self.logged())
        })
    }

    /// What it printed so far, on both streams.
    ///
    /// # Errors
    /// Where its log is not in CRI's format.
    pub fn printed(&self) -> Result<String> {
        Ok(logs::text(&self.lines()?, None))
    }

    /// Its log.
    ///
    /// # Errors
    /// Where it is not in CRI's format.
    pub fn lines(&self) -> Result<Vec<Line>> {
        logs::read(&self.log)
    }

    /// Where its log is.
    #[must_use]
    pub fn log(&self) -> &std::path::Path {
        &self.log
    }

    fn logged(&self) -> String {
        self.pod.node.bed.log_tail(&self.id)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Where it does not end in time.
    pub fn ended(&self) -> Result<Ended> {
        let status = eventually("its end", LIMIT, || {
            let status = self.status()?;
            Ok((status.state() == ContainerState::ContainerExited).then_some(status))
        })
        .with_context(|| format!("{}: {:?}\n{}", self.id, self.printed(), self.logged()))?;
        Ok(Ended { status, lines: self.lines()?, logged: self.logged() })
    }

    /// Stops it as a kubelet does; how long that took.
    ///
    /// # Errors
    /// What CRI said.
    pub fn stop(&self, grace: i64) -> Result<Duration> {
        let before = Instant::now();
        self.pod.node.cri.stop(&self.id, grace).context("stopping a container")?;
        Ok(before.elapsed())
    }

    /// Removes it.
    ///
    /// # Errors
    /// What CRI said.
    pub fn remove(&self) -> Result<()> {
        self.pod.node.cri.remove(&self.id).context("removing a container")
    }

    /// Runs a program in it to its end.
    ///
    /// # Errors
    /// What CRI said; that the program fails is an answer.
    pub fn exec(&self, command: &[&str]) -> Result<ExecSyncResponse> {
        self.pod.node.cri.exec_sync(&self.id, command, 30).with_context(|| format!("{command:?}"))
    }

    /// What a program that must succeed prints in it.
    ///
    /// # Errors
    /// What it said, where it does not.
    pub fn says(&self, command: &[&str]) -> Result<String> {
        let done = self.exec(command)?;
        let (stdout, stderr) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        ensure!(done.exit_code == 0, "{command:?}: exit code {}: {stderr}{stdout}", done.exit_code);
        Ok(stdout.into_owned())
    }

    /// A file of its control group on hierarchy `controller`, or of the one hierarchy of version 2.
    ///
    /// # Errors
    /// Where it does not run, or there is no such hierarchy.
    pub fn cgroup_file(&self, controller: &str, name: &str) -> Result<String> {
        let path = leaks::group_of(self.pid()?, controller)?.join(name);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    }
}

/// How a container ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// What CRI says of it.
    pub status: ContainerStatus,
    /// Its whole log.
    pub lines: Vec<Line>,
    logged: String,
}

impl Ended {
    /// Requires an exit code and a reason: `Completed`, `Error`, `OOMKilled`, `StartError`…
    ///
    /// # Errors
    /// All that is known, where it is another.
    pub fn code(self, code: i32, reason: &str) -> Result<Self> {
        ensure!(
            self.status.exit_code == code && self.status.reason == reason,
            "exit code {}, {}, and not {code}, {reason}\n{}",
            self.status.exit_code,
            self.status.reason,
            self.all()
        );
        Ok(self)
    }

    /// Requires the whole standard output.
    ///
    /// # Errors
    /// All that is known, where it is another.
    pub fn stdout(self, wanted: &str) -> Result<Self> {
        ensure!(
            logs::text(&self.lines, Some("stdout")) == wanted,
            "stdout is not {wanted:?}\n{}",
            self.all()
        );
        Ok(self)
    }

    /// Requires a text in standard error.
    ///
    /// # Errors
    /// All that is known, where it is not there.
    pub fn stderr_has(self, wanted: &str) -> Result<Self> {
        let stderr = logs::text(&self.lines, Some("stderr"));
        ensure!(stderr.contains(wanted), "stderr does not say {wanted:?}\n{}", self.all());
        Ok(self)
    }

    /// All that it printed.
    #[must_use]
    pub fn printed(&self) -> String {
        logs::text(&self.lines, None)
    }

    fn all(&self) -> String {
        format!("{}\n{:?}\n{}", self.printed(), self.status, self.logged)
    }
}
