//! One containerd of one version in a space of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::ThreadId;
use std::time::{Duration, Instant};
use std::{panic, thread};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::client::Client;
use crate::events::Events;
use crate::image::Image;
use crate::memo::Memo;
use crate::process::{self, Finished};
use crate::space::{Cache, Space};
use crate::{cri, leaks, site, task};

/// The image that holds every guest, each under `/` with its file's name.
pub const GUESTS: &str = "wisp.test/guests:1";
/// How long anything may take that a test waits for, on a machine that runs other tests.
pub const LIMIT: Duration = Duration::from_secs(120);

/// What is special about a bed.
#[derive(Debug, Default)]
pub struct Options {
    /// Its cache of compiled code; by default one that all beds of this run share.
    pub cache: Option<Cache>,
    /// `/etc/wisp/config.toml`.
    pub config: Option<String>,
    /// Whether there is no runc on the node.
    pub without_runc: bool,
    /// Whether its containerd has the CRI plugin, and its space a network for pods.
    pub cri: bool,
    /// Shims beside those of the product: `NAME` is run as `io.containerd.NAME.v1`, and by CRI's handler `NAME` as the sandbox of its
    /// pods (on 2.4).
    pub shims: Vec<(&'static str, PathBuf)>,
    /// Whether its CRI plugin looks into [`Bed::registries`] for where a registry is.
    pub registries: bool,
    /// Whether containerd and its shims log as on a node, and not at `debug`.
    pub quiet: bool,
}

/// A containerd that runs.
#[derive(Debug)]
pub struct Bed {
    /// Its version, for messages: where it was upgraded, that of the start.
    pub version: &'static str,
    /// What everything of it is marked with: control groups and processes.
    pub name: String,
    /// The containerd namespace that its containers are in: its name, or `k8s.io` where CRI makes them.
    pub namespace: String,
    /// The private namespaces that it runs in.
    pub space: Space,
    /// The folder of its root, state, socket and logs.
    pub folder: PathBuf,
    runc: bool,
    cri: bool,
    shims: Vec<(&'static str, PathBuf)>,
    registries: bool,
    quiet: bool,
    daemon: Mutex<Option<(Child, &'static str)>>,
    events: OnceLock<Events>,
    images: Memo<()>,
    counter: AtomicU32,
}

impl Bed {
    /// Starts a containerd as most cases want it.
    ///
    /// # Errors
    /// One sentence with what is missing or did not start.
    pub fn start(version: &'static str) -> Result<Arc<Self>> {
        Self::start_with(version, Options::default())
    }

    /// Starts a containerd.
    ///
    /// # Errors
    /// One sentence with what is missing or did not start.
    pub fn start_with(version: &'static str, options: Options) -> Result<Arc<Self>> {
        static BEDS: AtomicU32 = AtomicU32::new(1);
        // Of one length, so that no bed's name begins with another's.
        let name = format!("{}-{:03}", version.replace('.', ""), BEDS.fetch_add(1, Ordering::Relaxed));
        let folder = site::run_folder()?.join(&name);
        let cache = options
            .cache
            .map_or_else(|| Ok::<_, anyhow::Error>(Cache::Folder(site::run_folder()?.join("cache"))), Ok)?;
        fs::create_dir_all(folder.join("logs"))?;
        let name = format!("{}-{name}", site::run_name());
        let bed = Arc::new(Self {
            version,
            namespace: if options.cri { cri::NAMESPACE.to_owned() } else { name.clone() },
            name,
            space: Space::new(cache, options.config)?,
            folder,
            runc: !options.without_runc,
            cri: options.cri,
            shims: options.shims,
            registries: options.registries,
            quiet: options.quiet,
            daemon: Mutex::new(None),
            events: OnceLock::new(),
            images: Memo::new(),
            counter: AtomicU32::new(1),
        });
        remember(&bed);
        bed.install_wisp()?;
        bed.launch(version)?;
        Ok(bed)
    }

    /// Puts Wisp where this bed's containerd finds it; a second time replaces what is there, as an upgrade does.
    ///
    /// # Errors
    /// Where a binary is missing.
    pub fn install_wisp(&self) -> Result<()> {
        let (bin, libexec) = (self.folder.join("wisp/bin"), self.folder.join("wisp/libexec/wisp"));
        fs::create_dir_all(&bin)?;
        fs::create_dir_all(&libexec)?;
        for (name, program) in &self.shims {
            put(program, &bin.join(format!("containerd-shim-{name}-v1")))?;
        }
        if task::without_wisp() {
            return Ok(());
        }
        for (name, folder) in [
            ("containerd-shim-wisp-v1", &bin),
            ("wisp-runtime", &bin),
            ("wisp", &bin),
            ("wisp-guest", &libexec),
            ("wisp-compiler", &libexec),
            ("wisp-artifact", &libexec),
        ] {
            put(&site::binary(name)?, &folder.join(name))?;
        }
        Ok(())
    }

    /// Starts its containerd (again), in whatever version.
    ///
    /// # Errors
    /// Where it is missing, or does not answer in time.
    pub fn launch(&self, version: &'static str) -> Result<()> {
        let config = self.folder.join(format!("config-{version}.toml"));
        fs::write(&config, self.config(version)?)?;
        let log = File::options().create(true).append(true).open(self.folder.join("containerd.log"))?;
        let mut command = self.space.command(site::server(version, "containerd")?);
        command.arg("--config").arg(&config).env("PATH", self.path(version)?);
        command.env("WISP_TESTS_BED", &self.name);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut child = process::spawn_lasting(command).context("starting containerd")?;
        let start = Instant::now();
        while let Err(error) = self.client() {
            if child.try_wait()?.is_some() || start.elapsed() > LIMIT {
                let _ = child.kill();
                bail!("containerd {version} does not answer ({error}): {}", self.log_tail(""));
            }
            thread::sleep(Duration::from_millis(20)); // nothing tells that a socket appears
        }
        *lock(&self.daemon) = Some((child, version));
        self.events.get_or_init(|| Events::new(self.socket(), self.namespace.clone())).ready(LIMIT)
    }

    /// Stops its containerd with `signal`, and waits for its end; the tasks run on.
    ///
    /// # Errors
    /// Where it does not run or does not end.
    pub fn stop(&self, signal: Signal) -> Result<()> {
        let (mut child, _) = lock(&self.daemon).take().context("containerd is not running")?;
        kill(Pid::from_raw(i32::try_from(child.id())?), signal)?;
        if process::wait(&mut child, LIMIT)?.is_none() {
            child.kill()?;
            bail!("containerd did not end on {signal}");
        }
        Ok(())
    }

    /// The process id of its containerd.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn pid(&self) -> Result<u32> {
        lock(&self.daemon).as_ref().map(|(child, _)| child.id()).context("containerd is not running")
    }

    fn config(&self, version: &str) -> Result<String> {
        let folder = self.folder.display();
        let common = format!(
            "root = \"{folder}/root\"\nstate = \"{folder}/state\"\n\
             [grpc]\naddress = \"{}\"\n[debug]\nlevel = \"{}\"\n",
            self.socket().display(),
            if self.quiet { "info" } else { "debug" }
        );
        let shims: Vec<_> = self.shims.iter().map(|&(name, _)| name).collect();
        let registries = self.registries.then(|| self.registries());
        Ok(if self.cri {
            cri::config::with_cri(version, &self.folder, &common, &shims, registries.as_deref())?
        } else {
            cri::config::without_cri(version, &common)
        })
    }

    /// The `PATH` of containerd: Wisp, then its own version's programs, then the machine's.
    pub(crate) fn path(&self, version: &str) -> Result<String> {
        let own = self.folder.join(format!("bin-{version}"));
        fs::create_dir_all(&own)?;
        let mut programs = vec![("containerd-shim-runc-v2", version)];
        if self.runc {
            programs.push(("runc", if version == "1.6" { "1.6" } else { "2.4" }));
        }
        for (name, version) in programs {
            let link = own.join(name);
            if !link.exists() {
                std::os::unix::fs::symlink(site::server(version, name)?, link)?;
            }
        }
        let machine = if self.runc { ":/usr/sbin:/usr/bin:/sbin:/bin" } else { "" };
        Ok(format!("{}:{}{machine}", self.folder.join("wisp/bin").display(), own.display()))
    }

    /// The socket of its containerd.
    pub fn socket(&self) -> PathBuf {
        // Short: a socket's path may have 107 characters.
        self.folder.join("c.sock")
    }

    /// The folder with `HOST/hosts.toml`, which says where the images of a registry are had.
    #[must_use]
    pub fn registries(&self) -> PathBuf {
        self.folder.join("certs.d")
    }

    /// A client of its API.
    ///
    /// # Errors
    /// Where it does not answer.
    pub fn client(&self) -> Result<Client> {
        Client::connect(&self.socket(), &self.namespace)
    }

    /// What it has published since its start.
    ///
    /// # Panics
    /// Never: a bed is handed out only after its start.
    #[must_use]
    pub fn events(&self) -> &Events {
        self.events.get_or_init(|| Events::new(self.socket(), self.namespace.clone()))
    }

    /// `ctr` with these arguments, to be started.
    ///
    /// # Errors
    /// Where `ctr` is missing.
    pub fn ctr_command(&self, args: &[&str]) -> Result<Command> {
        let version = lock(&self.daemon).as_ref().map_or(self.version, |(_, version)| version);
        let mut command = self.space.command(site::server(version, "ctr")?);
        command.env("CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS", "1"); // this machine may have cgroup v1
        command.arg("--address").arg(self.socket()).args(["--namespace", &self.namespace]).args(args);
        Ok(command)
    }

    /// Runs `ctr` with these arguments to its end.
    ///
    /// # Errors
    /// Where it does not start or end; that it fails is an answer.
    pub fn ctr(&self, args: &[&str]) -> Result<Finished> {
        process::run(&mut self.ctr_command(args)?, LIMIT)
    }

    /// Imports an image, once.
    ///
    /// # Errors
    /// What `ctr` said.
    pub fn import(&self, image: &Image, flags: &[&str]) -> Result<()> {
        self.images.get(image.name(), || {
            let archive = self.folder.join(format!("{}.tar", image.name().replace(['/', ':'], "_")));
            image.write(&archive)?;
            let path = archive.display().to_string();
            let args = [&["images", "import"], flags, &[path.as_str()]].concat();
            self.ctr(&args)?.success().with_context(|| format!("importing {}", image.name()))?;
            Ok(fs::remove_file(archive)?)
        })
    }

    /// Imports an image for a platform that is not this machine's, once.
    ///
    /// # Errors
    /// What `ctr` said.
    pub fn import_for(&self, image: &Image, platform: &str) -> Result<()> {
        // The transfer service of 2.x unpacks for this machine's platform only.
        let local: &[&str] = if self.version.starts_with('2') { &["--local"] } else { &[] };
        self.import(image, &[&["--platform", platform], local].concat())
    }

    /// Imports the image of all guests, once.
    ///
    /// # Errors
    /// Where a guest is missing.
    pub fn import_guests(&self) -> Result<&'static str> {
        let mut image = Image::new(GUESTS)
            .config("Entrypoint", json!(["/rust-0.2.wasm"]))
            .config("Env", json!(["PATH=/bin", "FROM_IMAGE=yes"]))
            .folder("/tmp", 0o1777)
            .file("/data/greeting.txt", "a file of the image\n")
            .link("/link-to-proc", "/proc");
        let all = ["rust-0.1.wasm", "rust-0.2.wasm", "rust-0.3.wasm", "c.wasm", "go.wasm", "native"];
        for guest in all.into_iter().chain(["http-0.2.wasm", "http-0.3.wasm", "http-js.wasm"]) {
            image = image.file_of(&format!("/{guest}"), site::guest(guest)?);
        }
        self.import(&image, &[])?;
        Ok(GUESTS)
    }

    /// A new container id that says what it is for.
    #[must_use]
    pub fn id(&self, hint: &str) -> String {
        format!("{hint}-{}", self.counter.fetch_add(1, Ordering::Relaxed))
    }

    /// The last lines of its log that mention `text`.
    #[must_use]
    pub fn log_tail(&self, text: &str) -> String {
        let log = fs::read_to_string(self.folder.join("containerd.log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().filter(|line| line.contains(text)).collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// Ends everything that was started here; what is still there afterwards is in [`leaks`].
    pub fn end(&self) {
        if let Some((mut child, _)) = lock(&self.daemon).take() {
            let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM);
            if !matches!(process::wait(&mut child, Duration::from_secs(20)), Ok(Some(_))) {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        leaks::sweep(&self.name, &self.folder);
    }
}

/// Copies a program to where one may run already. It keeps its time, by which compiled code is known to be its: else the beds of a
/// run would share none.
fn put(program: &Path, target: &Path) -> Result<()> {
    let new = target.with_extension("new");
    fs::copy(program, &new)?;
    File::open(&new)?.set_modified(fs::metadata(program)?.modified()?)?;
    Ok(fs::rename(new, target)?)
}

/// Every bed of this process, and the thread of the case that it belongs to.
static ALL: Mutex<Vec<(Option<ThreadId>, Arc<Bed>)>> = Mutex::new(Vec::new());

fn remember(bed: &Arc<Bed>) {
    lock(&ALL).push((Some(thread::current().id()), Arc::clone(bed)));
}

/// Ends the beds that the calling thread has started for itself.
pub fn end_own() {
    let own = |(thread, _): &mut (Option<ThreadId>, Arc<Bed>)| *thread == Some(thread::current().id());
    let beds: Vec<_> = lock(&ALL).extract_if(.., own).collect();
    beds.iter().for_each(|(_, bed)| bed.end());
}

/// Ends every bed.
pub fn end_all() {
    let beds = std::mem::take(&mut *lock(&ALL));
    for (_, bed) in beds {
        // One that cannot be ended must not keep the others.
        let _ = panic::catch_unwind(panic::AssertUnwindSafe(|| bed.end()));
    }
}

/// The bed of a name that cases share, started when first asked for.
///
/// # Errors
/// Why it could not be started, each time.
pub fn shared(name: &str, start: impl FnOnce() -> Result<Arc<Bed>>) -> Result<Arc<Bed>> {
    static SHARED: Memo<Arc<Bed>> = Memo::new();
    SHARED.get(name, || {
        let bed = start()?;
        for (thread, known) in &mut *lock(&ALL) {
            if Arc::ptr_eq(known, &bed) {
                *thread = None;
            }
        }
        Ok(bed)
    })
}

/// A case that panicked has left the data as good as any.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Asks until there is an answer, for what no event tells.
///
/// # Errors
/// What was waited for, where it does not come.
pub fn eventually<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if start.elapsed() > limit {
            bail!("{what}: not within {limit:?}");
        }
        // The longer it takes, the less often: what is asked has the processor that is waited for.
        let shortly = Duration::from_millis(10)..=Duration::from_millis(100);
        thread::sleep((start.elapsed() / 10).clamp(*shortly.start(), *shortly.end()));
    }
}
