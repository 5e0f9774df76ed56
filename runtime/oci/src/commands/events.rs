//! `events`: figures of a container, in runc's form, once or until it ends.

use std::path::Path;

use anyhow::{Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};
use wisp_cgroup::{Figures, Memory};

use crate::args;
use crate::sandbox::enter;
use crate::state::{Container, Status};

/// Prints the figures of a container.
pub(super) fn run(root: &Path, args: &args::Events) -> Result<()> {
    let container = Container::load(root, &args.id)?;
    if container.status() == Status::Stopped {
        bail!("container not running");
    }
    let process = enter::open_process(container.record.pid)?;
    let cgroup = container.cgroup()?;
    let interval = Timespec::try_from(*args.interval)?;
    loop {
        let event = json!({ "type": "stats", "id": args.id, "data": stats(&cgroup.figures()?) });
        super::print(&format!("{event}\n"))?;
        if args.stats || poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&interval))? > 0 {
            return Ok(());
        }
    }
}

/// runc's `types.Stats` (`types/events.go`).
fn stats(figures: &Figures) -> Value {
    let memory = |memory: &Memory| json!({ "limit": memory.limit, "usage": memory.usage, "max": memory.max_usage, "failcnt": memory.failures });
    let cpu = &figures.cpu;
    json!({
        "cpu": {
            "usage": { "total": cpu.total, "percpu": cpu.each, "kernel": cpu.kernel, "user": cpu.user },
            "throttling": {
                "periods": cpu.periods,
                "throttledPeriods": cpu.throttled_periods,
                "throttledTime": cpu.throttled,
            },
        },
        "memory": {
            "cache": figures.cache,
            "usage": memory(&figures.memory),
            "swap": memory(&figures.memory_and_swap),
            "kernel": memory(&figures.kernel),
            "kernelTCP": memory(&figures.kernel_tcp),
            "raw": figures.memory_stat,
        },
        "pids": { "current": figures.pids, "limit": figures.pids_limit },
    })
}
