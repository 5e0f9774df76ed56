//! `update`: a container's limits, in the kernel and in the guest.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use oci_spec::runtime::{
    LinuxCpu, LinuxCpuBuilder, LinuxMemory, LinuxMemoryBuilder, LinuxPids, LinuxPidsBuilder, LinuxResources,
    LinuxResourcesBuilder, Spec,
};
use tracing::warn;
use wisp_contract::control::Request;

use crate::args;
use crate::program;
use crate::state::{Container, Status};

/// Changes the limits that the arguments name; the others stay.
pub(super) fn run(root: &Path, args: &args::Update) -> Result<()> {
    let container = Container::load(root, &args.id)?;
    let status = container.status();
    ensure!(status != Status::Stopped, "container not running");
    let asked = match &args.resources {
        Some(path) => read(path)?,
        None => of_flags(args)?,
    };
    container.cgroup()?.apply(&asked)?;
    let spec = merged(container.spec()?, &asked);
    container.save_spec(&spec)?;
    // A paused guest cannot answer; it is told when it goes on.
    if status != Status::Paused {
        tell(&container, &spec);
    }
    Ok(())
}

/// Tells the guest its limits. One that does not hear of them is still held by the kernel.
pub(super) fn tell(container: &Container, spec: &Spec) {
    let limits = Request::Limits {
        memory: Some(program::memory_limit(spec).unwrap_or(0)),
        cpus: Some(program::cpus(spec).unwrap_or(0.0)),
    };
    if let Err(error) = container.ask(&limits) {
        warn!("the guest goes on with its earlier limits: {error:#}");
    }
}

fn read(path: &Path) -> Result<LinuxResources> {
    let mut text = String::new();
    if path == Path::new("-") {
        io::stdin().read_to_string(&mut text).context("stdin")?;
    } else {
        File::open(path)
            .and_then(|mut file| file.read_to_string(&mut text))
            .with_context(|| path.display().to_string())?;
    }
    serde_json::from_str(&text).context("the limits are not in the OCI spec's form (linux.resources)")
}

fn of_flags(args: &args::Update) -> Result<LinuxResources> {
    let mut resources = LinuxResourcesBuilder::default();
    let memory = LinuxMemory::default();
    let mut asked = memory;
    asked.set_limit(args.memory).set_reservation(args.memory_reservation).set_swap(args.memory_swap);
    if asked != memory {
        resources = resources.memory(asked);
    }
    let cpu = LinuxCpu::default();
    let mut asked = cpu.clone();
    asked.set_period(args.cpu_period).set_quota(args.cpu_quota).set_shares(args.cpu_shares);
    asked.set_cpus(args.cpuset_cpus.clone()).set_mems(args.cpuset_mems.clone());
    if asked != cpu {
        resources = resources.cpu(asked);
    }
    if let Some(limit) = args.pids_limit {
        resources = resources.pids(LinuxPidsBuilder::default().limit(limit).build()?);
    }
    Ok(resources.build()?)
}

/// The configuration with what was asked for in the place of what was there; 0 is "not asked for", as for the kernel's files.
fn merged(mut spec: Spec, asked: &LinuxResources) -> Spec {
    let mut linux = spec.linux().clone().unwrap_or_default();
    let mut resources = linux.resources().clone().unwrap_or_default();
    if let Some(memory) = asked.memory() {
        resources.set_memory(Some(merged_memory(*resources.memory(), memory)));
    }
    if let Some(cpu) = asked.cpu() {
        resources.set_cpu(Some(merged_cpu(resources.cpu().clone(), cpu)));
    }
    if let Some(pids) = asked.pids() {
        let pids: LinuxPids = *pids;
        resources.set_pids(Some(pids));
    }
    linux.set_resources(Some(resources));
    spec.set_linux(Some(linux));
    spec
}

fn merged_memory(old: Option<LinuxMemory>, new: &LinuxMemory) -> LinuxMemory {
    let mut memory = old.unwrap_or_else(|| LinuxMemoryBuilder::default().build().unwrap_or_default());
    let limit = given(new.limit()).or(memory.limit());
    let reservation = given(new.reservation()).or(memory.reservation());
    let swap = given(new.swap()).or(memory.swap());
    memory.set_limit(limit).set_reservation(reservation).set_swap(swap);
    memory
}

fn merged_cpu(old: Option<LinuxCpu>, new: &LinuxCpu) -> LinuxCpu {
    let mut cpu = old.unwrap_or_else(|| LinuxCpuBuilder::default().build().unwrap_or_default());
    let quota = given(new.quota()).or(cpu.quota());
    let (period, shares) = (given(new.period()).or(cpu.period()), given(new.shares()).or(cpu.shares()));
    let cpus = new.cpus().clone().or_else(|| cpu.cpus().clone());
    let mems = new.mems().clone().or_else(|| cpu.mems().clone());
    cpu.set_quota(quota).set_period(period).set_shares(shares).set_cpus(cpus).set_mems(mems);
    cpu
}

fn given<T: Default + PartialEq>(value: Option<T>) -> Option<T> {
    value.filter(|value| *value != T::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_stays() {
        let spec: Spec = serde_json::from_str(
            r#"{"ociVersion":"1.0.2","linux":{"resources":{"memory":{"limit":100},"cpu":{"quota":50000,"period":100000}}}}"#,
        )
        .unwrap();
        let asked: LinuxResources = serde_json::from_str(r#"{"cpu":{"quota":200000}}"#).unwrap();
        let spec = merged(spec, &asked);
        assert_eq!((program::memory_limit(&spec), program::cpus(&spec)), (Some(100), Some(2.0)));
        let asked = serde_json::from_str(r#"{"memory":{"limit":0},"cpu":{"quota":-1}}"#).unwrap();
        let spec = merged(spec, &asked);
        assert_eq!((program::memory_limit(&spec), program::cpus(&spec)), (Some(100), None));
    }
}
