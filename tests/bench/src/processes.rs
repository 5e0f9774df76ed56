//! The processes of a pod, and what the kernel knows of them.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::time::ClockId;
use nix::unistd::Pid;
use wisp_tests::cri::container::Running;
use wisp_tests::leaks::parent_of;
use wisp_tests::net::Connection;
use wisp_tests::space::{enter_network_of, on_thread};

/// The processes of a pod and of its one container: the shim, the guest, and a pause process where there is one. The null shim is
/// all of its pod.
///
/// # Errors
/// Where one has ended.
pub(crate) fn of(container: &Running<'_, '_>) -> Result<BTreeSet<i32>> {
    let (holder, program) = (container.pod.pid()?.cast_signed(), container.pid()?.cast_signed());
    let shim = if program == holder { holder } else { parent_of(program)? };
    Ok(BTreeSet::from([holder, shim, program]))
}

/// Asks the service in the network of a process for its hello.
///
/// # Errors
/// Where it does not answer 200.
pub(crate) fn ask(pid: u32) -> Result<()> {
    on_thread(move || {
        enter_network_of(pid)?;
        let answer = Connection::open()?.get("/hello")?;
        ensure!(answer.status == 200, "the service answered {}", answer.status);
        Ok(())
    })
}

/// The processor time that processes have used, all their threads together.
///
/// # Errors
/// Where one has ended.
pub(crate) fn processor_time(pids: &BTreeSet<i32>) -> Result<Duration> {
    pids.iter()
        .map(|&pid| {
            let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(pid)).context("a pod has ended")?;
            Ok(Duration::from(clock.now()?))
        })
        .sum()
}

/// How often the threads of processes have gone to sleep: as often as they woke up. To be made to wait for a processor is no sleep.
///
/// # Errors
/// Where one has ended.
pub(crate) fn sleeps(pids: &BTreeSet<i32>) -> Result<u64> {
    let mut sum = 0;
    for pid in pids {
        for thread in fs::read_dir(format!("/proc/{pid}/task")).context("a pod has ended")? {
            // A thread that has ended meanwhile wakes up no more.
            let Ok(status) = fs::read_to_string(thread?.path().join("status")) else { continue };
            let mut counts = status.lines().filter_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            sum += counts.find_map(|count| count.trim().parse::<u64>().ok()).unwrap_or_default();
        }
    }
    Ok(sum)
}

/// What one process holds, in MiB.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    /// The process's name.
    pub name: String,
    /// Its part of the pages that it maps, each divided by how many processes map it.
    pub share: f64,
    /// What it has written and nobody else maps.
    pub private_dirty: f64,
}

impl Memory {
    /// What a process holds now.
    ///
    /// # Errors
    /// Where it has ended.
    pub(crate) fn of(pid: i32) -> Result<Self> {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).context("a pod has ended");
        let rollup = read("smaps_rollup")?;
        let field = |name: &str| {
            let line = rollup.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"));
            let kibibytes: f64 = line.with_context(|| format!("no {name} in smaps_rollup"))?.parse()?;
            anyhow::Ok(kibibytes / 1024.0)
        };
        let name = read("comm")?.trim_end().to_owned();
        Ok(Self { name, share: field("Pss:")?, private_dirty: field("Private_Dirty:")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_does_is_counted() {
        let own = BTreeSet::from([std::process::id().cast_signed()]);
        let (time, switched) = (processor_time(&own).unwrap(), sleeps(&own).unwrap());
        std::thread::spawn(std::thread::yield_now).join().unwrap();
        assert!(processor_time(&own).unwrap() > time);
        assert!(sleeps(&own).unwrap() > 0 && switched > 0);
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        // The kernel's limit: ids are below it.
        let nobody = BTreeSet::from([1 << 22]);
        assert!(processor_time(&nobody).is_err());
        assert!(sleeps(&nobody).is_err());
    }
}
