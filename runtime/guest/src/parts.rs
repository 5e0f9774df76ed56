//! What the ways to run a program are made from, and what they say of a program that none of them can run.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use tokio::sync::watch;
use wasmtime::component::{Component, InstancePre};
use wisp_contract::facts::Kind;
use wisp_contract::given;
use wisp_contract::plan::Plan;
use wisp_engine::Engine;

use crate::budget::Budget;
use crate::control::Start;
use crate::exit::End;
use crate::host::{self, Guest};

/// How a prepared guest is run, which waits for the start before the guest's first instruction.
pub(crate) type Run = Box<dyn FnOnce(Start) -> ExitCode>;

/// What the ways to run a program are made from.
pub(crate) struct Parts<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) engine: Engine,
    pub(crate) budget: Arc<Budget>,
    pub(crate) cpus: watch::Sender<Option<f64>>,
}

impl Parts<'_> {
    /// The end of a guest that has the process to itself.
    pub(crate) fn end(&self) -> Result<End> {
        End::new(self.plan, &self.budget)
    }

    /// The program's name in messages.
    pub(crate) fn program(&self) -> String {
        self.plan.program.path.clone()
    }

    /// Links a component; what nobody gives is named.
    pub(crate) fn link(&self, component: &Component) -> Result<InstancePre<Guest>> {
        let linker = host::linker(&self.engine, &self.plan.program.facts.imports)?;
        linker.instantiate_pre(component).map_err(|error| {
            let imports = &self.plan.program.facts.imports;
            let missing = imports.iter().filter(|name| !given::to_components(name));
            not_given(&self.plan.program.path, missing.map(String::as_str), &anyhow::Error::from(error))
        })
    }
}

/// The sentence for imports that nobody gives.
pub(crate) fn not_given<'a>(
    program: &str,
    missing: impl Iterator<Item = &'a str>,
    error: &anyhow::Error,
) -> anyhow::Error {
    let missing: Vec<_> = missing.collect();
    let what = if missing.is_empty() { format!("{error:#}") } else { missing.join(", ") };
    anyhow!(
        "{program} imports what nobody gives it ({what}); {} was expected: build it for those, or compose it with the \
         component that it needs",
        given::IN_WORDS
    )
}

/// A kind in words.
pub(crate) fn describe(kind: Kind) -> &'static str {
    match kind {
        Kind::Module => "a WASI 0.1 module",
        Kind::Command02 | Kind::Command03 => "a command",
        Kind::Http02 | Kind::Http03 => "an HTTP service",
        Kind::ModuleLibrary => "a module without _start",
        Kind::ComponentLibrary => "a component without wasi:cli/run",
    }
}
