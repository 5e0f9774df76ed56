//! `wisp run`: a guest here and now, without containerd and without root.
//!
//! The program goes the way that it goes in a pod: compiled through the cache ([`source`]), then a [`Plan`] at descriptor 3 of
//! `wisp-guest` ([`guest`]), which runs it with the same engine, limits, messages and exit codes. There are no namespaces and no
//! cgroup: what the guest reaches is what the plan names ([`options`]).

mod guest;
mod options;
pub(crate) mod source;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};
use wisp_cache::Cache;
use wisp_config::Config;
use wisp_contract::plan::{Entry, HttpSettings};

pub(crate) use options::Args;

/// Why the guest did not run; docker's exit codes.
pub(crate) enum Failure {
    /// Wisp or its options are at fault.
    Wisp(anyhow::Error),
    /// The program cannot be run.
    NotRunnable(anyhow::Error),
    /// There is no such program.
    NotFound(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Wisp(error)
    }
}

impl From<Failure> for anyhow::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Wisp(error) | Failure::NotRunnable(error) | Failure::NotFound(error) => error,
        }
    }
}

/// Runs the guest to its end: its own exit code, or 125, 126 or 127 with one sentence on stderr.
pub(crate) fn run(args: &Args) -> ExitCode {
    let (code, error) = match start(args) {
        Ok(code) => return ExitCode::from(code),
        Err(Failure::Wisp(error)) => (125, error),
        Err(Failure::NotRunnable(error)) => (126, error),
        Err(Failure::NotFound(error)) => (127, error),
    };
    writeln!(io::stderr(), "wisp: {error:#}").ok();
    ExitCode::from(code)
}

fn start(args: &Args) -> Result<u8, Failure> {
    let (file, export) = args.program();
    let mut wasm = source::open(file)?;
    let config = Config::load().context("the configuration")?;
    let cache = Cache::of(&config).context("the cache")?;
    let compiled = match cache.program(&mut wasm) {
        Err(error @ wisp_cache::Error::Compile(_)) => {
            return Err(Failure::NotRunnable(anyhow::Error::from(error).context(file.to_owned())));
        }
        compiled => compiled.with_context(|| file.to_owned())?,
    };
    let entry =
        Entry::of(export, &compiled.facts, file).map_err(|error| Failure::NotRunnable(error.into()))?;
    let serves = (entry == Entry::Http).then(|| args.listen()).transpose()?;
    let guest = guest::Guest {
        name: file.to_owned(),
        serves,
        entry,
        compiled,
        env: args.environment()?,
        volumes: args.volumes()?,
        // The delay is for load balancers that still send requests, and here there is none.
        http: HttpSettings {
            address: serves.and_then(|listen| listen.address),
            drain_delay_ms: 0,
            ..config.http.settings()
        },
    };
    guest.run(args)
}
