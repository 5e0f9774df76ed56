//! A dockerd beside a containerd, which it shares with the tests as it does on a machine that has both.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::bed::{Bed, LIMIT, eventually};
use crate::process::{self, Finished};
use crate::site;

/// How long a command may take: one that builds or runs waits for dockerd, containerd and the compiler.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where a dockerd keeps its images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// In files of its own, as it does unless told otherwise.
    Own,
    /// In containerd, which keeps manifests as they are; buildx writes OCI layouts only there.
    Containerd,
}

/// A dockerd that runs until it is dropped.
#[derive(Debug)]
pub struct Docker<'a> {
    bed: &'a Bed,
    daemon: Child,
    /// The folder of all that it has, and the one that its commands run in.
    pub folder: PathBuf,
}

impl<'a> Docker<'a> {
    /// Starts one in the space of a bed, without a network for its containers.
    ///
    /// # Errors
    /// Where it is missing or does not answer.
    pub fn start(bed: &'a Bed, store: Store) -> Result<Self> {
        let folder = bed.folder.join("docker");
        let plugins = folder.join("config/cli-plugins");
        fs::create_dir_all(&plugins)?;
        std::os::unix::fs::symlink(site::docker("docker-buildx")?, plugins.join("docker-buildx"))?;
        let config = json!({
            "hosts": [format!("unix://{}", folder.join("d.sock").display())],
            "data-root": folder.join("data"),
            "exec-root": folder.join("exec"),
            "pidfile": folder.join("pid"),
            "containerd": bed.socket(),
            "containerd-namespace": bed.namespace,
            "cgroup-parent": format!("/{}", bed.name),
            "bridge": "none",
            "iptables": false,
            "ip6tables": false,
            "userland-proxy": false,
            "features": {"containerd-snapshotter": store == Store::Containerd},
        });
        let file = folder.join("daemon.json");
        fs::write(&file, config.to_string())?;
        let mut command = bed.space.command(site::docker("dockerd")?);
        command.arg("--config-file").arg(file);
        command.env("PATH", bed.path(bed.version)?).env("WISP_TESTS_BED", &bed.name);
        let log = File::create(folder.join("dockerd.log"))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let daemon = process::dies_with_us(&mut command).spawn().context("starting dockerd")?;
        let mut docker = Self { bed, daemon, folder };
        eventually("dockerd", LIMIT, || {
            ensure!(docker.daemon.try_wait()?.is_none(), "dockerd has ended");
            Ok((docker.finished(&["version"])?.code == 0).then_some(()))
        })
        .with_context(|| fs::read_to_string(docker.folder.join("dockerd.log")).unwrap_or_default())?;
        Ok(docker)
    }

    /// `docker` with these arguments, to be started.
    ///
    /// # Errors
    /// Where it is missing.
    pub fn command(&self, args: &[&str]) -> Result<Command> {
        // A process that enters a space is at its root.
        let mut command = self.bed.space.command("env");
        command.arg("-C").arg(&self.folder).arg(site::docker("docker")?).args(args);
        command.env("DOCKER_HOST", format!("unix://{}", self.folder.join("d.sock").display()));
        command.env("DOCKER_CONFIG", self.folder.join("config"));
        Ok(command)
    }

    /// Runs `docker` to its end.
    ///
    /// # Errors
    /// Where it does not start or end; that it fails is an answer.
    pub fn finished(&self, args: &[&str]) -> Result<Finished> {
        process::run(&mut self.command(args)?, PATIENCE)
    }

    /// Runs `docker`, which has to succeed; its output.
    ///
    /// # Errors
    /// What it said.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        self.finished(args)?.success().with_context(|| format!("docker {}", args.join(" ")))
    }
}

impl Drop for Docker<'_> {
    fn drop(&mut self) {
        // It unmounts what it has mounted.
        let _ = kill(Pid::from_raw(self.daemon.id().cast_signed()), Signal::SIGTERM);
        if !matches!(process::wait(&mut self.daemon, Duration::from_secs(20)), Ok(Some(_))) {
            let _ = self.daemon.kill();
            let _ = self.daemon.wait();
        }
    }
}
