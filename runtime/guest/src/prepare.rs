//! From the plan to something that can run: everything that can fail before the guest's first instruction fails here.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use tokio::sync::watch;
use wasmtime::component::{Component, InstancePre};
use wisp_contract::counters::Counters;
use wisp_contract::facts::Kind;
use wisp_contract::given;
use wisp_contract::plan::{Entry, Plan};
use wisp_engine::Engine;

use crate::budget::Budget;
use crate::exit::End;
use crate::host::{self, Guest};
use crate::load::{self, Code};
use crate::plan_in::own;
use crate::{command, export, http};

/// A program that is ready to run.
pub(crate) struct Work {
    /// The process's memory budget and counters.
    pub(crate) budget: Arc<Budget>,
    /// The container's quota of processors, as it changes.
    pub(crate) cpus: watch::Sender<Option<f64>>,
    run: Box<dyn FnOnce() -> ExitCode>,
}

impl Work {
    /// Runs the guest to its end.
    pub(crate) fn run(self) -> ExitCode {
        (self.run)()
    }
}

/// Loads and links the plan's program, and checks what is to be called.
///
/// # Errors
/// One sentence for whoever creates the container: what was found, what was expected, what to do.
pub(crate) fn prepare(plan: &Plan) -> Result<Work> {
    let counters = match plan.counters_fd {
        Some(fd) => Counters::map(own(fd)?).context("the page of counters")?,
        None => Counters::private(),
    };
    let budget = Budget::new(plan.memory_limit, counters);
    check_memory(plan, &budget)?;
    let (engine, code) = load::load(plan)?;
    let cpus = watch::Sender::new(plan.cpus);
    let parts = Parts { plan, engine, budget: Arc::clone(&budget), cpus: cpus.clone() };
    let run: Box<dyn FnOnce() -> ExitCode> = match (&plan.entry, plan.program.facts.kind, code) {
        (Entry::Command, _, Code::Module(module)) => command::module(&parts, &module)?,
        (Entry::Command, kind, Code::Component(component)) => command::component(&parts, kind, &component)?,
        (Entry::Http, Kind::Http02 | Kind::Http03, Code::Component(component)) => {
            http::service(&parts, &component)?
        }
        (Entry::Http, kind, _) => bail!(
            "{} is {} and not an HTTP service; a component that exports wasi:http/incoming-handler (0.2) or \
             wasi:http/handler (0.3) was expected",
            plan.program.path,
            describe(kind)
        ),
        (Entry::Export(name), _, Code::Module(module)) => export::module(&parts, &module, name)?,
        (Entry::Export(name), _, Code::Component(component)) => export::component(&parts, &component, name)?,
    };
    Ok(Work { budget, cpus, run })
}

/// A program whose memory does not fit at its start never will, unless the limit is raised.
fn check_memory(plan: &Plan, budget: &Budget) -> Result<()> {
    let wanted: u64 = plan.program.facts.memories.iter().map(|memory| memory.minimum).sum();
    match budget.what_fits() {
        Some(fits) if wanted > fits => bail!(
            "{} begins with {} KiB of memory and the container's memory limit leaves it {} KiB; raise the limit \
             (resources.limits.memory), or build it with a smaller memory",
            plan.program.path,
            wanted >> 10,
            fits >> 10
        ),
        _ => Ok(()),
    }
}

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

/// Fails unless the program has the export that is to be called; says which it has.
pub(crate) fn no_such_export(plan: &Plan, name: &str) -> anyhow::Error {
    let callable: Vec<_> =
        plan.program.facts.exports.iter().filter(|export| export.signature.is_some()).collect();
    let listed = callable.iter().take(10).map(|export| export.name.as_str()).collect::<Vec<_>>().join(", ");
    let more = if callable.len() > 10 { ", …" } else { "" };
    anyhow!("{} has no function {name:?}; one of its exports was expected: {listed}{more}", plan.program.path)
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

/// Checks a count of arguments against a signature.
pub(crate) fn check_count(name: &str, signature: &str, given: usize, wanted: usize) -> Result<()> {
    ensure!(
        given == wanted,
        "{name} is {signature} and was given {given} argument{}; {wanted} were expected",
        if given == 1 { "" } else { "s" }
    );
    Ok(())
}
