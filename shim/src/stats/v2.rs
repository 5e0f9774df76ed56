//! `io.containerd.cgroups.v2.Metrics`.

use std::fs;
use std::io;
use std::path::Path;

use containerd_shim_protos::cgroups_v2::metrics::{
    CPUStat, HugeTlbStat, IOEntry, IOStat, MemoryEvents, MemoryStat, Metrics, PSIData, PSIStats, PidsStat,
    RdmaEntry, RdmaStat,
};
use containerd_shim_protos::protobuf::MessageField;

use super::{huge_page_sizes, number, pairs, rdma, value};

/// Reads the figures.
///
/// # Errors
/// The cgroup is gone.
pub(super) fn read(folder: &Path) -> io::Result<Metrics> {
    fs::metadata(folder.join("cgroup.procs"))?;
    let entries = |file| rdma(folder, file).into_iter().map(rdma_entry).collect();
    Ok(Metrics {
        pids: MessageField::some(PidsStat {
            current: value(folder, "pids.current"),
            limit: value(folder, "pids.max"),
            ..PidsStat::default()
        }),
        cpu: MessageField::some(cpu(folder)),
        memory: MessageField::some(memory(folder)),
        rdma: MessageField::some(RdmaStat {
            current: entries("rdma.current"),
            limit: entries("rdma.max"),
            ..RdmaStat::default()
        }),
        io: MessageField::some(IOStat {
            usage: io_entries(folder),
            psi: pressure(folder, "io.pressure"),
            ..IOStat::default()
        }),
        hugetlb: huge_page_sizes().into_iter().map(|size| hugetlb(folder, size)).collect(),
        memory_events: memory_events(folder),
        ..Metrics::default()
    })
}

fn rdma_entry((device, hca_handles, hca_objects): (String, u32, u32)) -> RdmaEntry {
    RdmaEntry { device, hca_handles, hca_objects, ..RdmaEntry::default() }
}

fn cpu(folder: &Path) -> CPUStat {
    let stat = pairs(folder, "cpu.stat");
    let get = |name: &str| stat.get(name).copied().unwrap_or_default();
    CPUStat {
        usage_usec: get("usage_usec"),
        user_usec: get("user_usec"),
        system_usec: get("system_usec"),
        nr_periods: get("nr_periods"),
        nr_throttled: get("nr_throttled"),
        throttled_usec: get("throttled_usec"),
        psi: pressure(folder, "cpu.pressure"),
        nr_bursts: get("nr_bursts"),
        burst_usec: get("burst_usec"),
        ..CPUStat::default()
    }
}

fn memory(folder: &Path) -> MemoryStat {
    let stat = pairs(folder, "memory.stat");
    let get = |name: &str| stat.get(name).copied().unwrap_or_default();
    MemoryStat {
        anon: get("anon"),
        file: get("file"),
        kernel_stack: get("kernel_stack"),
        slab: get("slab"),
        sock: get("sock"),
        shmem: get("shmem"),
        file_mapped: get("file_mapped"),
        file_dirty: get("file_dirty"),
        file_writeback: get("file_writeback"),
        anon_thp: get("anon_thp"),
        inactive_anon: get("inactive_anon"),
        active_anon: get("active_anon"),
        inactive_file: get("inactive_file"),
        active_file: get("active_file"),
        unevictable: get("unevictable"),
        slab_reclaimable: get("slab_reclaimable"),
        slab_unreclaimable: get("slab_unreclaimable"),
        pgfault: get("pgfault"),
        pgmajfault: get("pgmajfault"),
        workingset_refault: get("workingset_refault")
            + get("workingset_refault_anon")
            + get("workingset_refault_file"),
        workingset_activate: get("workingset_activate")
            + get("workingset_activate_anon")
            + get("workingset_activate_file"),
        workingset_nodereclaim: get("workingset_nodereclaim"),
        pgrefill: get("pgrefill"),
        pgscan: get("pgscan"),
        pgsteal: get("pgsteal"),
        pgactivate: get("pgactivate"),
        pgdeactivate: get("pgdeactivate"),
        pglazyfree: get("pglazyfree"),
        pglazyfreed: get("pglazyfreed"),
        thp_fault_alloc: get("thp_fault_alloc"),
        thp_collapse_alloc: get("thp_collapse_alloc"),
        usage: value(folder, "memory.current"),
        usage_limit: value(folder, "memory.max"),
        swap_usage: value(folder, "memory.swap.current"),
        swap_limit: value(folder, "memory.swap.max"),
        max_usage: value(folder, "memory.peak"),
        swap_max_usage: value(folder, "memory.swap.peak"),
        psi: pressure(folder, "memory.pressure"),
        ..MemoryStat::default()
    }
}

fn memory_events(folder: &Path) -> MessageField<MemoryEvents> {
    let events = pairs(folder, "memory.events");
    let get = |name: &str| events.get(name).copied().unwrap_or_default();
    let stat = MemoryEvents {
        low: get("low"),
        high: get("high"),
        max: get("max"),
        oom: get("oom"),
        oom_kill: get("oom_kill"),
        oom_group_kill: get("oom_group_kill"),
        ..MemoryEvents::default()
    };
    if events.is_empty() { MessageField::none() } else { MessageField::some(stat) }
}

/// Lines of `major:minor name=value…`.
fn io_entries(folder: &Path) -> Vec<IOEntry> {
    let text = fs::read_to_string(folder.join("io.stat")).unwrap_or_default();
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (major, minor) = words.next()?.split_once(':')?;
        let mut entry = IOEntry { major: number(major)?, minor: number(minor)?, ..IOEntry::default() };
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            let value = number(value).unwrap_or_default();
            match name {
                "rbytes" => entry.rbytes = value,
                "wbytes" => entry.wbytes = value,
                "rios" => entry.rios = value,
                "wios" => entry.wios = value,
                _ => {}
            }
        }
        Some(entry)
    });
    lines.collect()
}

fn hugetlb(folder: &Path, pagesize: String) -> HugeTlbStat {
    HugeTlbStat {
        current: value(folder, &format!("hugetlb.{pagesize}.current")),
        max: value(folder, &format!("hugetlb.{pagesize}.max")),
        failcnt: pairs(folder, &format!("hugetlb.{pagesize}.events")).get("max").copied().unwrap_or_default(),
        pagesize,
        ..HugeTlbStat::default()
    }
}

/// Lines of `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`; absent where the node does not measure pressure.
fn pressure(folder: &Path, file: &str) -> MessageField<PSIStats> {
    let Ok(text) = fs::read_to_string(folder.join(file)) else { return MessageField::none() };
    let mut stats = PSIStats::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let kind = words.next().unwrap_or_default();
        let mut data = PSIData::new();
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            let average = || value.parse().unwrap_or_default();
            match name {
                "avg10" => data.avg10 = average(),
                "avg60" => data.avg60 = average(),
                "avg300" => data.avg300 = average(),
                "total" => data.total = number(value).unwrap_or_default(),
                _ => {}
            }
        }
        match kind {
            "some" => stats.some = MessageField::some(data),
            "full" => stats.full = MessageField::some(data),
            _ => {}
        }
    }
    MessageField::some(stats)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_figures_come_from_their_files() {
        let dir = tempfile::tempdir().unwrap();
        let files = [
            ("cgroup.procs", ""),
            ("cpu.stat", "usage_usec 10\nuser_usec 6\nsystem_usec 4\n"),
            ("memory.current", "4096\n"),
            ("memory.max", "max\n"),
            ("memory.events", "low 0\nhigh 0\nmax 3\noom 2\noom_kill 1\n"),
            (
                "memory.pressure",
                "some avg10=1.50 avg60=0.00 avg300=0.00 total=77\nfull avg10=0 avg60=0 avg300=0 total=5\n",
            ),
            ("io.stat", "254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n"),
            ("pids.current", "2\n"),
        ];
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let metrics = read(dir.path()).unwrap();
        assert_eq!(metrics.cpu.usage_usec, 10);
        assert_eq!((metrics.memory.usage, metrics.memory.usage_limit), (4096, u64::MAX));
        assert_eq!(metrics.memory_events.oom_kill, 1);
        assert_eq!((metrics.memory.psi.some.avg10, metrics.memory.psi.full.total), (1.5, 5));
        assert_eq!((metrics.io.usage[0].major, metrics.io.usage[0].wios), (254, 4));
        assert_eq!(metrics.pids.current, 2);
        assert!(read(Path::new("/nonexistent")).is_err());
    }
}
