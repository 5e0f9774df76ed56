//! The machine that figures are of, and whether it was quiet.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// How long to look at the machine before anything is measured.
const LOOK: Duration = Duration::from_secs(2);
/// What others may use of the processors, in processors.
const QUIET: f64 = 0.15;
/// What the machine below may withhold of the processors, as a part of the time.
const STOLEN: f64 = 0.02;
/// The kernel's unit of processor time (`USER_HZ`), the same on every architecture that it runs on here.
const TICKS: f64 = 100.0;

/// A machine, and what else it did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// The processor's name.
    pub processor: String,
    /// How many processors there are.
    pub processors: usize,
    /// Its memory, in GiB.
    pub memory: f64,
    /// The kernel's release.
    pub kernel: String,
    /// What others used before, in processors.
    pub busy: f64,
    /// The one-minute load average before.
    pub load: f64,
    /// What the machine below withheld meanwhile, as a part of the time.
    pub stolen: f64,
}

/// Looks at the machine while something is measured.
#[derive(Debug)]
pub(crate) struct Watch {
    busy: f64,
    load: f64,
    start: Instant,
    stolen: f64,
}

impl Watch {
    /// Looks at what others use before anything is measured.
    ///
    /// # Errors
    /// Those of reading `/proc`.
    pub(crate) fn start() -> Result<Self> {
        let (before, start) = (Times::read()?, Instant::now());
        let load = fs::read_to_string("/proc/loadavg")?;
        thread::sleep(LOOK);
        let after = Times::read()?;
        Ok(Self {
            busy: (after.busy - before.busy) / start.elapsed().as_secs_f64(),
            load: load.split(' ').next().and_then(|load| load.parse().ok()).context("no load average")?,
            start: Instant::now(),
            stolen: after.stolen,
        })
    }

    /// What it was.
    ///
    /// # Errors
    /// Those of reading `/proc`.
    pub(crate) fn end(self) -> Result<Machine> {
        let processors = thread::available_parallelism()?.get();
        let stolen = Times::read()?.stolen - self.stolen;
        Ok(Machine {
            processor: line("/proc/cpuinfo", "model name")?.unwrap_or_else(|| "unknown".to_owned()),
            processors,
            memory: memory()?,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            busy: self.busy,
            load: self.load,
            stolen: stolen / (self.start.elapsed().as_secs_f64() * processors as f64),
        })
    }
}

impl Machine {
    /// Why the figures are not to be trusted, if so.
    pub(crate) fn too_busy(&self) -> Option<String> {
        if self.busy > QUIET {
            return Some(format!("others used {:.2} processors before it began", self.busy));
        }
        (self.stolen > STOLEN)
            .then(|| format!("{:.0} % of the time was withheld from the machine", 100.0 * self.stolen))
    }
}

/// Seconds of processor time since the boot.
#[derive(Debug)]
struct Times {
    busy: f64,
    stolen: f64,
}

impl Times {
    /// See `proc_stat(5)`: user, nice, system, idle, iowait, irq, softirq, steal.
    fn read() -> Result<Self> {
        let stat = fs::read_to_string("/proc/stat")?;
        let first = stat
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("cpu "))
            .context("/proc/stat has no line cpu")?;
        let ticks: Vec<f64> = first.split_whitespace().filter_map(|ticks| ticks.parse().ok()).collect();
        let at = |index: usize| ticks.get(index).copied().unwrap_or_default() / TICKS;
        Ok(Self { busy: [0, 1, 2, 5, 6].into_iter().map(at).sum(), stolen: at(7) })
    }
}

fn line(file: &str, key: &str) -> Result<Option<String>> {
    let text = fs::read_to_string(file).with_context(|| format!("reading {file}"))?;
    let value = |line: &str| Some(line.strip_prefix(key)?.split_once(':')?.1.trim().to_owned());
    Ok(text.lines().find_map(value))
}

fn memory() -> Result<f64> {
    let total = line("/proc/meminfo", "MemTotal")?.context("no MemTotal in /proc/meminfo")?;
    let kibibytes: f64 = total.trim_end_matches(" kB").parse().context("MemTotal is no number")?;
    Ok(kibibytes / f64::from(1 << 20))
}
