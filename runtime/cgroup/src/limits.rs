//! Limits: the OCI spec's `linux.resources` as what is written to which file of a group.
//!
//! Values, conversions and orders are runc's (`fs` and `fs2` of `opencontainers/cgroups`): 0 is "not set", -1 is "no limit".

use std::fs;
use std::io;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

use crate::tree::{Tree, write};

/// The kernel's own period of CPU quotas (`Documentation/scheduler/sched-bwc.rst`), in microseconds.
const PERIOD: u64 = 100_000;

/// One file and what is written to it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting {
    controller: &'static str,
    file: String,
    value: String,
}

impl Setting {
    fn new(controller: &'static str, file: impl Into<String>, value: impl ToString) -> Self {
        Self { controller, file: file.into(), value: value.to_string() }
    }
}

/// Sets the limits that `resources` names; devices are not among them.
pub(crate) fn apply(tree: &Tree, resources: &LinuxResources) -> io::Result<()> {
    let settings = match tree {
        Tree::Many(_) => version_1(resources, tree)?,
        Tree::One { .. } => version_2(resources)?,
    };
    let mut postponed = Vec::new();
    for setting in settings {
        match set(tree, &setting) {
            // A period or burst may be too much for the quota that is in force, and not for the one that comes with it.
            Err(error)
                if error.kind() == io::ErrorKind::InvalidInput
                    && (setting.file.ends_with("cfs_period_us") || setting.file.ends_with("burst")) =>
            {
                postponed.push(setting);
            }
            done => done?,
        }
    }
    postponed.iter().try_for_each(|setting| set(tree, setting))
}

fn set(tree: &Tree, setting: &Setting) -> io::Result<()> {
    let folder = tree.folder(setting.controller).ok_or_else(|| {
        let text = format!("this node has no {} controller for {}", setting.controller, setting.file);
        io::Error::new(io::ErrorKind::Unsupported, text)
    })?;
    let done = write(&folder.join(&setting.file), &setting.value);
    let is_default = matches!(setting.value.as_str(), "max" | "0" | "-1");
    match done {
        // Where swap is not accounted, there is none to limit.
        Err(error)
            if error.kind() == io::ErrorKind::NotFound && setting.file.contains("sw") && is_default =>
        {
            Ok(())
        }
        done => done,
    }
}

fn version_1(resources: &LinuxResources, tree: &Tree) -> io::Result<Vec<Setting>> {
    if resources.unified().as_ref().is_some_and(|unified| !unified.is_empty()) {
        return Err(invalid("linux.resources.unified is for cgroup v2, and this node has v1"));
    }
    let mut all = Vec::new();
    if let Some(memory) = resources.memory() {
        let current = tree
            .folder("memory")
            .and_then(|folder| fs::read_to_string(folder.join("memory.limit_in_bytes")).ok())
            .and_then(|text| text.trim().parse().ok());
        all.extend(memory_1(memory, current.unwrap_or(u64::MAX)));
    }
    if let Some(cpu) = resources.cpu() {
        all.extend(nonzero(cpu.shares()).map(|shares| Setting::new("cpu", "cpu.shares", shares)));
        all.extend(cpu.idle().map(|idle| Setting::new("cpu", "cpu.idle", idle)));
        all.extend(nonzero(cpu.realtime_period()).map(|us| Setting::new("cpu", "cpu.rt_period_us", us)));
        all.extend(nonzero(cpu.realtime_runtime()).map(|us| Setting::new("cpu", "cpu.rt_runtime_us", us)));
        all.extend(nonzero(cpu.period()).map(|us| Setting::new("cpu", "cpu.cfs_period_us", us)));
        all.extend(nonzero(cpu.quota()).map(|us| Setting::new("cpu", "cpu.cfs_quota_us", us)));
        all.extend(cpu.burst().map(|us| Setting::new("cpu", "cpu.cfs_burst_us", us)));
        all.extend(cpuset(cpu));
    }
    all.extend(pids(resources));
    if let Some(block) = resources.block_io() {
        all.extend(nonzero(block.weight()).map(|weight| Setting::new("blkio", "blkio.weight", weight)));
        all.extend(throttles(block).map(|(device, _, file)| {
            Setting::new("blkio", format!("blkio.throttle.{file}_device"), numbers(device, device.rate()))
        }));
    }
    for page in resources.hugepage_limits().iter().flatten() {
        let file = format!("hugetlb.{}.limit_in_bytes", page.page_size());
        all.push(Setting::new("hugetlb", file, page.limit()));
    }
    if let Some(network) = resources.network() {
        all.extend(nonzero(network.class_id()).map(|id| Setting::new("net_cls", "net_cls.classid", id)));
        let priorities = network.priorities().iter().flatten();
        all.extend(priorities.map(|one| {
            Setting::new("net_prio", "net_prio.ifpriomap", format!("{} {}", one.name(), one.priority()))
        }));
    }
    Ok(all)
}

/// Memory and swap together may never be below memory alone: what goes up goes first.
fn memory_1(memory: &LinuxMemory, current: u64) -> Vec<Setting> {
    let set = |file: &str, value: i64| Setting::new("memory", file, value);
    let limit = nonzero(memory.limit());
    let swap = nonzero(memory.swap()).or(limit.filter(|limit| *limit == -1));
    let mut both: Vec<_> = limit.map(|limit| set("memory.limit_in_bytes", limit)).into_iter().collect();
    if let Some(swap) = swap {
        let goes_up = u64::try_from(swap).is_ok_and(|swap| current < swap) || swap == -1;
        both.insert(if goes_up { 0 } else { both.len() }, set("memory.memsw.limit_in_bytes", swap));
    }
    both.extend(nonzero(memory.reservation()).map(|bytes| set("memory.soft_limit_in_bytes", bytes)));
    let swappiness = memory.swappiness().and_then(|value| i64::try_from(value).ok());
    both.extend(swappiness.map(|value| set("memory.swappiness", value)));
    both.extend(memory.disable_oom_killer().filter(|off| *off).map(|_| set("memory.oom_control", 1)));
    both
}

fn version_2(resources: &LinuxResources) -> io::Result<Vec<Setting>> {
    let mut all = Vec::new();
    if let Some(memory) = resources.memory() {
        all.extend(memory_2(memory)?);
    }
    if let Some(cpu) = resources.cpu() {
        all.extend(cpu.idle().map(|idle| Setting::new("cpu", "cpu.idle", idle)));
        all.extend(nonzero(cpu.shares()).map(|shares| Setting::new("cpu", "cpu.weight", weight(shares))));
        all.extend(cpu.burst().map(|us| Setting::new("cpu", "cpu.max.burst", us)));
        if nonzero(cpu.quota()).is_some() || nonzero(cpu.period()).is_some() {
            let quota =
                cpu.quota().filter(|quota| *quota > 0).map_or_else(|| "max".into(), |us| us.to_string());
            let period = nonzero(cpu.period()).unwrap_or(PERIOD);
            all.push(Setting::new("cpu", "cpu.max", format!("{quota} {period}")));
        }
        all.extend(cpuset(cpu));
    }
    all.extend(pids(resources));
    if let Some(block) = resources.block_io() {
        let weight = nonzero(block.weight()).map(|weight| 1 + (u64::from(weight.max(10)) - 10) * 9999 / 990);
        all.extend(weight.map(|weight| Setting::new("io", "io.weight", weight)));
        all.extend(throttles(block).map(|(device, key, _)| {
            Setting::new("io", "io.max", numbers(device, format!("{key}={}", device.rate())))
        }));
    }
    for page in resources.hugepage_limits().iter().flatten() {
        all.push(Setting::new("hugetlb", format!("hugetlb.{}.max", page.page_size()), page.limit()));
    }
    for (file, value) in resources.unified().iter().flatten() {
        if file.contains('/') {
            return Err(invalid(format!(
                "linux.resources.unified names {file:?}, which is no file of a group"
            )));
        }
        all.push(Setting::new("unified", file.as_str(), value));
    }
    Ok(all)
}

/// The spec's swap is memory and swap together, the kernel's is swap alone.
fn memory_2(memory: &LinuxMemory) -> io::Result<Vec<Setting>> {
    let (limit, swap) = (memory.limit().unwrap_or(0), memory.swap().unwrap_or(0));
    let swap = match (limit, swap) {
        (-1, 0) => Some(-1),
        (_, 0) => None,
        (_, -1) | (-1, _) => Some(swap),
        (0, _) => return Err(invalid("a limit of memory and swap needs one of memory")),
        (limit, swap) if swap < limit => {
            return Err(invalid("memory and swap are limited to less than memory alone"));
        }
        (limit, swap) => Some(swap - limit),
    };
    let set = |file: &str, value: i64| {
        Setting::new("memory", file, if value < 0 { "max".into() } else { value.to_string() })
    };
    let swap = swap.map(|swap| set("memory.swap.max", swap));
    let limit = nonzero(Some(limit)).map(|limit| set("memory.max", limit));
    let reservation = nonzero(memory.reservation()).map(|bytes| set("memory.low", bytes));
    Ok([swap, limit, reservation].into_iter().flatten().collect())
}

fn cpuset(cpu: &LinuxCpu) -> impl Iterator<Item = Setting> {
    let files = [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())];
    files.into_iter().filter_map(|(file, list)| {
        list.as_ref().filter(|list| !list.is_empty()).map(|list| Setting::new("cpuset", file, list))
    })
}

fn pids(resources: &LinuxResources) -> Option<Setting> {
    let limit = resources.pids().as_ref()?.limit();
    let value = if limit < 0 { "max".into() } else { limit.max(1).to_string() };
    Some(Setting::new("pids", "pids.max", value))
}

/// Each throttled device, with its key in `io.max` and its file in version 1.
fn throttles(
    block: &LinuxBlockIo,
) -> impl Iterator<Item = (&LinuxThrottleDevice, &'static str, &'static str)> {
    [
        (block.throttle_read_bps_device(), "rbps", "read_bps"),
        (block.throttle_write_bps_device(), "wbps", "write_bps"),
        (block.throttle_read_iops_device(), "riops", "read_iops"),
        (block.throttle_write_iops_device(), "wiops", "write_iops"),
    ]
    .into_iter()
    .flat_map(|(devices, key, file)| devices.iter().flatten().map(move |device| (device, key, file)))
}

fn numbers(device: &LinuxThrottleDevice, rest: impl std::fmt::Display) -> String {
    format!("{}:{} {rest}", device.major(), device.minor())
}

/// Shares (2 to 262144, usually 1024) as a weight (1 to 10000, usually 100), by runc's curve through the three.
fn weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        3..262_144 => {
            let log = (shares as f64).log2();
            10_f64.powf((log * log + 125.0 * log) / 612.0 - 7.0 / 34.0).ceil() as u64
        }
        _ => 10_000,
    }
}

fn nonzero<T: Default + PartialEq>(value: Option<T>) -> Option<T> {
    value.filter(|value| *value != T::default())
}

fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(json: &str) -> LinuxResources {
        serde_json::from_str(json).unwrap()
    }

    fn shown(settings: Vec<Setting>) -> Vec<String> {
        settings.into_iter().map(|setting| format!("{} {}", setting.file, setting.value)).collect()
    }

    #[test]
    fn limits_of_version_2_are_runcs() {
        let all = resources(
            r#"{"memory":{"limit":1000,"swap":1500,"reservation":500},"pids":{"limit":0},
                "cpu":{"shares":1024,"quota":50000,"cpus":"0-1","mems":""},"unified":{"memory.oom.group":"1"}}"#,
        );
        assert_eq!(
            shown(version_2(&all).unwrap()),
            [
                "memory.swap.max 500",
                "memory.max 1000",
                "memory.low 500",
                "cpu.weight 100",
                "cpu.max 50000 100000",
                "cpuset.cpus 0-1",
                "pids.max 1",
                "memory.oom.group 1",
            ]
        );
    }

    #[test]
    fn a_limit_is_taken_away_by_minus_one() {
        let none =
            resources(r#"{"memory":{"limit":-1},"cpu":{"quota":-1,"period":100000},"pids":{"limit":-1}}"#);
        assert_eq!(
            shown(version_2(&none).unwrap()),
            ["memory.swap.max max", "memory.max max", "cpu.max max 100000", "pids.max max"]
        );
        assert_eq!(
            shown(memory_1(none.memory().as_ref().unwrap(), 1000)),
            ["memory.memsw.limit_in_bytes -1", "memory.limit_in_bytes -1"]
        );
    }

    #[test]
    fn what_grows_of_memory_and_swap_grows_first() {
        let memory = resources(r#"{"memory":{"limit":2000,"swap":2000}}"#);
        let memory = memory.memory().as_ref().unwrap();
        assert_eq!(shown(memory_1(memory, 1000))[0], "memory.memsw.limit_in_bytes 2000");
        assert_eq!(shown(memory_1(memory, 4000))[0], "memory.limit_in_bytes 2000");
    }

    #[test]
    fn shares_become_weights_as_under_runc() {
        let weights = [0, 2, 102, 512, 1024, 4096, 262_144].map(weight);
        assert_eq!(weights, [1, 1, 17, 59, 100, 303, 10_000]);
    }

    #[test]
    fn limits_that_contradict_each_other_are_refused() {
        for json in [r#"{"memory":{"limit":2000,"swap":1000}}"#, r#"{"unified":{"../x":"1"}}"#] {
            assert!(version_2(&resources(json)).is_err(), "{json}");
        }
    }
}
