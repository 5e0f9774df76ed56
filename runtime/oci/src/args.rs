//! The command line, as runc has it: `runc(8)` and its pages are the reference for every flag.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

/// What `--version` prints after the name, in runc's form: Docker and Podman show it.
const VERSION: &str = concat!("version ", env!("CARGO_PKG_VERSION"), "\nspec: 1.2.0");

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "wisp-runtime", version = VERSION, about = "An OCI runtime for WebAssembly", long_about = None)]
pub struct Args {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags before the command.
#[derive(Debug, ClapArgs)]
pub struct Global {
    /// Log debug messages too
    #[arg(long, global = true)]
    pub debug: bool,
    /// Write the log to this file instead of stderr
    #[arg(long, global = true, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// How the log is written
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Where the state of containers is kept
    #[arg(long, global = true, default_value = "/run/wisp", value_name = "DIR")]
    pub root: PathBuf,
    /// Accepted as runc's; the cgroup driver is told by the form of cgroupsPath
    #[arg(long, global = true)]
    pub systemd_cgroup: bool,
    /// Accepted as runc's; only root can run containers
    #[arg(long, global = true, value_name = "auto|true|false")]
    pub rootless: Option<String>,
    /// End when this process does, which is the one that runs the command
    #[arg(long, global = true, hide = true, value_name = "PID")]
    pub die_with_parent: Option<i32>,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// `level=error msg="…"`.
    Text,
    /// One JSON object a line, which containerd reads.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a container; its process waits for `start`
    Create(Create),
    /// Run the process of a created container
    Start(Id),
    /// Create and start a container, and wait for it
    Run(Run),
    /// Print the state of a container
    State(Id),
    /// Send a signal to a container's process
    Kill(Kill),
    /// Delete a container that has stopped
    Delete(Delete),
    /// Run a further process in a container: Wasm or native
    Exec(Box<Exec>),
    /// List the processes of a container
    Ps(Ps),
    /// Stop every process of a container
    Pause(Id),
    /// Let the processes of a paused container go on
    Resume(Id),
    /// Change the limits of a container
    Update(Box<Update>),
    /// Print events and figures of a container
    Events(Events),
    /// Print what this runtime can do
    Features,
    /// List containers
    List(List),
    /// Write a configuration for a bundle
    Spec(Spec),
}

/// A container by its id.
#[derive(Debug, ClapArgs)]
pub struct Id {
    /// The container's id
    pub id: String,
}

/// `create`.
#[derive(Debug, ClapArgs)]
pub struct Create {
    /// The bundle's folder
    #[arg(short, long, default_value = ".", value_name = "DIR")]
    pub bundle: PathBuf,
    /// A Unix socket that receives the terminal
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// A file for the pid of the container's process
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Accepted as runc's: the root is changed by pivot_root only
    #[arg(long, hide = true)]
    pub no_pivot: bool,
    /// Accepted as runc's: no session keyring is made
    #[arg(long)]
    pub no_new_keyring: bool,
    /// The container's id
    pub id: String,
}

/// `run`.
#[derive(Debug, ClapArgs)]
pub struct Run {
    /// What `create` takes.
    #[command(flatten)]
    pub create: Create,
    /// Do not wait for the container
    #[arg(short, long)]
    pub detach: bool,
}

/// `kill`.
#[derive(Debug, ClapArgs)]
pub struct Kill {
    /// Send the signal to every process of the container
    #[arg(short, long)]
    pub all: bool,
    /// The container's id
    pub id: String,
    /// The signal, by name or number
    #[arg(default_value = "SIGTERM")]
    pub signal: String,
}

/// `delete`.
#[derive(Debug, ClapArgs)]
pub struct Delete {
    /// Kill the container if it still runs
    #[arg(short, long)]
    pub force: bool,
    /// The container's id
    pub id: String,
}

/// `exec`.
#[derive(Debug, ClapArgs)]
pub struct Exec {
    /// A Unix socket that receives the terminal
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// The working directory in the container
    #[arg(long)]
    pub cwd: Option<PathBuf>,
    /// An environment variable, NAME=value
    #[arg(short, long, value_name = "NAME=value")]
    pub env: Vec<String>,
    /// Give the process a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// The user, UID[:GID]
    #[arg(short, long)]
    pub user: Option<String>,
    /// A supplementary group
    #[arg(short = 'g', long)]
    pub additional_gids: Vec<u32>,
    /// A file with the process in the OCI spec's form
    #[arg(short, long, value_name = "FILE")]
    pub process: Option<PathBuf>,
    /// Do not wait for the process
    #[arg(short, long)]
    pub detach: bool,
    /// A file for the pid of the process
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// The AppArmor profile
    #[arg(long)]
    pub apparmor: Option<String>,
    /// The SELinux label
    #[arg(long)]
    pub process_label: Option<String>,
    /// Set no_new_privs
    #[arg(long)]
    pub no_new_privs: bool,
    /// Run also in a paused container
    #[arg(long)]
    pub ignore_paused: bool,
    /// The container's id
    pub id: String,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// `ps`.
#[derive(Debug, ClapArgs)]
pub struct Ps {
    /// The form of the list
    #[arg(short, long, value_enum, default_value_t = ListFormat::Table)]
    pub format: ListFormat,
    /// The container's id
    pub id: String,
    /// Options for ps(1)
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub ps_options: Vec<String>,
}

/// The form of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// `update`.
#[derive(Debug, ClapArgs)]
pub struct Update {
    /// A file with limits in the OCI spec's form; - is stdin
    #[arg(short, long, value_name = "FILE")]
    pub resources: Option<PathBuf>,
    /// Memory in bytes
    #[arg(long, allow_negative_numbers = true)]
    pub memory: Option<i64>,
    /// Memory in bytes that is kept when memory is short
    #[arg(long, allow_negative_numbers = true)]
    pub memory_reservation: Option<i64>,
    /// Memory and swap in bytes
    #[arg(long, allow_negative_numbers = true)]
    pub memory_swap: Option<i64>,
    /// The CPU period in microseconds
    #[arg(long)]
    pub cpu_period: Option<u64>,
    /// The CPU quota in microseconds
    #[arg(long, allow_negative_numbers = true)]
    pub cpu_quota: Option<i64>,
    /// The relative weight
    #[arg(long, visible_alias = "cpu-share")]
    pub cpu_shares: Option<u64>,
    /// The processors
    #[arg(long)]
    pub cpuset_cpus: Option<String>,
    /// The memory nodes
    #[arg(long)]
    pub cpuset_mems: Option<String>,
    /// The most processes
    #[arg(long, allow_negative_numbers = true)]
    pub pids_limit: Option<i64>,
    /// The container's id
    pub id: String,
}

/// `events`.
#[derive(Debug, ClapArgs)]
pub struct Events {
    /// Print the figures once and end
    #[arg(long)]
    pub stats: bool,
    /// The time between figures
    #[arg(long, default_value = "5s")]
    pub interval: humantime::Duration,
    /// The container's id
    pub id: String,
}

/// `list`.
#[derive(Debug, ClapArgs)]
pub struct List {
    /// The form of the list
    #[arg(short, long, value_enum, default_value_t = ListFormat::Table)]
    pub format: ListFormat,
    /// Print ids only
    #[arg(short, long)]
    pub quiet: bool,
}

/// `spec`.
#[derive(Debug, ClapArgs)]
pub struct Spec {
    /// The bundle's folder
    #[arg(short, long, default_value = ".", value_name = "DIR")]
    pub bundle: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_version_names_the_spec_that_is_followed() {
        assert!(VERSION.ends_with(crate::state::OCI_VERSION));
    }

    #[test]
    fn the_calls_that_containerd_makes_are_understood() {
        for call in [
            "--root /run/wisp/k8s.io --log /b/log.json --log-format json create --bundle /b --pid-file /b/init.pid c1",
            "--root /r --log /l --log-format json --systemd-cgroup create --bundle /b --console-socket /s c1",
            "--root /r --log /l --log-format json --die-with-parent 7 create --bundle /b --pid-file /b/init.pid c1",
            "--root /r kill --all c1 9",
            "--root /r exec --process /p --pid-file /f --detach c1",
            "--root /r update --resources - c1",
            "--root /r ps --format json c1",
            "--root /r delete --force c1",
        ] {
            Args::try_parse_from(std::iter::once("wisp-runtime").chain(call.split(' '))).unwrap();
        }
    }
}
