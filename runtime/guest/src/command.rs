//! Programs that run to completion: WASI 0.1 modules, and components that export `wasi:cli/run`.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use tokio::runtime::Runtime;
use wasmtime::component::Component;
use wasmtime::{Module, Store};
use wasmtime_wasi::{I32Exit, p2, p3};
use wisp_contract::counters::Counter;
use wisp_contract::facts::Kind;

use crate::host::{self, Host, ModuleGuest};
use crate::parts::{Parts, Run, describe, not_given};

/// `_start` of a WASI 0.1 module.
pub(crate) fn module(parts: &Parts<'_>, module: &Module) -> Result<Run> {
    if module.get_export("_start").is_none() {
        bail!(
            "{} is {}; a module that exports _start was expected: build it as a program, or name the export to call \
             (file.wasm#export)",
            parts.plan.program.path,
            describe(parts.plan.program.facts.kind)
        );
    }
    let (runtime, mut store, linked) = link_module(parts, module)?;
    let (end, budget) = (parts.end()?, Arc::clone(&parts.budget));
    Ok(Box::new(move |start| {
        start.wait();
        let result = runtime.block_on(async {
            budget.counters().add(Counter::Instances, 1);
            let instance = linked.instantiate_async(&mut store).await?;
            let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
            start.call_async(&mut store, ()).await
        });
        end.exit(result, runtime)
    }))
}

/// `wasi:cli/run` of a component.
pub(crate) fn component(parts: &Parts<'_>, kind: Kind, component: &Component) -> Result<Run> {
    let host = Arc::new(Host::new(parts.plan, true)?);
    let linked = parts.link(component)?;
    let (runtime, mut store) = (runtime()?, host.store(&parts.engine, &parts.budget));
    never_interrupted(&mut store);
    let (end, budget) = (parts.end()?, Arc::clone(&parts.budget));
    match kind {
        Kind::Command02 => {
            let linked = p2::bindings::CommandPre::new(linked)?;
            Ok(Box::new(move |start| {
                start.wait();
                let result = runtime.block_on(async {
                    budget.counters().add(Counter::Instances, 1);
                    let command = linked.instantiate_async(&mut store).await?;
                    command.wasi_cli_run().call_run(&mut store).await
                });
                end.exit(result.and_then(end_of_run), runtime)
            }))
        }
        Kind::Command03 => {
            let linked = p3::bindings::CommandPre::new(linked)?;
            Ok(Box::new(move |start| {
                start.wait();
                let result = runtime.block_on(async {
                    budget.counters().add(Counter::Instances, 1);
                    let command = linked.instantiate_async(&mut store).await?;
                    store.run_concurrent(async |store| command.wasi_cli_run().call_run(store).await).await?
                });
                end.exit(result.and_then(end_of_run), runtime)
            }))
        }
        Kind::Http02 | Kind::Http03 | Kind::ComponentLibrary | Kind::Module | Kind::ModuleLibrary => bail!(
            "{} is {}; a component that exports wasi:cli/run was expected: build it as a program, or name the export to \
             call (file.wasm#export)",
            parts.plan.program.path,
            describe(kind)
        ),
    }
}

/// A module with WASI 0.1, its store, and the runtime that drives its host calls.
pub(crate) fn link_module(
    parts: &Parts<'_>,
    module: &Module,
) -> Result<(Runtime, Store<ModuleGuest>, wasmtime::InstancePre<ModuleGuest>)> {
    let linker = host::module_linker(&parts.engine)?;
    let mut store = host::module_store(&parts.engine, parts.plan, &parts.budget)?;
    never_interrupted(&mut store);
    let linked = linker.instantiate_pre(module).map_err(|error| {
        let missing = module.imports().filter(|import| linker.get_by_import(&mut store, import).is_none());
        let names: Vec<_> = missing.map(|import| format!("{}::{}", import.module(), import.name())).collect();
        not_given(&parts.plan.program.path, names.iter().map(String::as_str), &anyhow::Error::from(error))
    })?;
    Ok((runtime()?, store, linked))
}

/// A guest that has the process to itself runs until it ends; only profiles made for services check for more.
pub(crate) fn never_interrupted<T>(store: &mut Store<T>) {
    store.set_epoch_deadline(u64::MAX / 2);
}

/// The runtime of a guest that has the process to itself: this thread.
pub(crate) fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the reactor for host calls could not be made")
}

/// `wasi:cli/run` says with its result whether it failed, without a code.
fn end_of_run(result: Result<(), ()>) -> wasmtime::Result<()> {
    result.map_err(|()| I32Exit(1).into())
}
