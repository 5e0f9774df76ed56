//! The figures of a group. What a hierarchy has no controller for, or an older kernel does not tell, is 0.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use crate::tree::Tree;

/// Microseconds and clock ticks (`USER_HZ`, 100 on every architecture that Wisp runs on) in nanoseconds.
const MICROSECOND: u64 = 1_000;
const TICK: u64 = 10_000_000;

/// The figures of a group.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Figures {
    /// The processor.
    pub cpu: Cpu,
    /// Memory without swap.
    pub memory: Memory,
    /// Memory and swap together, on either version.
    pub memory_and_swap: Memory,
    /// The kernel's memory (version 1).
    pub kernel: Memory,
    /// The kernel's memory for TCP (version 1).
    pub kernel_tcp: Memory,
    /// Bytes of the page cache.
    pub cache: u64,
    /// `memory.stat` as it is.
    pub memory_stat: BTreeMap<String, u64>,
    /// Processes and threads.
    pub pids: u64,
    /// How many there may be; 0 where there is no limit.
    pub pids_limit: u64,
}

/// Time on the processor, in nanoseconds.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Cpu {
    /// All of it.
    pub total: u64,
    /// In the kernel.
    pub kernel: u64,
    /// Outside of it.
    pub user: u64,
    /// Of each processor (version 1).
    pub each: Vec<u64>,
    /// Periods with a quota.
    pub periods: u64,
    /// Those in which it was used up.
    pub throttled_periods: u64,
    /// How long the group waited because of that.
    pub throttled: u64,
}

/// One kind of memory, in bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// In use.
    pub usage: u64,
    /// The most that was in use.
    pub max_usage: u64,
    /// How much may be; `u64::MAX` where there is no limit.
    pub limit: u64,
    /// How often the limit was hit.
    pub failures: u64,
}

/// Reads the figures.
pub(crate) fn read(tree: &Tree) -> io::Result<Figures> {
    if let Some(folder) = tree.folder("memory").or(tree.folder("cpu")) {
        folder.metadata()?;
    }
    Ok(match tree {
        Tree::One { folder, .. } => version_2(folder),
        Tree::Many(_) => version_1(tree),
    })
}

fn version_2(folder: &Path) -> Figures {
    let (cpu, stat) = (table(folder, "cpu.stat"), table(folder, "memory.stat"));
    let of = |name: &str| cpu.get(name).copied().unwrap_or(0);
    let hit = table(folder, "memory.events").get("max").copied().unwrap_or(0);
    let memory = Memory {
        usage: number(folder, "memory.current"),
        max_usage: number(folder, "memory.peak"),
        limit: number(folder, "memory.max"),
        failures: hit,
    };
    let swap = number(folder, "memory.swap.max");
    Figures {
        cpu: Cpu {
            total: of("usage_usec") * MICROSECOND,
            kernel: of("system_usec") * MICROSECOND,
            user: of("user_usec") * MICROSECOND,
            each: Vec::new(),
            periods: of("nr_periods"),
            throttled_periods: of("nr_throttled"),
            throttled: of("throttled_usec") * MICROSECOND,
        },
        memory,
        memory_and_swap: Memory {
            usage: memory.usage.saturating_add(number(folder, "memory.swap.current")),
            max_usage: 0,
            limit: memory.limit.saturating_add(swap),
            failures: table(folder, "memory.swap.events").get("max").copied().unwrap_or(0),
        },
        cache: stat.get("file").copied().unwrap_or(0),
        memory_stat: stat,
        pids: number(folder, "pids.current"),
        pids_limit: Some(number(folder, "pids.max")).filter(|limit| *limit < u64::MAX).unwrap_or(0),
        ..Figures::default()
    }
}

fn version_1(tree: &Tree) -> Figures {
    let none = Path::new("/nowhere");
    let folder = |controller: &str| tree.folder(controller).unwrap_or(none);
    let (account, memory) = (folder("cpuacct"), folder("memory"));
    let (ticks, throttling) = (table(account, "cpuacct.stat"), table(folder("cpu"), "cpu.stat"));
    let stat = table(memory, "memory.stat");
    let of = |table: &BTreeMap<String, u64>, name: &str| table.get(name).copied().unwrap_or(0);
    let kind = |prefix: &str| Memory {
        usage: number(memory, &format!("{prefix}.usage_in_bytes")),
        max_usage: number(memory, &format!("{prefix}.max_usage_in_bytes")),
        limit: number(memory, &format!("{prefix}.limit_in_bytes")),
        failures: number(memory, &format!("{prefix}.failcnt")),
    };
    Figures {
        cpu: Cpu {
            total: number(account, "cpuacct.usage"),
            kernel: of(&ticks, "system") * TICK,
            user: of(&ticks, "user") * TICK,
            each: text(account, "cpuacct.usage_percpu").split_whitespace().map(parse).collect(),
            periods: of(&throttling, "nr_periods"),
            throttled_periods: of(&throttling, "nr_throttled"),
            throttled: of(&throttling, "throttled_time"),
        },
        memory: kind("memory"),
        memory_and_swap: kind("memory.memsw"),
        kernel: kind("memory.kmem"),
        kernel_tcp: kind("memory.kmem.tcp"),
        cache: of(&stat, "cache"),
        memory_stat: stat,
        pids: number(folder("pids"), "pids.current"),
        pids_limit: Some(number(folder("pids"), "pids.max")).filter(|limit| *limit < u64::MAX).unwrap_or(0),
    }
}

fn text(folder: &Path, file: &str) -> String {
    fs::read_to_string(folder.join(file)).unwrap_or_default()
}

/// `max` is the largest number.
fn parse(text: &str) -> u64 {
    if text == "max" { u64::MAX } else { text.parse().unwrap_or(0) }
}

fn number(folder: &Path, file: &str) -> u64 {
    parse(text(folder, file).trim())
}

/// A file of names and numbers.
fn table(folder: &Path, file: &str) -> BTreeMap<String, u64> {
    let text = text(folder, file);
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.map(|(name, value)| (name.to_owned(), parse(value.trim()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_version_2_need_neither_every_controller_nor_pressure() {
        let group = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| fs::write(group.path().join(file), text).unwrap();
        write("cpu.stat", "usage_usec 3\nuser_usec 1\nsystem_usec 2\n");
        let tree = Tree::One { root: "/".into(), folder: group.path().into() };
        let figures = read(&tree).unwrap();
        assert_eq!((figures.cpu.total, figures.cpu.kernel, figures.memory.usage), (3_000, 2_000, 0));
        write("memory.current", "10\n");
        write("memory.swap.current", "5\n");
        write("memory.max", "max\n");
        write("memory.events", "low 0\nmax 7\n");
        write("pids.max", "max\n");
        let figures = read(&tree).unwrap();
        assert_eq!((figures.memory.usage, figures.memory.limit, figures.memory.failures), (10, u64::MAX, 7));
        assert_eq!((figures.memory_and_swap.usage, figures.pids_limit), (15, 0));
    }

    #[test]
    fn a_group_that_is_not_there_has_no_figures() {
        let tree = Tree::One { root: "/".into(), folder: "/no/such/group".into() };
        assert_eq!(read(&tree).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
