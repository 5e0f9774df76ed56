//! Restarting containerd, and knowing that it is well afterwards. containerd reads its configuration only at its start; pods run on
//! under their shims meanwhile.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::node::containerd::Containerd;
use crate::node::run;

/// How this node's containerd is restarted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Restart {
    /// By systemd, as this unit.
    Unit(String),
    /// By a command of a shell.
    Command(String),
}

impl Restart {
    /// The command that was given, else the unit that containerd runs in.
    ///
    /// # Errors
    /// One sentence where there is neither.
    pub(crate) fn of(containerd: &Containerd, command: Option<&str>) -> Result<Self> {
        if let Some(command) = command {
            return Ok(Self::Command(command.into()));
        }
        let unit = containerd.unit.clone().with_context(|| {
            format!("containerd ({containerd}) is in no unit of systemd; say how it is restarted with --restart-command, or use --no-restart and restart it yourself")
        })?;
        Ok(Self::Unit(unit))
    }

    fn run(&self, limit: Duration) -> Result<()> {
        let shell = |command: &str| run::output(Path::new("/bin/sh"), &["-c", command], limit);
        match self {
            Self::Unit(unit) => shell(&format!("exec systemctl restart '{unit}'")),
            Self::Command(command) => shell(command),
        }
        .map(drop)
        .context("restarting containerd")
    }
}

/// containerd as it was before, to compare with.
#[derive(Debug)]
pub(crate) struct Watch {
    before: Containerd,
    address: PathBuf,
    plugins: Vec<String>,
    restart: Restart,
    limit: Duration,
}

impl Watch {
    /// Looks at a containerd that runs.
    ///
    /// # Errors
    /// Where it does not answer now: it is not to be made worse.
    pub(crate) fn begin(
        containerd: &Containerd,
        address: PathBuf,
        restart: Restart,
        limit: Duration,
    ) -> Result<Self> {
        let plugins = containerd.plugins(&address).with_context(|| {
            format!(
                "containerd ({containerd}) does not answer at {} and was left alone; mend it first",
                address.display()
            )
        })?;
        Ok(Self { before: containerd.clone(), address, plugins, restart, limit })
    }

    /// Restarts containerd and waits until a new process of it answers and every plugin works that worked before.
    ///
    /// # Errors
    /// One sentence with what is not as it was, after the limit.
    pub(crate) fn restart(&self) -> Result<()> {
        let old = Containerd::running(Some(&self.before.config))?.and_then(|containerd| containerd.pid);
        self.restart.run(self.limit)?;
        let start = Instant::now();
        loop {
            match self.ask(old) {
                Ok(()) => return Ok(()),
                Err(error) if start.elapsed() > self.limit => {
                    return Err(
                        error.context(format!("containerd is not well {:?} after its restart", self.limit))
                    );
                }
                Err(_) => thread::sleep(Duration::from_millis(100)), // nothing tells when a daemon is ready
            }
        }
    }

    fn ask(&self, old: Option<u32>) -> Result<()> {
        let now = Containerd::running(Some(&self.before.config))?.context("no process of it runs")?;
        if old.is_some() && now.pid == old {
            bail!("it was not restarted: process {} still runs", old.unwrap_or_default());
        }
        let plugins = now.plugins(&self.address)?;
        match self.plugins.iter().find(|plugin| !plugins.contains(plugin)) {
            None => Ok(()),
            Some(plugin) => bail!("its plugin {plugin} worked before and does not now"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_systemd_a_command_is_asked_for() {
        let mut containerd = Containerd {
            pid: Some(7),
            program: "/bin/containerd".into(),
            config: "/c.toml".into(),
            address: None,
            path: Vec::new(),
            unit: None,
        };
        let error = Restart::of(&containerd, None).unwrap_err().to_string();
        assert!(error.contains("process 7 with /c.toml") && error.contains("--restart-command"), "{error}");
        assert_eq!(Restart::of(&containerd, Some("x")).unwrap(), Restart::Command("x".into()));
        containerd.unit = Some("rke2-agent.service".into());
        assert_eq!(Restart::of(&containerd, None).unwrap(), Restart::Unit("rke2-agent.service".into()));
    }
}
