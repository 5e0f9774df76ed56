//! One memory budget for the whole process, over all instances, so that `memory.grow` fails before the kernel kills.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use wasmtime::ResourceLimiter;
use wisp_contract::counters::{Counter, Counters};

/// What the process needs beside the guest's memory: a share of the limit for the kernel's tables, page cache and buffers…
const RESERVE_SHARE: u64 = 32;
/// …and what an idle service was measured to hold (private memory, its threads' stacks and the kernel's own).
const RESERVE_BYTES: u64 = 4 << 20;
/// A container's limit below twice the reserve leaves half of it to the guest.
const NO_LIMIT: u64 = u64::MAX;
/// What one element of a table takes.
const TABLE_ELEMENT: u64 = size_of::<usize>() as u64;

/// The process's budget.
pub(crate) struct Budget {
    /// The container's limit, for messages; [`NO_LIMIT`] where there is none.
    container: AtomicU64,
    /// What instances may hold together.
    limit: AtomicU64,
    /// What they hold.
    held: AtomicU64,
    counters: Counters,
    last_refused: Mutex<Option<Refused>>,
}

/// A request for memory that the limit refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    wanted: u64,
    held: u64,
    container: u64,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wanted, held, container } = self;
        write!(
            f,
            "{} more memory was refused: the guest holds {} and the container's memory limit is {}, of which a part is \
             kept for the process itself; raise the limit (resources.limits.memory) or use less",
            Size(*wanted),
            Size(*held),
            Size(*container)
        )
    }
}

/// Bytes, in a unit that people read.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes >= 10 << 20 => write!(f, "{} MiB", bytes >> 20),
            bytes if bytes >= 10 << 10 => write!(f, "{} KiB", bytes >> 10),
            bytes => write!(f, "{bytes} bytes"),
        }
    }
}

impl Budget {
    /// The budget of a container with this memory limit in bytes.
    pub(crate) fn new(container: Option<u64>, counters: Counters) -> Arc<Self> {
        let budget = Self {
            container: AtomicU64::new(NO_LIMIT),
            limit: AtomicU64::new(NO_LIMIT),
            held: AtomicU64::new(0),
            counters,
            last_refused: Mutex::default(),
        };
        budget.set_container_limit(container);
        Arc::new(budget)
    }

    /// The container's limit is now this. What is held already stays.
    pub(crate) fn set_container_limit(&self, container: Option<u64>) {
        let container = container.filter(|bytes| *bytes > 0).unwrap_or(NO_LIMIT);
        self.container.store(container, Ordering::Relaxed);
        self.limit.store(guest_share(container), Ordering::Relaxed);
    }

    /// What instances may hold together in bytes, where there is a limit.
    pub(crate) fn what_fits(&self) -> Option<u64> {
        Some(self.limit.load(Ordering::Relaxed)).filter(|bytes| *bytes != NO_LIMIT)
    }

    /// The counters of the process.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The last request for memory that was refused.
    pub(crate) fn refused(&self) -> Option<Refused> {
        *self.last_refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, bytes: u64) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        let more = |held: u64| held.checked_add(bytes).filter(|sum| *sum <= limit);
        match self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => {
                self.counters.add(Counter::MemoryBytes, bytes);
                true
            }
            Err(held) => {
                self.counters.add(Counter::GrowthsRefused, 1);
                let refused =
                    Refused { wanted: bytes, held, container: self.container.load(Ordering::Relaxed) };
                *self.last_refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(refused);
                false
            }
        }
    }

    fn give_back(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
        self.counters.sub(Counter::MemoryBytes, bytes);
    }
}

/// What a guest may hold of a container's limit.
fn guest_share(container: u64) -> u64 {
    if container == NO_LIMIT {
        return NO_LIMIT;
    }
    let reserve = RESERVE_BYTES + container / RESERVE_SHARE;
    container.saturating_sub(reserve).max(container / 2)
}

/// What one store holds of the budget; given back when the store is dropped.
pub(crate) struct StoreBudget {
    budget: Arc<Budget>,
    held: u64,
    /// The growth that was allowed last, in case it then fails for another reason.
    last: u64,
}

impl StoreBudget {
    /// A store that holds nothing yet.
    pub(crate) fn new(budget: &Arc<Budget>) -> Self {
        Self { budget: Arc::clone(budget), held: 0, last: 0 }
    }

    fn grow(&mut self, bytes: u64) -> bool {
        let allowed = self.budget.take(bytes);
        self.last = if allowed { bytes } else { 0 };
        self.held += self.last;
        allowed
    }

    fn undo(&mut self) {
        self.budget.give_back(self.last);
        self.held -= self.last;
        self.last = 0;
    }
}

impl Drop for StoreBudget {
    fn drop(&mut self) {
        self.budget.give_back(self.held);
    }
}

impl ResourceLimiter for StoreBudget {
    fn memory_growing(&mut self, now: usize, then: usize, most: Option<usize>) -> wasmtime::Result<bool> {
        let fits = most.is_none_or(|most| then <= most);
        Ok(fits && self.grow(then.saturating_sub(now) as u64))
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.undo();
        Ok(())
    }

    fn table_growing(&mut self, now: usize, then: usize, most: Option<usize>) -> wasmtime::Result<bool> {
        let fits = most.is_none_or(|most| then <= most);
        Ok(fits && self.grow(then.saturating_sub(now) as u64 * TABLE_ELEMENT))
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.undo();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn growth_ends_before_the_containers_limit_and_is_given_back() {
        let budget = Budget::new(Some(64 << 20), Counters::private());
        let mut store = StoreBudget::new(&budget);
        assert!(store.memory_growing(0, 50 * MIB, None).unwrap());
        assert!(!store.memory_growing(50 * MIB, 60 * MIB, None).unwrap());
        assert!(budget.refused().unwrap().to_string().contains("limit is 64 MiB"));
        drop(store);
        assert_eq!(budget.counters().get(Counter::MemoryBytes), 0);
        assert!(StoreBudget::new(&budget).memory_growing(0, 58 * MIB, None).unwrap());
    }

    #[test]
    fn a_limit_changes_while_the_guest_runs() {
        let budget = Budget::new(None, Counters::private());
        let mut store = StoreBudget::new(&budget);
        assert!(store.memory_growing(0, 500 * MIB, None).unwrap());
        budget.set_container_limit(Some(256 << 20));
        assert!(!store.memory_growing(500 * MIB, 501 * MIB, None).unwrap());
        budget.set_container_limit(Some(0));
        assert!(store.memory_growing(500 * MIB, 501 * MIB, None).unwrap());
    }

    #[test]
    fn a_growth_that_fails_otherwise_is_not_held() {
        let budget = Budget::new(Some(64 << 20), Counters::private());
        let mut store = StoreBudget::new(&budget);
        assert!(!store.memory_growing(0, 2 * MIB, Some(MIB)).unwrap());
        assert!(store.memory_growing(0, MIB, None).unwrap());
        store.memory_grow_failed(wasmtime::format_err!("no address space")).unwrap();
        assert_eq!(budget.counters().get(Counter::MemoryBytes), 0);
    }
}
