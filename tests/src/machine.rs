//! A machine for what changes a whole node: a root directory of its own with `/etc`, `/var` and `/usr/local/bin`, and a containerd
//! in it that something like a service manager keeps running.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};

pub use crate::bed::LIMIT;
use crate::bed::{eventually, lock};
use crate::image::Image;
use crate::process::{self, Finished};
use crate::space::Space;
use crate::{leaks, site};

/// Where the main configuration of containerd usually is.
pub const CONFIG: &str = "/etc/containerd/config.toml";
/// Where containerd listens.
pub const ADDRESS: &str = "/run/containerd/containerd.sock";
/// How this machine's containerd is restarted: whoever keeps it running starts it again.
pub const RESTART: &str = "kill $(cat /run/containerd.pid) 2>/dev/null; true";

/// What keeps containerd running; what it started before goes on, as under systemd with `KillMode=process`.
const MANAGER: &str = r#"while :; do
  [ -e /run/before-start ] && . /run/before-start
  /opt/bed/containerd $ARGUMENTS </dev/null >>/var/log/containerd.log 2>&1 &
  echo $! >/run/containerd.pid
  wait $!
  sleep 0.1
done"#;

/// A machine, which ends with this value.
#[derive(Debug)]
pub struct Machine {
    /// The version of its containerd.
    pub version: &'static str,
    /// Its namespaces.
    pub space: Space,
    /// Its root directory, from outside, for what is on its disk.
    pub root: PathBuf,
    name: String,
    config: String,
    manager: Mutex<Option<Child>>,
}

impl Machine {
    /// A machine with these files whose containerd does not run yet; `config` is the main one of containerd, or empty where
    /// containerd is not told of any.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn new(version: &'static str, config: &str, files: &[(&str, &str)]) -> Result<Self> {
        static MACHINES: AtomicU32 = AtomicU32::new(1);
        let short = format!("node-{:03}", MACHINES.fetch_add(1, Ordering::Relaxed));
        let root = site::run_folder()?.join(&short);
        for (path, text) in files {
            let path = root.join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().context("a file without a folder")?)?;
            fs::write(path, text)?;
        }
        let bed =
            site::server(version, "containerd")?.parent().map(Path::to_path_buf).context("no folder")?;
        let space = Space::with_root(&root, {
            let root = root.clone();
            move || furnish(&root, &bed)
        })?;
        let name = format!("{}-{short}", site::run_name());
        Ok(Self { version, space, root, name, config: config.to_owned(), manager: Mutex::new(None) })
    }

    /// The same, running.
    ///
    /// # Errors
    /// Where containerd does not answer.
    pub fn start(version: &'static str, config: &str, files: &[(&str, &str)]) -> Result<Self> {
        let machine = Self::new(version, config, files)?;
        machine.boot()?;
        Ok(machine)
    }

    /// Starts its containerd.
    ///
    /// # Errors
    /// Where it does not answer.
    pub fn boot(&self) -> Result<()> {
        let mut command = self.command("/bin/sh", &["-c", MANAGER]);
        command.env("ARGUMENTS", self.arguments().join(" ")).env("WISP_TESTS_BED", &self.name);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        *lock(&self.manager) = Some(process::spawn_lasting(command)?);
        eventually("containerd answers", LIMIT, || Ok((self.ctr(&["version"])?.code == 0).then_some(())))
            .with_context(|| self.log())
    }

    /// containerd's own.
    fn arguments(&self) -> Vec<&str> {
        if self.config.is_empty() { Vec::new() } else { vec!["--config", &self.config] }
    }

    /// The process of its containerd.
    ///
    /// # Errors
    /// Where it was never started.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.file("/run/containerd.pid").context("containerd was never started")?.trim().parse()?)
    }

    /// A command in this machine, to be started.
    #[must_use]
    pub fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = self.space.command(program);
        command.args(args).env_clear().current_dir("/");
        command.env("PATH", "/usr/local/bin:/opt/bed:/opt/runc:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS", "1");
        command
    }

    /// Runs a command in this machine to its end.
    ///
    /// # Errors
    /// Where it does not start or end; that it fails is an answer.
    pub fn run(&self, program: &str, args: &[&str]) -> Result<Finished> {
        process::run(&mut self.command(program, args), LIMIT)
    }

    /// `ctr` in this machine.
    ///
    /// # Errors
    /// As [`Machine::run`].
    pub fn ctr(&self, args: &[&str]) -> Result<Finished> {
        self.run("/opt/bed/ctr", &[&["--namespace", &self.name], args].concat())
    }

    /// `wisp` as it comes, in this machine.
    ///
    /// # Errors
    /// As [`Machine::run`].
    pub fn wisp(&self, args: &[&str]) -> Result<Finished> {
        self.run("/opt/wisp/bin/wisp", args)
    }

    /// `wisp install`, with this machine's way to restart containerd.
    ///
    /// # Errors
    /// As [`Machine::run`].
    pub fn install(&self, args: &[&str]) -> Result<Finished> {
        self.wisp(&[&["install", "--restart-command", RESTART], args].concat())
    }

    /// What its containerd makes of its configuration.
    ///
    /// # Errors
    /// What containerd said.
    pub fn dump(&self) -> Result<String> {
        // 1.6 objects to a file that is not there, and that means the defaults.
        let there = self.file(if self.config.is_empty() { CONFIG } else { &self.config }).is_some();
        let what = ["config", if there { "dump" } else { "default" }];
        let dump = self.run("/opt/bed/containerd", &[&self.arguments()[..], &what].concat())?;
        Ok(dump.success()?.replace('\'', "\""))
    }

    /// A file of its disk; `None` where there is none.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root.join(path.trim_start_matches('/'))).ok()
    }

    /// Every file below a folder of its disk, with its content.
    ///
    /// # Errors
    /// Where one cannot be read.
    pub fn tree(&self, folder: &str) -> Result<Vec<(PathBuf, Vec<u8>)>> {
        let mut found = Vec::new();
        let mut pending = vec![self.root.join(folder.trim_start_matches('/'))];
        while let Some(folder) = pending.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                if entry.file_type()?.is_dir() {
                    pending.push(entry.path());
                } else {
                    found.push((entry.path(), fs::read(entry.path())?));
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// Imports an image into its containerd.
    ///
    /// # Errors
    /// What `ctr` said.
    pub fn import(&self, image: &Image) -> Result<()> {
        image.write(&self.root.join("var/image.tar"))?;
        self.ctr(&["images", "import", "/var/image.tar"])?.success().map(drop)
    }

    /// The last lines of containerd's log.
    #[must_use]
    pub fn log(&self) -> String {
        let log = self.file("/var/log/containerd.log").unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(mut manager) = lock(&self.manager).take() {
            let _ = manager.kill();
            let _ = process::wait(&mut manager, Duration::from_secs(5));
        }
        leaks::sweep(&self.name, &self.root);
    }
}

/// Makes what a root directory needs: the machine's programs and libraries, and everything else its own.
fn furnish(root: &Path, bed: &Path) -> Result<()> {
    for folder in [
        "etc",
        "usr",
        "var/log",
        "var/lib",
        "run",
        "tmp",
        "proc",
        "sys",
        "dev",
        "opt/bed",
        "opt/runc",
        "opt/wisp/bin",
        "opt/wisp/libexec/wisp",
    ] {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    for name in ["bin", "sbin", "lib", "lib64"] {
        if fs::symlink_metadata(root.join(name)).is_err() {
            symlink(format!("usr/{name}"), root.join(name))?;
        }
    }
    let runc = site::server("2.4", "runc")?.parent().map(Path::to_path_buf).context("no folder")?;
    for (source, target) in [
        (Path::new("/usr"), "usr"),
        (Path::new("/proc"), "proc"),
        (Path::new("/sys"), "sys"),
        (Path::new("/dev"), "dev"),
        (bed, "opt/bed"),
        (&runc, "opt/runc"),
    ] {
        bind(source, &root.join(target))?;
    }
    // Programs are installed into a folder that is this machine's.
    let local = root.join("usr/local");
    ensure!(local.is_dir(), "/usr/local is not there");
    mount(Some("tmpfs"), &local, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
    fs::create_dir(local.join("bin"))?;
    for name in ["containerd-shim-wisp-v1", "wisp-runtime", "wisp"] {
        program(name, &root.join("opt/wisp/bin"))?;
    }
    for name in ["wisp-guest", "wisp-compiler", "wisp-artifact"] {
        program(name, &root.join("opt/wisp/libexec/wisp"))?;
    }
    Ok(())
}

/// Shows a program of the product in a folder.
fn program(name: &str, folder: &Path) -> Result<()> {
    let target = folder.join(name);
    fs::write(&target, "")?;
    bind(&site::binary(name)?, &target)
}

fn bind(source: &Path, target: &Path) -> Result<()> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .with_context(|| format!("mounting {} at {}", source.display(), target.display()))
}

/// Has a shell read this before each further start of containerd.
///
/// # Errors
/// Those of writing it.
pub fn before_next_start(machine: &Machine, script: &str) -> Result<()> {
    Ok(fs::write(machine.root.join("run/before-start"), script)?)
}
