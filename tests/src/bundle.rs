//! An OCI bundle on disk, and `wisp-runtime` as a command line over it, in a space of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::process::{self, Finished};
use crate::space::{Cache, Space};
use crate::{leaks, site};

/// The spec that containerd 2.4 makes by default (`ctr oci spec`).
const SPEC: &str = include_str!("containerd-spec.json");
/// How long one command of the runtime may take.
const LIMIT: Duration = Duration::from_secs(60);

/// One container that is driven by hand.
#[derive(Debug)]
pub struct Bundle {
    /// Its id.
    pub id: String,
    /// Its folder, with `config.json` and `rootfs/`.
    pub folder: PathBuf,
    /// The spec, as it will be written before `create` and `run`.
    pub spec: Value,
    /// The private namespaces in which the runtime runs.
    pub space: Space,
}

impl Bundle {
    /// A bundle that runs `args`; a first argument that names a guest (`/rust-0.1.wasm`) brings its file.
    ///
    /// # Errors
    /// Where the guest is missing.
    pub fn new(args: &[&str]) -> Result<Self> {
        let cache = Cache::Folder(site::run_folder()?.join("cache"));
        Self::with_space(args, Space::new(cache, None)?)
    }

    /// A bundle whose runtime runs in this space.
    ///
    /// # Errors
    /// Where the guest is missing.
    pub fn with_space(args: &[&str], space: Space) -> Result<Self> {
        static BUNDLES: AtomicU32 = AtomicU32::new(1);
        let id = format!("{}-b{}", site::run_name(), BUNDLES.fetch_add(1, Ordering::Relaxed));
        let folder = site::run_folder()?.join(&id);
        fs::create_dir_all(folder.join("rootfs/tmp"))?;
        let mut spec: Value = serde_json::from_str(SPEC)?;
        spec["process"]["args"] = json!(args);
        spec["process"]["env"] = json!(["PATH=/bin"]);
        spec["linux"]["cgroupsPath"] = json!(format!("/{id}/{id}"));
        let bundle = Self { id, folder, spec, space };
        let name = args.first().copied().unwrap_or_default().split('#').next().unwrap_or_default();
        if let Ok(guest) = site::guest(name.trim_start_matches('/')) {
            bundle.file(name, &fs::read(guest)?)?;
        }
        Ok(bundle)
    }

    /// Puts an executable file into the root file system.
    ///
    /// # Errors
    /// Those of writing.
    pub fn file(&self, path: &str, content: &[u8]) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let path = self.folder.join("rootfs").join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().context("a file at the root")?)?;
        fs::write(&path, content)?;
        Ok(fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?)
    }

    /// Adds a mount to the spec.
    pub fn mount(&mut self, mount: Value) {
        if let Some(mounts) = self.spec["mounts"].as_array_mut() {
            mounts.push(mount);
        }
    }

    /// The file that both outputs of the container go to.
    #[must_use]
    pub fn output_file(&self) -> PathBuf {
        self.folder.join("output")
    }

    /// What the container printed so far.
    #[must_use]
    pub fn output(&self) -> String {
        fs::read_to_string(self.output_file()).unwrap_or_default()
    }

    /// Runs `wisp-runtime` with these arguments, its output collected.
    ///
    /// # Errors
    /// Where it does not start or end.
    pub fn runtime(&self, args: &[&str]) -> Result<Finished> {
        process::run(self.command(args)?.env("WISP_TESTS_BED", &self.id), LIMIT)
    }

    /// `wisp-runtime` with these arguments, to be started.
    ///
    /// # Errors
    /// Where it is missing.
    pub fn command(&self, args: &[&str]) -> Result<std::process::Command> {
        let mut command = self.space.command(site::binary("wisp-runtime")?);
        command.args(["--root", "/run/wisp/tests"]).args(args).current_dir(&self.folder);
        Ok(command)
    }

    /// Writes the spec and runs the bundle in the foreground to its end.
    ///
    /// # Errors
    /// Where it does not end.
    pub fn run(&self) -> Result<Finished> {
        self.write_spec()?;
        self.runtime(&["run", "--bundle", &self.folder.display().to_string(), &self.id])
    }

    /// Writes the spec and creates the container, its outputs in [`Bundle::output_file`].
    ///
    /// # Errors
    /// What the runtime said, where it refused.
    pub fn create(&self) -> Result<()> {
        self.create_with(&[])
    }

    /// As [`Bundle::create`], with further flags.
    ///
    /// # Errors
    /// What the runtime said, where it refused.
    pub fn create_with(&self, flags: &[&str]) -> Result<()> {
        self.write_spec()?;
        let (output, errors) = (File::create(self.output_file())?, self.folder.join("create-errors"));
        let bundle = self.folder.display().to_string();
        let log = errors.display().to_string();
        let args = [&["--log", &log, "create", "--bundle", &bundle], flags, &[self.id.as_str()]].concat();
        let mut command = self.command(&args)?;
        process::dies_with_us(command.env("WISP_TESTS_BED", &self.id));
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let mut child = command.spawn().context("starting wisp-runtime")?;
        let status = process::wait(&mut child, LIMIT)?.context("create did not end")?;
        let said = fs::read_to_string(&errors).unwrap_or_default();
        ensure!(status.success(), "{said}{}", self.output());
        Ok(())
    }

    fn write_spec(&self) -> Result<()> {
        Ok(fs::write(self.folder.join("config.json"), serde_json::to_vec_pretty(&self.spec)?)?)
    }

    /// What `state` says, as JSON.
    ///
    /// # Errors
    /// What the runtime said, where it refused.
    pub fn state(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.runtime(&["state", &self.id])?.success()?)?)
    }

    /// The status that `state` says.
    ///
    /// # Errors
    /// What the runtime said, where it refused.
    pub fn status(&self) -> Result<String> {
        Ok(self.state()?["status"].as_str().unwrap_or_default().to_owned())
    }

    /// Waits until the container has printed `text`.
    ///
    /// # Errors
    /// What it printed instead.
    pub fn until(&self, text: &str) -> Result<()> {
        crate::bed::eventually(text, Duration::from_secs(20), || {
            Ok(self.output().contains(text).then_some(()))
        })
        .with_context(|| self.output())
    }

    /// Waits until the container is stopped.
    ///
    /// # Errors
    /// Where it runs on.
    pub fn until_stopped(&self) -> Result<()> {
        let pid = self.state()?["pid"].as_i64().unwrap_or_default();
        if pid > 0 {
            ensure!(process::gone(i32::try_from(pid)?, LIMIT)?, "process {pid} runs on");
        }
        crate::bed::eventually("stopped", LIMIT, || Ok((self.status()? == "stopped").then_some(())))
    }

    /// The path of a file in the bundle.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        Path::new(&self.folder).join(name)
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = self.runtime(&["delete", "--force", &self.id]);
        leaks::sweep(&self.id, &self.folder);
    }
}
