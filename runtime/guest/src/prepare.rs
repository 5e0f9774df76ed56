//! From the plan to something that can run: everything that can fail before the guest's first instruction fails here.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use tokio::sync::watch;
use wisp_contract::counters::Counters;
use wisp_contract::facts::Kind;
use wisp_contract::plan::{Entry, Plan};

use crate::budget::Budget;
use crate::control::Start;
use crate::load::{self, Code};
use crate::parts::{Parts, Run, describe};
use crate::plan_in::own;
use crate::{command, export, http};

/// A program that is ready to run.
pub(crate) struct Work {
    /// The process's memory budget and counters.
    pub(crate) budget: Arc<Budget>,
    /// The container's quota of processors, as it changes.
    pub(crate) cpus: watch::Sender<Option<f64>>,
    run: Run,
}

impl Work {
    /// Runs the guest to its end, from `start` on.
    pub(crate) fn run(self, start: Start) -> ExitCode {
        (self.run)(start)
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
    let run = match (&plan.entry, plan.program.facts.kind, code) {
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
