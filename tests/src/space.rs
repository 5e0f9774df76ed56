//! Private namespaces: a network with nothing but a loopback, and mounts in which `/run`, `/etc/wisp`, `/var/cache/wisp` and
//! `/var/lib/cni` are the test's own. What is made inside disappears with its last process.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::{fs, io, thread};

use anyhow::{Context, Result, anyhow, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use crate::bed::LIMIT;
use crate::process;

/// What `/var/cache/wisp` is in a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cache {
    /// This folder.
    Folder(PathBuf),
    /// A tmpfs with these mount flags and options.
    Tmpfs(MsFlags, String),
}

/// A network and a mount namespace that live as long as this value or a process in them.
#[derive(Debug, Clone)]
pub struct Space {
    net: Arc<File>,
    mounts: Arc<File>,
}

impl Space {
    /// Makes a space. `config` becomes `/etc/wisp/config.toml` in it.
    ///
    /// # Errors
    /// Those of the kernel, where the process may not make namespaces.
    pub fn new(cache: Cache, config: Option<String>) -> Result<Self> {
        // These are mount points and must exist on the machine; they stay, empty.
        for folder in ["/etc/wisp", "/var/cache/wisp", "/var/lib/cni"] {
            fs::create_dir_all(folder).with_context(|| format!("making {folder}"))?;
        }
        on_thread(move || {
            unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).context("making namespaces")?;
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)?;
            tmpfs("/run", MsFlags::empty(), "mode=755")?;
            tmpfs("/etc/wisp", MsFlags::empty(), "mode=755")?;
            tmpfs("/var/lib/cni", MsFlags::empty(), "mode=755")?;
            if let Some(config) = config {
                fs::write("/etc/wisp/config.toml", config)?;
            }
            match cache {
                Cache::Folder(folder) => {
                    fs::create_dir_all(&folder)?;
                    mount(Some(&folder), "/var/cache/wisp", None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
                    share_compiles(&folder)?;
                }
                Cache::Tmpfs(flags, options) => tmpfs("/var/cache/wisp", flags, &options)?,
            }
            let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().context("starting ip")?;
            ensure!(up.success(), "the loopback of a new network did not come up");
            Ok(Self {
                net: Arc::new(File::open("/proc/thread-self/ns/net")?),
                mounts: Arc::new(File::open("/proc/thread-self/ns/mnt")?),
            })
        })
    }

    /// Makes a space with a root directory of its own; `furnish` mounts what is needed below it.
    ///
    /// # Errors
    /// Those of the kernel and of `furnish`.
    pub fn with_root(root: &Path, furnish: impl FnOnce() -> Result<()> + Send + 'static) -> Result<Self> {
        let root = root.to_path_buf();
        on_thread(move || {
            fs::create_dir_all(&root)?;
            unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).context("making namespaces")?;
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)?;
            mount(Some(&root), &root, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
            furnish()?;
            std::env::set_current_dir(&root)?;
            nix::unistd::pivot_root(".", ".").context("changing the root directory")?;
            // The old root lies on top of the new one.
            nix::mount::umount2(".", nix::mount::MntFlags::MNT_DETACH)?;
            let up = Command::new("/usr/sbin/ip")
                .args(["link", "set", "lo", "up"])
                .status()
                .context("starting ip")?;
            ensure!(up.success(), "the loopback of a new network did not come up");
            Ok(Self {
                net: Arc::new(File::open("/proc/thread-self/ns/net")?),
                mounts: Arc::new(File::open("/proc/thread-self/ns/mnt")?),
            })
        })
    }

    /// The path of its network for `ip link set … netns`, as long as this process runs.
    #[must_use]
    pub fn network(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.net.as_raw_fd())
    }

    /// A command that will run inside.
    #[must_use]
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        let (net, mounts) = (Arc::clone(&self.net), Arc::clone(&self.mounts));
        let enter = move || {
            setns(net.as_fd(), CloneFlags::CLONE_NEWNET)?;
            setns(mounts.as_fd(), CloneFlags::CLONE_NEWNS)?;
            Ok::<_, io::Error>(())
        };
        // SAFETY: setns is a bare system call, and so is async-signal-safe.
        unsafe { command.pre_exec(enter) };
        command
    }

    /// Runs `ip` inside.
    ///
    /// # Errors
    /// What it said.
    pub fn ip(&self, args: &[&str]) -> Result<()> {
        let ran = process::run(self.command("ip").args(args), LIMIT)?.success();
        ran.map(drop).with_context(|| format!("ip {}", args.join(" ")))
    }

    /// Runs `job` inside, on a thread of its own.
    ///
    /// # Errors
    /// Those of `job` and of entering.
    pub fn inside<T: Send + 'static>(&self, job: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let space = self.clone();
        on_thread(move || {
            space.enter()?;
            job()
        })
    }

    /// Moves the calling thread inside, for good.
    ///
    /// # Errors
    /// Those of `setns(2)`.
    pub fn enter(&self) -> Result<()> {
        unshare(CloneFlags::CLONE_FS)?;
        setns(self.net.as_fd(), CloneFlags::CLONE_NEWNET)?;
        setns(self.mounts.as_fd(), CloneFlags::CLONE_NEWNS)?;
        Ok(())
    }
}

/// Puts a folder into memory, for this process and all that it starts; it goes with the last of them. At most half of the machine's
/// memory is taken. To be called before there is a second thread, which else does not see it.
///
/// # Errors
/// Those of the kernel, where the process may not make namespaces.
pub fn keep_in_memory(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    unshare(CloneFlags::CLONE_NEWNS).context("making a namespace of mounts")?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)?;
    tmpfs(folder, MsFlags::empty(), "mode=755")
}

/// Moves the calling thread into the network of a process, for good.
///
/// # Errors
/// Where the process has ended.
pub fn enter_network_of(pid: u32) -> Result<()> {
    let net = File::open(format!("/proc/{pid}/ns/net")).context("opening a container's network")?;
    Ok(setns(net.as_fd(), CloneFlags::CLONE_NEWNET)?)
}

/// Runs `job` on a thread that may change its namespaces and then ends.
///
/// # Errors
/// Those of `job`.
pub fn on_thread<T: Send + 'static>(job: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    thread::spawn(job).join().map_err(|_| anyhow!("a thread of the test panicked"))?
}

/// Has those who compile into this folder wait for each other in all spaces that have it, as on one node: else each space compiles
/// every program itself.
fn share_compiles(cache: &Path) -> Result<()> {
    let (shared, seen) = (cache.with_added_extension("lock"), Path::new("/run/wisp/compile.lock"));
    fs::create_dir_all("/run/wisp")?;
    for file in [&*shared, seen] {
        File::options().write(true).create(true).truncate(false).open(file)?;
    }
    Ok(mount(Some(&shared), seen, None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
}

fn tmpfs(path: impl AsRef<Path>, flags: MsFlags, options: &str) -> Result<()> {
    let path = path.as_ref();
    mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some(options))
        .with_context(|| format!("mounting {}", path.display()))
}
