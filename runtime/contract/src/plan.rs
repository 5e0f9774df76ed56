//! The plan: everything that a guest process is to do, handed over by `wisp-runtime` when it execs `wisp-guest`.
//!
//! The plan is JSON in a sealed memfd, open at [`PLAN_FD`]. All other descriptors that the guest process owns are named
//! by number in the plan; 0, 1 and 2 are the container's stdio. The guest process reads no environment and no argument:
//! its command line is only for people who look at `ps`.

use std::net::IpAddr;
use std::os::fd::RawFd;

use serde::{Deserialize, Serialize};

use crate::facts::{Facts, Kind};

/// The descriptor at which the guest process finds its plan.
pub const PLAN_FD: RawFd = 3;

/// What one guest process runs, and with what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The container's id, for messages.
    pub id: String,
    /// The program and its compiled code.
    pub program: Program,
    /// What of the program is called.
    pub entry: Entry,
    /// The guest's arguments; the first is the program's name, as in the OCI spec's `process.args`.
    pub args: Vec<String>,
    /// The guest's environment as `NAME=value`, as in the OCI spec's `process.env`.
    pub env: Vec<String>,
    /// The guest's working directory, an absolute path in the container.
    pub cwd: String,
    /// The directories and files that the guest can open.
    pub preopens: Vec<Preopen>,
    /// The container's memory limit in bytes; the guest's budget is this less a reserve for the process itself.
    #[serde(default)]
    pub memory_limit: Option<u64>,
    /// The container's CPU quota in processors (quota divided by period); sizes the thread pool of a service.
    #[serde(default)]
    pub cpus: Option<f64>,
    /// How an HTTP service serves.
    #[serde(default)]
    pub http: HttpSettings,
    /// A listening `SOCK_STREAM` Unix socket for [`crate::control`]; absent for processes of `exec`.
    #[serde(default)]
    pub control_fd: Option<RawFd>,
    /// A file of at least one page for [`crate::counters`]; absent for processes of `exec`.
    #[serde(default)]
    pub counters_fd: Option<RawFd>,
    /// A proc file system in which the process finds itself: the container's, or one that is mounted nowhere. Wasmtime maps a
    /// component only from a path, which is then `self/fd/…` in it; the guest process closes it before any guest runs.
    /// Without it, `/proc` is tried, and then the code is copied.
    #[serde(default)]
    pub proc_fd: Option<RawFd>,
    /// The container's termination log (a pod's `terminationMessagePath`), open for writing: a trap is explained there too.
    #[serde(default)]
    pub termination_log: Option<RawFd>,
    /// The write end of a pipe, to which the guest process writes one [`Report`] and which it then closes.
    pub report_fd: RawFd,
    /// After the report, wait for [`crate::control::Request::Start`] before the guest's first instruction.
    pub wait_for_start: bool,
}

/// A program that has been compiled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// The program's path as the image names it, for messages and for `argv[0]` of the process.
    pub path: String,
    /// The compiled code, open for reading. It is to be mapped, not copied.
    pub code_fd: RawFd,
    /// What is known about the program.
    pub facts: Facts,
}

/// What of a program is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// `_start` of a module, or `wasi:cli/run` of a component: runs to completion.
    Command,
    /// `wasi:http/incoming-handler` (0.2) or `wasi:http/handler` (0.3): serves until it is told to stop.
    Http,
    /// One export, named after the `#` of `file.wasm#export`, called with the arguments after the first.
    Export(String),
}

/// A program with nothing to call.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path} has no entry: it exports {exports}; expected _start, wasi:cli/run or a wasi:http handler; name an export as \
     {path}#EXPORT"
)]
pub struct NoEntry {
    path: String,
    exports: String,
}

impl Entry {
    /// What is called of the program at `path`: the export that was named, or what its kind runs by default.
    ///
    /// # Errors
    /// Where nothing was named and there is no default.
    pub fn of(export: Option<String>, facts: &Facts, path: &str) -> Result<Self, NoEntry> {
        match (export, facts.kind) {
            (Some(export), _) => Ok(Self::Export(export)),
            (None, Kind::Module | Kind::Command02 | Kind::Command03) => Ok(Self::Command),
            (None, Kind::Http02 | Kind::Http03) => Ok(Self::Http),
            (None, Kind::ModuleLibrary | Kind::ComponentLibrary) => {
                Err(NoEntry { path: path.to_owned(), exports: names(facts) })
            }
        }
    }
}

/// The first few exports, for messages.
fn names(facts: &Facts) -> String {
    match facts.exports.as_slice() {
        [] => "nothing".into(),
        exports => {
            let names: Vec<_> = exports.iter().take(8).map(|export| export.name.as_str()).collect();
            format!("{}{}", names.join(", "), if exports.len() > names.len() { ", …" } else { "" })
        }
    }
}

/// One directory that a guest can open; mounted files are in the directory that they belong to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preopen {
    /// The absolute path at which the guest sees it, as it was asked for in the spec.
    pub guest_path: String,
    /// A descriptor of a detached clone of one mount, without submounts (never of proc, sysfs or the like).
    pub fd: RawFd,
    /// Whether the guest may write.
    pub writable: bool,
}

/// How an HTTP service serves; the defaults are those of the node's configuration (`docs/configuration.md`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpSettings {
    /// The address to listen on; all of this network namespace if there is none.
    pub address: Option<IpAddr>,
    /// How long a service goes on accepting after SIGTERM, in milliseconds.
    pub drain_delay_ms: u64,
    /// How long requests in flight may take to finish after that, in milliseconds.
    pub drain_timeout_ms: u64,
    /// How long a client may take to send a request's headers, in milliseconds.
    pub header_timeout_ms: u64,
    /// How long a kept-alive connection may be idle, in milliseconds.
    pub idle_timeout_ms: u64,
    /// How long one request may take from its headers to its response's end, in milliseconds.
    pub request_timeout_ms: u64,
    /// Connections at one time; further ones wait in the kernel's queue.
    pub max_connections: u32,
    /// Requests at one time over all connections; further ones wait.
    pub max_requests: u32,
    /// Requests that one instance of a WASI 0.2 service may serve, one after another; 1 gives each a fresh one.
    pub requests_per_instance: u32,
    /// Streams at one time on one HTTP/2 connection.
    pub max_streams: u32,
    /// Bytes of a request's headers; longer ones are answered 431.
    pub max_header_bytes: u32,
    /// Bytes of a request's body; longer ones are answered 413.
    pub max_body_bytes: u64,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            address: None,
            drain_delay_ms: 3_000,
            drain_timeout_ms: 25_000,
            header_timeout_ms: 10_000,
            idle_timeout_ms: 75_000,
            request_timeout_ms: 60_000,
            max_connections: 10_000,
            max_requests: 256,
            requests_per_instance: 1,
            max_streams: 100,
            max_header_bytes: 64 << 10,
            max_body_bytes: 1 << 30,
        }
    }
}

/// What a guest process says on [`Plan::report_fd`] once it has loaded its program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// The program is loaded and linked; nothing is missing.
    Ready,
    /// The program cannot run: one sentence with what was found, what was expected and what to do.
    Failed(String),
}
