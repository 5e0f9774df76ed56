//! `events`: figures of a container, in runc's form, once or until it ends.

use std::path::Path;

use anyhow::{Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};
use wisp_cgroup::{MemoryData, Stats};

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
        let event = json!({ "type": "stats", "id": args.id, "data": stats(&cgroup.stats()?) });
        super::print(&format!("{event}\n"))?;
        if args.stats || poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&interval))? > 0 {
            return Ok(());
        }
    }
}

/// runc's `types.Stats` (`types/events.go`).
fn stats(stats: &Stats) -> Value {
    let memory = |data: &MemoryData| json!({ "limit": data.limit, "usage": data.usage, "max": data.max_usage, "failcnt": data.fail_count });
    json!({
        "cpu": {
            "usage": {
                "total": stats.cpu.usage.usage_total,
                "percpu": stats.cpu.usage.per_core_usage_total,
                "kernel": stats.cpu.usage.usage_kernel,
                "user": stats.cpu.usage.usage_user,
            },
            "throttling": {
                "periods": stats.cpu.throttling.periods,
                "throttledPeriods": stats.cpu.throttling.throttled_periods,
                "throttledTime": stats.cpu.throttling.throttled_time,
            },
        },
        "memory": {
            "cache": stats.memory.cache,
            "usage": memory(&stats.memory.memory),
            "swap": memory(&stats.memory.memswap),
            "kernel": memory(&stats.memory.kernel),
            "kernelTCP": memory(&stats.memory.kernel_tcp),
            "raw": stats.memory.stats,
        },
        "pids": { "current": stats.pids.current, "limit": stats.pids.limit },
    })
}
