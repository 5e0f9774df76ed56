//! What a guest gets from its host: WASI and HTTP, as the plan grants them.

mod client;
#[cfg(test)]
mod given;
mod preopens;

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use anyhow::{Context, Result};
use wasmtime::component::{Linker, ResourceTable};
use wasmtime::{Engine, Store};
use wasmtime_wasi::filesystem::WasiFilesystemCtx;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{I32Exit, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView};
use wisp_contract::plan::Plan;

use crate::budget::{Budget, StoreBudget};
use crate::stdio::Output;

use client::Client;

/// What is made once for the process and given to each instance.
pub(crate) struct Host {
    args: Vec<String>,
    env: Vec<(String, String)>,
    cwd: String,
    /// Opened once; instances get clones.
    filesystem: WasiFilesystemCtx,
    client: Client,
    stdout: Output,
    stderr: Output,
    is_alone: bool,
}

impl Host {
    /// The host of a component. `is_alone` says that one instance has the process to itself and may block its thread.
    pub(crate) fn new(plan: &Plan, is_alone: bool) -> Result<Self> {
        let mut builder = WasiCtxBuilder::new();
        builder.allow_blocking_current_thread(is_alone);
        preopens::add(&mut builder, &plan.preopens)?;
        let env = environment(plan);
        let output = if is_alone { Output::blocking } else { Output::shared };
        Ok(Self {
            args: plan.args.clone(),
            client: Client::new(&env),
            env,
            cwd: plan.cwd.clone(),
            filesystem: builder.build().filesystem().clone(),
            stdout: output(stdio_fd(1)),
            stderr: output(stdio_fd(2)),
            is_alone,
        })
    }

    /// The guest's environment.
    pub(crate) fn env(&self) -> &[(String, String)] {
        &self.env
    }

    /// A store for one instance of a component.
    pub(crate) fn store(self: &Arc<Self>, engine: &Engine, budget: &Arc<Budget>) -> Store<Guest> {
        let mut builder = WasiCtxBuilder::new();
        grant(&mut builder, &self.args, &self.env, self.is_alone);
        builder.initial_cwd(&self.cwd).stdout(self.stdout.clone()).stderr(self.stderr.clone());
        let mut wasi = builder.build();
        wasi.filesystem().clone_from(&self.filesystem);
        let guest = Guest {
            wasi,
            table: ResourceTable::new(),
            http: WasiHttpCtx::new(),
            client: self.client.clone(),
            budget: StoreBudget::new(budget),
        };
        let mut store = Store::new(engine, guest);
        store.limiter(|guest| &mut guest.budget);
        store
    }
}

/// The host of a core module (WASI 0.1), which gets one instance and the process to itself. WASI 0.1 has no working
/// directory: relative paths begin at `/`.
pub(crate) fn module_store(engine: &Engine, plan: &Plan, budget: &Arc<Budget>) -> Result<Store<ModuleGuest>> {
    let mut builder = WasiCtxBuilder::new();
    grant(&mut builder, &plan.args, &environment(plan), true);
    builder.stdout(Output::blocking(stdio_fd(1))).stderr(Output::blocking(stdio_fd(2)));
    preopens::add(&mut builder, &plan.preopens)?;
    let guest = ModuleGuest { wasi: builder.build_p1(), budget: StoreBudget::new(budget) };
    let mut store = Store::new(engine, guest);
    store.limiter(|guest| &mut guest.budget);
    Ok(store)
}

/// What every guest gets: its arguments and environment, stdin, clocks and randomness (the defaults), and the network of its
/// namespace.
fn grant(builder: &mut WasiCtxBuilder, args: &[String], env: &[(String, String)], is_alone: bool) {
    builder
        .args(args)
        .envs(env)
        .inherit_stdin()
        .inherit_network()
        .allow_tcp(true)
        .allow_udp(true)
        .allow_ip_name_lookup(true)
        .allow_blocking_current_thread(is_alone);
}

/// The plan's environment. As in a shell, the last of two values of one name counts; what has no `=` has no value.
fn environment(plan: &Plan) -> Vec<(String, String)> {
    let mut env: Vec<(String, String)> = Vec::with_capacity(plan.env.len());
    for entry in &plan.env {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        match env.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => value.clone_into(known),
            None => env.push((name.to_owned(), value.to_owned())),
        }
    }
    env
}

fn stdio_fd(fd: i32) -> BorrowedFd<'static> {
    // SAFETY: nothing in this process closes descriptors 0, 1 and 2.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// The state of one instance of a component.
pub(crate) struct Guest {
    wasi: WasiCtx,
    table: ResourceTable,
    http: WasiHttpCtx,
    client: Client,
    budget: StoreBudget,
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let hooks: &mut dyn WasiHttpHooks = &mut self.client;
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks }
    }
}

/// The state of the one instance of a core module.
pub(crate) struct ModuleGuest {
    wasi: WasiP1Ctx,
    budget: StoreBudget,
}

/// A linker with the interfaces that a program with these imports may want, in each version that Wasmtime serves. Those
/// that no import names are left out, because they take longer to link than to run a small program.
pub(crate) fn linker(engine: &Engine, imports: &[String]) -> Result<Linker<Guest>> {
    let wants = |package: &str, version: &str| {
        imports.iter().any(|name| name.starts_with(package) && name.contains(version))
    };
    let mut linker = Linker::new(engine);
    (|| {
        if wants("wasi:", "@0.2.") {
            wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        }
        if wants("wasi:", "@0.3.") {
            wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        }
        if wants("wasi:http/", "@0.2.") {
            wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
        }
        if wants("wasi:http/", "@0.3.") {
            wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
        }
        Ok(())
    })()
    .map_err(|error: wasmtime::Error| anyhow::Error::from(error))
    .context("the host's interfaces could not be linked")?;
    Ok(linker)
}

/// A linker with WASI 0.1 for a core module.
pub(crate) fn module_linker(engine: &Engine) -> Result<wasmtime::Linker<ModuleGuest>> {
    let mut linker = wasmtime::Linker::new(engine);
    wasmtime_wasi::p1::add_to_linker_async(&mut linker, |guest: &mut ModuleGuest| &mut guest.wasi)?;
    // Wasmtime's own takes codes from 126 for traps.
    linker.allow_shadowing(true);
    linker.func_wrap("wasi_snapshot_preview1", "proc_exit", |code: i32| -> wasmtime::Result<()> {
        Err(I32Exit(code).into())
    })?;
    Ok(linker)
}
