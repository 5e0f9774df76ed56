//! `io.containerd.cgroups.v1.Metrics`.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;

use containerd_shim_protos::cgroups::metrics::{
    BlkIOEntry, BlkIOStat, CPUStat, CPUUsage, HugetlbStat, MemoryEntry, MemoryOomControl, MemoryStat,
    Metrics, PidsStat, RdmaEntry, RdmaStat, Throttle,
};
use containerd_shim_protos::protobuf::MessageField;

use super::{huge_page_sizes, number, pairs, rdma, value};
use crate::cgroup::V1;

/// The unit of `cpuacct.stat`: Linux shows ticks of a hundredth of a second to all programs.
const NANOSECONDS_PER_TICK: u64 = 10_000_000;

/// Reads the figures.
///
/// # Errors
/// The cgroup is gone.
pub(super) fn read(folders: &V1) -> io::Result<Metrics> {
    let mut metrics = Metrics::new();
    let known = ["memory", "cpuacct", "cpu", "pids", "blkio"];
    let present = |folder: &&Path| folder.join("cgroup.procs").exists();
    if !known.iter().filter_map(|name| folders.folder(name)).any(|folder| present(&folder)) {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the cgroup is gone"));
    }
    if let Some(folder) = folders.folder("hugetlb") {
        metrics.hugetlb = hugetlb(folder);
    }
    if let Some(folder) = folders.folder("pids").filter(present) {
        metrics.pids = MessageField::some(PidsStat {
            current: value(folder, "pids.current"),
            limit: value(folder, "pids.max"),
            ..PidsStat::default()
        });
    }
    metrics.cpu = MessageField::some(cpu(folders.folder("cpuacct"), folders.folder("cpu")));
    if let Some(folder) = folders.folder("memory").filter(present) {
        metrics.memory = MessageField::some(memory(folder));
        let oom = pairs(folder, "memory.oom_control");
        let get = |name: &str| oom.get(name).copied().unwrap_or_default();
        metrics.memory_oom_control = MessageField::some(MemoryOomControl {
            oom_kill_disable: get("oom_kill_disable"),
            under_oom: get("under_oom"),
            oom_kill: get("oom_kill"),
            ..MemoryOomControl::default()
        });
    }
    if let Some(folder) = folders.folder("blkio").filter(present) {
        metrics.blkio = MessageField::some(blkio(folder));
    }
    if let Some(folder) = folders.folder("rdma").filter(present) {
        let entries = |file| rdma(folder, file).into_iter().map(rdma_entry).collect();
        metrics.rdma = MessageField::some(RdmaStat {
            current: entries("rdma.current"),
            limit: entries("rdma.max"),
            ..RdmaStat::default()
        });
    }
    Ok(metrics)
}

fn rdma_entry((device, hca_handles, hca_objects): (String, u32, u32)) -> RdmaEntry {
    RdmaEntry { device, hca_handles, hca_objects, ..RdmaEntry::default() }
}

fn hugetlb(folder: &Path) -> Vec<HugetlbStat> {
    let stat = |pagesize: String| HugetlbStat {
        usage: value(folder, &format!("hugetlb.{pagesize}.usage_in_bytes")),
        max: value(folder, &format!("hugetlb.{pagesize}.max_usage_in_bytes")),
        failcnt: value(folder, &format!("hugetlb.{pagesize}.failcnt")),
        pagesize,
        ..HugetlbStat::default()
    };
    huge_page_sizes().into_iter().map(stat).collect()
}

fn cpu(cpuacct: Option<&Path>, cpu: Option<&Path>) -> CPUStat {
    let mut usage = CPUUsage::new();
    if let Some(folder) = cpuacct {
        let stat = pairs(folder, "cpuacct.stat");
        let ticks =
            |name: &str| stat.get(name).copied().unwrap_or_default().saturating_mul(NANOSECONDS_PER_TICK);
        let per_cpu = fs::read_to_string(folder.join("cpuacct.usage_percpu")).unwrap_or_default();
        usage.total = value(folder, "cpuacct.usage");
        usage.kernel = ticks("system");
        usage.user = ticks("user");
        usage.per_cpu = per_cpu.split_whitespace().filter_map(number).collect();
    }
    let stat = cpu.map(|folder| pairs(folder, "cpu.stat")).unwrap_or_default();
    let get = |name: &str| stat.get(name).copied().unwrap_or_default();
    let throttling = Throttle {
        periods: get("nr_periods"),
        throttled_periods: get("nr_throttled"),
        throttled_time: get("throttled_time"),
        ..Throttle::default()
    };
    CPUStat {
        usage: MessageField::some(usage),
        throttling: MessageField::some(throttling),
        ..CPUStat::default()
    }
}

fn memory(folder: &Path) -> MemoryStat {
    let stat = pairs(folder, "memory.stat");
    let get = |name: &str| stat.get(name).copied().unwrap_or_default();
    let entry = |prefix: &str| {
        MessageField::some(MemoryEntry {
            limit: value(folder, &format!("{prefix}.limit_in_bytes")),
            usage: value(folder, &format!("{prefix}.usage_in_bytes")),
            max: value(folder, &format!("{prefix}.max_usage_in_bytes")),
            failcnt: value(folder, &format!("{prefix}.failcnt")),
            ..MemoryEntry::default()
        })
    };
    MemoryStat {
        cache: get("cache"),
        rss: get("rss"),
        rss_huge: get("rss_huge"),
        mapped_file: get("mapped_file"),
        dirty: get("dirty"),
        writeback: get("writeback"),
        pg_pg_in: get("pgpgin"),
        pg_pg_out: get("pgpgout"),
        pg_fault: get("pgfault"),
        pg_maj_fault: get("pgmajfault"),
        inactive_anon: get("inactive_anon"),
        active_anon: get("active_anon"),
        inactive_file: get("inactive_file"),
        active_file: get("active_file"),
        unevictable: get("unevictable"),
        hierarchical_memory_limit: get("hierarchical_memory_limit"),
        hierarchical_swap_limit: get("hierarchical_memsw_limit"),
        total_cache: get("total_cache"),
        total_rss: get("total_rss"),
        total_rss_huge: get("total_rss_huge"),
        total_mapped_file: get("total_mapped_file"),
        total_dirty: get("total_dirty"),
        total_writeback: get("total_writeback"),
        total_pg_pg_in: get("total_pgpgin"),
        total_pg_pg_out: get("total_pgpgout"),
        total_pg_fault: get("total_pgfault"),
        total_pg_maj_fault: get("total_pgmajfault"),
        total_inactive_anon: get("total_inactive_anon"),
        total_active_anon: get("total_active_anon"),
        total_inactive_file: get("total_inactive_file"),
        total_active_file: get("total_active_file"),
        total_unevictable: get("total_unevictable"),
        usage: entry("memory"),
        swap: entry("memory.memsw"),
        kernel: entry("memory.kmem"),
        kernel_tcp: entry("memory.kmem.tcp"),
        ..MemoryStat::default()
    }
}

fn blkio(folder: &Path) -> BlkIOStat {
    let devices = devices();
    let entries = |file: &str| block_entries(folder, file, &devices);
    let stat = BlkIOStat {
        io_service_bytes_recursive: entries("blkio.io_service_bytes_recursive"),
        io_serviced_recursive: entries("blkio.io_serviced_recursive"),
        io_queued_recursive: entries("blkio.io_queued_recursive"),
        io_service_time_recursive: entries("blkio.io_service_time_recursive"),
        io_wait_time_recursive: entries("blkio.io_wait_time_recursive"),
        io_merged_recursive: entries("blkio.io_merged_recursive"),
        io_time_recursive: entries("blkio.time_recursive"),
        sectors_recursive: entries("blkio.sectors_recursive"),
        ..BlkIOStat::default()
    };
    if stat != BlkIOStat::default() {
        return stat;
    }
    // The above are the CFQ scheduler's, which newer kernels do not have.
    BlkIOStat {
        io_service_bytes_recursive: entries("blkio.throttle.io_service_bytes"),
        io_serviced_recursive: entries("blkio.throttle.io_serviced"),
        ..BlkIOStat::default()
    }
}

/// Lines of `major:minor operation value`, or without an operation.
fn block_entries(folder: &Path, file: &str, devices: &HashMap<(u64, u64), String>) -> Vec<BlkIOEntry> {
    let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
    let lines = text.lines().filter_map(|line| {
        let words: Vec<&str> = line.split([' ', ':']).filter(|word| !word.is_empty()).collect();
        let (major, minor, op, value) = match words[..] {
            [major, minor, op, value] => (major, minor, op, value),
            [major, minor, value] => (major, minor, "", value),
            _ => return None,
        };
        let (major, minor) = (number(major)?, number(minor)?);
        Some(BlkIOEntry {
            op: op.to_owned(),
            device: devices.get(&(major, minor)).cloned().unwrap_or_default(),
            major,
            minor,
            value: number(value)?,
            ..BlkIOEntry::default()
        })
    });
    lines.collect()
}

/// The names of block devices by their numbers.
fn devices() -> HashMap<(u64, u64), String> {
    let text = fs::read_to_string("/proc/partitions").unwrap_or_default();
    let lines = text.lines().skip(2).filter_map(|line| {
        let mut words = line.split_whitespace();
        let numbers = (number(words.next()?)?, number(words.next()?)?);
        Some((numbers, format!("/dev/{}", words.nth(1)?)))
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_figures_are_told_by_device_and_operation() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("blkio.throttle.io_serviced"), "254:0 Read 3\n254:0 Total 3\nTotal 3\n")
            .unwrap();
        let stat = blkio(dir.path());
        assert_eq!(stat.io_serviced_recursive.len(), 2);
        let first = &stat.io_serviced_recursive[0];
        assert_eq!((first.major, first.minor, first.op.as_str(), first.value), (254, 0, "Read", 3));
    }

    #[test]
    fn memory_has_its_figures_and_its_limits() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("memory.stat"), "cache 4096\ntotal_rss 8192\n").unwrap();
        fs::write(dir.path().join("memory.limit_in_bytes"), "65536\n").unwrap();
        let stat = memory(dir.path());
        assert_eq!((stat.cache, stat.total_rss, stat.usage.limit), (4096, 8192, 65536));
    }
}
