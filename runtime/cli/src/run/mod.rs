//! `wisp run`: a guest here and now, without containerd and without root.
//!
//! The program is a file or an image's ([`crate::program`]). It goes the way that it goes in a pod: compiled through the cache, then a [`Plan`] at descriptor 3 of
//! `wisp-guest` ([`guest`]), which runs it with the same engine, limits, messages and exit codes. There are no namespaces and no
//! cgroup: what the guest reaches is what the plan names ([`options`]).

mod guest;
mod options;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use wisp_cache::Cache;
use wisp_config::Config;
use wisp_contract::plan::{Entry, HttpSettings};

use crate::program::{Failure, Program};
pub(crate) use options::Args;
use options::Volume;

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
    let (name, export) = args.program();
    let mut program = Program::open(name, &args.origin, &args.args, args.workdir.as_deref())?;
    let name = &program.name;
    let config = Config::load().context("the configuration")?;
    let cache = Cache::of(&config).context("the cache")?;
    let compiled = match cache.program(&mut program.wasm) {
        Err(error @ wisp_cache::Error::Compile(_)) => {
            return Err(Failure::NotRunnable(anyhow::Error::from(error).context(name.to_owned())));
        }
        compiled => compiled.with_context(|| name.to_owned())?,
    };
    let entry = Entry::of(export.or(program.export), &compiled.facts, name)
        .map_err(|error| Failure::NotRunnable(error.into()))?;
    let serves = (entry == Entry::Http).then(|| args.listen(&program.env)).transpose()?;
    if let Some(warning) = args.unkept_processors(serves.is_some()) {
        writeln!(io::stderr(), "wisp: {warning}").ok();
    }
    let root = program.root.iter().map(|root| Volume::root(root.path()));
    let guest = guest::Guest {
        serves,
        entry,
        compiled,
        env: args.environment(program.env)?,
        volumes: root.chain(args.volumes()?).collect(),
        args: std::iter::once(program.name).chain(program.args).collect(),
        workdir: args.workdir(program.workdir)?,
        // The delay is for load balancers that still send requests, and here there is none.
        http: HttpSettings {
            address: serves.and_then(|listen| listen.address),
            drain_delay_ms: 0,
            ..config.http.settings()
        },
    };
    guest.run(args)
}
