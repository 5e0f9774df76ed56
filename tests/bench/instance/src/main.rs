//! `instance-floor CODE FACTS COUNT`: makes and drops so many instances of a compiled component, one after another, by Wasmtime's own
//! API alone, and prints how many microseconds of processor time each took.
//!
//! The engine is a service's own, with its pool; the component's imports lead nowhere, because nothing of it is called.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context, Result, anyhow, ensure};
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Engine, Store};
use wisp_contract::facts::Facts;
use wisp_engine::{Demands, Profile, runner};

#[global_allocator]
static HEAP: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many instances a service keeps room for by default.
const POOL: u32 = 256;
/// Where the processor time of this thread is, in nanoseconds: `Documentation/scheduler/sched-stats.rst` of Linux.
const CLOCK: &str = "/proc/thread-self/schedstat";

fn main() -> Result<()> {
    let args: Vec<_> = env::args().skip(1).collect();
    let [code, facts, count] = args.as_slice() else {
        return Err(anyhow!("usage: instance-floor CODE FACTS COUNT"));
    };
    let count: u32 = count.parse().with_context(|| format!("{count:?} is not a count"))?;
    ensure!(count > 0, "a count of 1 or more is needed");
    let instances = load(Path::new(code), Path::new(facts))?;
    // The pool's slots are as warm as in a service that has run for a while.
    make(&instances, count)?;
    let before = processor_time()?;
    make(&instances, count)?;
    let each = (processor_time()? - before) / count;
    writeln!(io::stdout(), "{}", each.as_secs_f64() * 1e6).context("the time could not be printed")
}

fn load(code: &Path, facts: &Path) -> Result<InstancePre<()>> {
    let facts: Facts = serde_json::from_slice(&fs::read(facts)?).context("the facts")?;
    let profile: Profile = facts.profile.parse().map_err(anyhow::Error::msg)?;
    let engine: Engine = runner(profile, Demands::Pool(&facts, POOL))?;
    // SAFETY: the bench has had this file compiled for this run, and nothing else writes to it.
    let component = unsafe { Component::deserialize_file(&engine, code) }?;
    let mut linker = Linker::new(&engine);
    linker.define_unknown_imports_as_traps(&component)?;
    Ok(linker.instantiate_pre(&component)?)
}

fn make(instances: &InstancePre<()>, count: u32) -> Result<()> {
    for _ in 0..count {
        let mut store = Store::new(instances.engine(), ());
        store.set_epoch_deadline(1);
        instances.instantiate(&mut store)?;
    }
    Ok(())
}

fn processor_time() -> Result<Duration> {
    let clock = fs::read_to_string(CLOCK).context(CLOCK)?;
    let nanoseconds = clock.split_whitespace().next().context(CLOCK)?.parse().context(CLOCK)?;
    Ok(Duration::from_nanos(nanoseconds))
}
