//! Loading compiled code: mapped from its file, so that the processes of one image share its pages.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use wasmtime::Module;
use wasmtime::component::Component;
use wisp_contract::plan::{Entry, Plan};
use wisp_engine::{Demands, Engine, Profile, runner};

use crate::plan_in::own;

/// A loaded program.
pub(crate) enum Code {
    /// A core module.
    Module(Module),
    /// A component.
    Component(Component),
}

/// An engine of the profile that the program was compiled for, and the program in it.
pub(crate) fn load(plan: &Plan) -> Result<(Engine, Code)> {
    let facts = &plan.program.facts;
    let profile: Profile = facts.profile.parse().map_err(anyhow::Error::msg)?;
    let file = File::from(own(plan.program.code_fd).context("the plan's compiled code")?);
    let proc = plan.proc_fd.map(own).transpose().context("the plan's proc")?;

    if plan.entry == Entry::Http {
        // A program that a pool cannot hold is served without one, never refused.
        let demands = Demands::Pool(facts, pool_size(plan));
        if let Ok(engine) = runner(profile, demands)
            && let Ok(code) = load_into(&engine, facts.kind.is_module(), &file, proc.as_ref())
        {
            return Ok((engine, code));
        }
    }
    let engine = runner(profile, Demands::Few)?;
    let code = load_into(&engine, facts.kind.is_module(), &file, proc.as_ref()).map_err(|error| {
        anyhow!(
            "the compiled code of {} cannot be loaded ({error:#}); code that this version of Wisp compiled on this node \
             was expected: remove the node's cache (/var/cache/wisp) so that it is compiled again",
            plan.program.path
        )
    })?;
    Ok((engine, code))
}

/// How many instances to keep room for: as many as requests may run at one time, or as fit into the memory limit (twice,
/// because it may be raised). Room costs half a kilobyte each, of every idle service.
fn pool_size(plan: &Plan) -> u32 {
    let one = plan.program.facts.memories.iter().map(|memory| memory.minimum).sum::<u64>().max(64 << 10);
    let fit = plan.memory_limit.filter(|limit| *limit > 0).map_or(u64::MAX, |limit| 2 * limit / one + 1);
    plan.http.max_requests.min(u32::try_from(fit).unwrap_or(u32::MAX)).max(1)
}

fn load_into(
    engine: &Engine,
    is_module: bool,
    file: &File,
    proc: Option<&OwnedFd>,
) -> wasmtime::Result<Code> {
    let mapped = if is_module {
        file.try_clone().map_err(wasmtime::Error::from).and_then(|file| {
            // SAFETY: the code was compiled by `wisp-compiler`, its file is root's and is never written again, and
            // `wisp-runtime` has checked it before it handed over the descriptor.
            unsafe { Module::deserialize_open_file(engine, file) }.map(Code::Module)
        })
    } else {
        map_component(engine, file, proc).map(Code::Component)
    };
    mapped.or_else(|error| copy(engine, is_module, file).map_err(|_| error))
}

/// Maps a component, for which Wasmtime 48 wants a path: the descriptor's name in a proc file system.
fn map_component(engine: &Engine, file: &File, proc: Option<&OwnedFd>) -> wasmtime::Result<Component> {
    let name = format!("self/fd/{}", file.as_raw_fd());
    let path = match proc {
        Some(proc) => {
            rustix::process::fchdir(proc)?;
            PathBuf::from(name)
        }
        None => Path::new("/proc").join(name),
    };
    // SAFETY: as for modules above.
    let component = unsafe { Component::deserialize_file(engine, path) };
    if proc.is_some() {
        rustix::process::chdir("/")?;
    }
    component
}

/// Code on a file system that is mounted noexec, or out of any proc's sight, is copied: it runs as well and shares nothing.
fn copy(engine: &Engine, is_module: bool, file: &File) -> wasmtime::Result<Code> {
    let mut bytes = Vec::new();
    rustix::fs::seek(file, rustix::fs::SeekFrom::Start(0))?;
    (&*file).read_to_end(&mut bytes)?;
    // SAFETY: as for modules above.
    unsafe {
        if is_module {
            Module::deserialize(engine, bytes).map(Code::Module)
        } else {
            Component::deserialize(engine, bytes).map(Code::Component)
        }
    }
}
