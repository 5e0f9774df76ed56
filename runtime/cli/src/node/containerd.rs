//! The containerd that runs on this node, as `/proc` shows it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use std::{env, fmt, fs};

use anyhow::{Context, Result, bail};

use super::run::{self, QUICK};

/// Where containerd looks for its configuration unless it is told otherwise.
pub(crate) const CONFIG: &str = "/etc/containerd/config.toml";
/// Where containerd listens unless it is told otherwise.
pub(crate) const ADDRESS: &str = "/run/containerd/containerd.sock";

/// The fields of `stat` that say which process made one, and when.
const PARENT: usize = 4;
const STARTED: usize = 22;

/// A containerd.
#[derive(Debug, Clone)]
pub(crate) struct Containerd {
    /// Its process, where it runs.
    pub(crate) pid: Option<u32>,
    /// Its binary.
    pub(crate) program: PathBuf,
    /// The main file of its configuration, which need not exist.
    pub(crate) config: PathBuf,
    /// The socket that its command line names.
    pub(crate) address: Option<PathBuf>,
    /// The folders of its `PATH`.
    pub(crate) path: Vec<PathBuf>,
    /// The unit of systemd that it runs in, for k3s the unit of k3s.
    pub(crate) unit: Option<String>,
}

impl Containerd {
    /// The containerd of this node: the one that has this configuration, or the only one.
    ///
    /// # Errors
    /// Where several run and none was named.
    pub(crate) fn running(config: Option<&Path>) -> Result<Option<Self>> {
        let processes = fs::read_dir("/proc")
            .context("reading /proc")?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(|pid| Some((pid, Self::of_process(pid)?, stat(pid, PARENT)?)));
        let mut found = without_children(processes.collect());
        found.retain(|containerd| config.is_none_or(|config| containerd.config == config));
        if found.len() > 1 {
            let list: Vec<_> = found.iter().map(ToString::to_string).collect();
            bail!("several containerds run here ({}); say which with --containerd-config", list.join("; "));
        }
        Ok(found.pop())
    }

    /// A containerd that does not run, as it would be started by hand.
    ///
    /// # Errors
    /// Where none is installed.
    pub(crate) fn installed(config: Option<&Path>) -> Result<Self> {
        let path = env::var_os("PATH")
            .unwrap_or_else(|| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
        let path: Vec<_> = env::split_paths(&path).collect();
        let program = find("containerd", &path)
            .context("no containerd runs here and none is on PATH; install containerd first, or name another node's root with --root")?;
        let config = config.unwrap_or(Path::new(CONFIG)).to_path_buf();
        Ok(Self { pid: None, program, config, address: None, path, unit: None })
    }

    fn of_process(pid: u32) -> Option<Self> {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        if fs::read_to_string(proc.join("comm")).ok()?.trim_end() != "containerd" || !same_root(&proc) {
            return None;
        }
        let arguments = Arguments::parse(&strings(&fs::read(proc.join("cmdline")).ok()?))?;
        let environment = strings(&fs::read(proc.join("environ")).ok()?);
        let path = environment.iter().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or_default();
        let program = fs::read_link(proc.join("exe")).ok()?;
        Some(Self {
            pid: Some(pid),
            // An upgrade has replaced the file since it was started.
            program: program.to_string_lossy().trim_end_matches(" (deleted)").into(),
            config: arguments.config.unwrap_or_else(|| CONFIG.into()),
            address: arguments.address,
            path: env::split_paths(path).filter(|folder| folder.is_absolute()).collect(),
            unit: unit(&fs::read_to_string(proc.join("cgroup")).unwrap_or_default()),
        })
    }

    /// Its version, from its binary.
    ///
    /// # Errors
    /// Where the binary does not say.
    pub(crate) fn version(&self) -> Result<Version> {
        let text = run::output(&self.program, &["--version"], QUICK)?;
        Version::parse(&text).with_context(|| format!("no version of containerd is in {:?}", text.trim()))
    }

    /// A program of its `PATH`, or one that is beside it.
    pub(crate) fn find(&self, name: &str) -> Option<PathBuf> {
        let beside = self.program.parent().map(Path::to_path_buf);
        find(name, &self.path).or_else(|| find(name, beside.as_slice()))
    }

    /// Its plugins that work, each as `type.id`, where it answers. Without a `ctr` on the node the list is empty.
    ///
    /// # Errors
    /// Where it does not answer at this socket.
    pub(crate) fn plugins(&self, address: &Path) -> Result<Vec<String>> {
        let Some(ctr) = self.find("ctr") else {
            UnixStream::connect(address).with_context(|| format!("connecting to {}", address.display()))?;
            return Ok(Vec::new());
        };
        let address = address.display().to_string();
        let list = run::output(&ctr, &["--address", &address, "plugins", "ls"], QUICK)?;
        Ok(working_plugins(&list))
    }

    /// When its process began.
    pub(crate) fn started(&self) -> Option<SystemTime> {
        let ticks = stat(self.pid?, STARTED)?;
        let boot = fs::read_to_string("/proc/stat").ok()?;
        let boot: u64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.parse().ok()?;
        let hertz = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??;
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(boot + ticks / u64::try_from(hertz).ok()?))
    }
}

impl fmt::Display for Containerd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = self.config.display();
        match self.pid {
            Some(pid) => write!(f, "process {pid} with {config}"),
            None => write!(f, "{} with {config}, not running", self.program.display()),
        }
    }
}

/// What of containerd's command line matters here.
#[derive(Debug, Default, PartialEq, Eq)]
struct Arguments {
    config: Option<PathBuf>,
    address: Option<PathBuf>,
}

impl Arguments {
    /// `None` for a containerd that is not a daemon but a command, such as the `publish` of a shim.
    fn parse(arguments: &[String]) -> Option<Self> {
        let mut parsed = Self::default();
        let mut rest = arguments.iter().skip(1);
        while let Some(argument) = rest.next() {
            let (name, value) =
                argument.split_once('=').map_or((argument.as_str(), None), |(n, v)| (n, Some(v)));
            let place = match name {
                "--config" | "-config" | "-c" => &mut parsed.config,
                "--address" | "-address" | "-a" => &mut parsed.address,
                "--version" | "-version" | "-v" | "--help" | "-h" => return None,
                "--log-level" | "-l" | "--root" | "--state" if value.is_none() => {
                    rest.next();
                    continue;
                }
                flag if flag.starts_with('-') => continue,
                _ => return None,
            };
            *place = value.map(PathBuf::from).or_else(|| rest.next().map(PathBuf::from));
        }
        Some(parsed)
    }
}

/// A version of containerd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u32, pub(crate) u32, pub(crate) u32);

impl Version {
    /// Reads the answer of `containerd --version`, also in Debian's and k3s' spelling.
    fn parse(text: &str) -> Option<Self> {
        text.split_whitespace().find_map(|word| {
            let mut parts = word.strip_prefix('v').unwrap_or(word).splitn(3, '.');
            let (major, minor, patch) = (parts.next()?, parts.next()?, parts.next()?);
            let patch: String = patch.chars().take_while(char::is_ascii_digit).collect();
            Some(Self(major.parse().ok()?, minor.parse().ok()?, patch.parse().ok()?))
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// Whether a process sees the file system that this one sees: one in a container is another node's.
pub(crate) fn same_root(proc: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).map(|data| (data.dev(), data.ino()));
    matches!((identity(&proc.join("root")), identity(Path::new("/"))), (Ok(theirs), Ok(ours)) if theirs == ours)
}

/// Without those that another has made: what containerd is about to run looks like containerd itself until its exec. Each is given
/// with its process and the one that made it.
fn without_children<T>(found: Vec<(u32, T, u64)>) -> Vec<T> {
    let processes: Vec<_> = found.iter().map(|(pid, ..)| u64::from(*pid)).collect();
    found
        .into_iter()
        .filter_map(|(_, containerd, parent)| (!processes.contains(&parent)).then_some(containerd))
        .collect()
}

/// A field of a process' `stat`, counted as in `proc_pid_stat(5)`; only those after the name, which may hold anything but a further
/// parenthesis behind it.
fn stat(pid: u32, field: usize) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(field.checked_sub(3)?)?.parse().ok()
}

/// The unit in a process' list of control groups.
fn unit(cgroups: &str) -> Option<String> {
    let units = cgroups.lines().filter_map(|line| line.rsplit('/').find(|part| part.ends_with(".service")));
    // Of the hierarchies, systemd's own is the one that is always right.
    let mut units: Vec<_> = units.collect();
    units.dedup();
    units.last().map(ToString::to_string)
}

fn working_plugins(list: &str) -> Vec<String> {
    list.lines()
        .filter_map(|line| {
            let columns: Vec<_> = line.split_whitespace().collect();
            let (kind, id, status) = (columns.first()?, columns.get(1)?, columns.last()?);
            (*status == "ok").then(|| format!("{kind}.{id}"))
        })
        .collect()
}

fn strings(bytes: &[u8]) -> Vec<String> {
    let parts = bytes.split(|byte| *byte == 0).filter(|part| !part.is_empty());
    parts.map(|part| OsString::from_vec(part.to_vec()).to_string_lossy().into_owned()).collect()
}

/// A file of this name that may be executed, in the first of these folders that has one.
fn find(name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    folders
        .iter()
        .map(|folder| folder.join(name))
        .find(|path| fs::metadata(path).is_ok_and(|data| data.is_file() && data.mode() & 0o111 != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_in_every_spelling() {
        let parse = |text| Version::parse(text).unwrap();
        assert_eq!(parse("containerd github.com/containerd/containerd/v2 v2.4.2 abc"), Version(2, 4, 2));
        let debian = "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3";
        assert_eq!(parse(debian), Version(1, 6, 20));
        assert_eq!(parse("containerd github.com/k3s-io/containerd v2.1.5-k3s1 "), Version(2, 1, 5));
        assert!(Version::parse("containerd is not here").is_none());
    }

    #[test]
    fn a_daemon_is_told_from_a_command() {
        let parse = |line: &str| Arguments::parse(&line.split(' ').map(Into::into).collect::<Vec<_>>());
        let of = |config: &str, address: &str| {
            Some(Arguments { config: Some(config.into()), address: Some(address.into()) })
        };
        assert_eq!(parse("containerd"), Some(Arguments::default()));
        assert_eq!(parse("containerd -l info -c /a --address=/b"), of("/a", "/b"));
        assert_eq!(
            parse("containerd -c /k3s/config.toml -a /run/k3s.sock --state /s"),
            of("/k3s/config.toml", "/run/k3s.sock")
        );
        assert_eq!(parse("containerd --config /a config dump"), None);
        assert_eq!(parse("containerd --address /b publish --topic x"), None);
        assert_eq!(parse("containerd --version"), None);
    }

    #[test]
    fn what_a_containerd_is_about_to_run_is_no_other() {
        assert_eq!(
            without_children(vec![(20, "child", 10), (10, "one", 1), (30, "other", 1)]),
            ["one", "other"]
        );
    }

    #[test]
    fn a_process_is_asked_who_made_it() {
        assert_eq!(stat(std::process::id(), PARENT), Some(std::os::unix::process::parent_id().into()));
        assert_eq!(stat(0, PARENT), None);
    }

    #[test]
    fn the_unit_is_the_one_of_systemds_hierarchy() {
        assert_eq!(unit("0::/system.slice/containerd.service\n").as_deref(), Some("containerd.service"));
        assert_eq!(
            unit("4:cpu:/\n1:name=systemd:/system.slice/k3s.service\n0::/\n").as_deref(),
            Some("k3s.service")
        );
        assert_eq!(unit("0::/user.slice/session.scope\n"), None);
    }

    #[test]
    fn plugins_that_work_are_told_from_those_that_do_not() {
        let list = "TYPE    ID   PLATFORMS  STATUS\nio.containerd.grpc.v1  cri  linux/amd64  ok\n\
                    io.containerd.snapshotter.v1  zfs  linux/amd64  skip\nio.containerd.grpc.v1  tasks  -  error\n";
        assert_eq!(working_plugins(list), ["io.containerd.grpc.v1.cri"]);
    }
}
