//! One page of counters that a guest process keeps in a file of its state directory ([`FILE`], on tmpfs), so that others
//! read them without waking it.
//!
//! The page begins with [`MAGIC`] and then holds the [`Counter`]s in their order, each a little-endian `u64` at
//! `8 + 8 × index`. New counters are added at the end.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap};
use serde::{Deserialize, Serialize};

/// The file's name in the container's state directory.
pub const FILE: &str = "counters";
/// The first eight bytes of the page: "wisp" and the layout's version.
pub const MAGIC: u64 = u64::from_le_bytes(*b"wisp\0\0\0\x01");
/// The size of the page in bytes.
pub const PAGE: usize = 4096;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Counter {
    /// Bytes of linear memory and tables that the guest's instances hold now.
    MemoryBytes,
    /// The most that [`Counter::MemoryBytes`] has been.
    MemoryPeakBytes,
    /// Instances made since the start.
    Instances,
    /// HTTP requests received since the start.
    Requests,
    /// HTTP requests that are being handled now.
    RequestsInFlight,
    /// Traps since the start.
    Traps,
    /// Growths of memory that the limit refused.
    GrowthsRefused,
    /// 1 once the guest was told to start.
    Started,
}

/// How many counters the page holds.
const COUNTERS: usize = Counter::Started as usize + 1;

/// The counters as they were at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// See [`Counter::MemoryBytes`].
    pub memory_bytes: u64,
    /// See [`Counter::MemoryPeakBytes`].
    pub memory_peak_bytes: u64,
    /// See [`Counter::Instances`].
    pub instances: u64,
    /// See [`Counter::Requests`].
    pub requests: u64,
    /// See [`Counter::RequestsInFlight`].
    pub requests_in_flight: u64,
    /// See [`Counter::Traps`].
    pub traps: u64,
    /// See [`Counter::GrowthsRefused`].
    pub growths_refused: u64,
    /// See [`Counter::Started`].
    pub started: u64,
}

impl Snapshot {
    fn of(value: impl Fn(Counter) -> u64) -> Self {
        Self {
            memory_bytes: value(Counter::MemoryBytes),
            memory_peak_bytes: value(Counter::MemoryPeakBytes),
            instances: value(Counter::Instances),
            requests: value(Counter::Requests),
            requests_in_flight: value(Counter::RequestsInFlight),
            traps: value(Counter::Traps),
            growths_refused: value(Counter::GrowthsRefused),
            started: value(Counter::Started),
        }
    }

    /// Reads the counters of a guest process from its file.
    ///
    /// # Errors
    /// Those of reading, and `InvalidData` where the file is not a page of counters.
    pub fn read(file: &File) -> io::Result<Self> {
        let mut page = [0; 8 * (1 + COUNTERS)];
        file.read_exact_at(&mut page, 0)?;
        let word = |index: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&page[8 * index..8 * index + 8]);
            u64::from_le_bytes(bytes)
        };
        if word(0) != MAGIC {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a page of Wisp's counters"));
        }
        Ok(Self::of(|counter| word(1 + counter as usize)))
    }
}

/// The counters of this process.
#[derive(Debug)]
pub struct Counters {
    words: &'static [AtomicU64],
}

impl Counters {
    /// Counters that only this process sees.
    #[must_use]
    pub fn private() -> Self {
        Self { words: Box::leak((0..=COUNTERS).map(|_| AtomicU64::new(0)).collect()) }
    }

    /// Maps the page in `file`, which must be [`PAGE`] bytes long, and marks it as counters.
    ///
    /// # Errors
    /// Those of `mmap(2)`.
    pub fn map(file: impl AsFd) -> io::Result<Self> {
        // SAFETY: a fresh shared mapping of a file that nobody shortens (its directory is root's); the mapping is never
        // undone, so it may be borrowed for ever; AtomicU64 has the layout of u64 and any bits are valid.
        let words = unsafe {
            let page = mmap(
                std::ptr::null_mut(),
                PAGE,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                file,
                0,
            )?;
            std::slice::from_raw_parts(page.cast::<AtomicU64>().cast_const(), 1 + COUNTERS)
        };
        words[0].store(MAGIC.to_le(), Ordering::Release);
        Ok(Self { words })
    }

    /// Adds to a counter.
    pub fn add(&self, counter: Counter, amount: u64) {
        let now = self.words[1 + counter as usize].fetch_add(amount, Ordering::Relaxed) + amount;
        if counter == Counter::MemoryBytes {
            self.words[1 + Counter::MemoryPeakBytes as usize].fetch_max(now, Ordering::Relaxed);
        }
    }

    /// Takes from a counter that says how many there are now.
    pub fn sub(&self, counter: Counter, amount: u64) {
        self.words[1 + counter as usize].fetch_sub(amount, Ordering::Relaxed);
    }

    /// Sets a counter that says what is so.
    pub fn set(&self, counter: Counter, value: u64) {
        self.words[1 + counter as usize].store(value, Ordering::Relaxed);
    }

    /// What a counter says now.
    #[must_use]
    pub fn get(&self, counter: Counter) -> u64 {
        self.words[1 + counter as usize].load(Ordering::Relaxed)
    }

    /// What all counters say now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(|counter| self.get(counter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_counts_others_read_from_the_file() {
        let file = tempfile::tempfile().unwrap();
        assert!(Snapshot::read(&file).is_err(), "an empty file is not a page of counters");
        file.set_len(PAGE as u64).unwrap();
        let counters = Counters::map(&file).unwrap();
        counters.add(Counter::Requests, 2);
        counters.add(Counter::MemoryBytes, 65536);
        counters.sub(Counter::MemoryBytes, 65536);
        let snapshot = Snapshot::read(&file).unwrap();
        assert_eq!(snapshot, counters.snapshot());
        assert_eq!((snapshot.requests, snapshot.memory_bytes, snapshot.memory_peak_bytes), (2, 0, 65536));
    }
}
