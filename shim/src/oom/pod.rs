//! OOM kills as a pod's cgroup counts them, for containers whose own cgroup is gone before it could be read.
//!
//! systemd removes a container's scope as soon as its last process has ended, which is what an OOM kill does, and may be
//! faster than the shim. On cgroup v2 the pod's slice counts the kills of all its containers, and stays: what it has counted
//! and no container's own counter has is the kill of the one whose counter is gone.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::{Counter, kills};

/// The kills of a shim's pod; clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct PodKills(Arc<Mutex<Option<Ledger>>>);

#[derive(Debug)]
struct Ledger {
    /// The slice's `memory.events`.
    file: PathBuf,
    /// How many of its kills belong to somebody, or were before this shim.
    claimed: u64,
    counters: Vec<Weak<Counter>>,
}

impl PodKills {
    fn ledger(&self) -> MutexGuard<'_, Option<Ledger>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the counter of a container whose cgroup has this folder, if that is a scope in the slice of a pod.
    pub(super) fn join(&self, folder: &Path, counter: &Arc<Counter>) {
        let Some(slice) = slice_of_pod(folder) else { return };
        let file = slice.join("memory.events");
        let Ok(claimed) = kills(&file) else { return };
        let mut ledger = self.ledger();
        let ledger =
            ledger.get_or_insert_with(|| Ledger { file: file.clone(), claimed, counters: Vec::new() });
        if ledger.file == file {
            ledger.counters.retain(|counter| counter.strong_count() > 0);
            ledger.counters.push(Arc::downgrade(counter));
        }
    }

    /// A container's own counter has risen.
    pub(super) fn claim(&self, kills: u64) {
        if let Some(ledger) = &mut *self.ledger() {
            ledger.claimed += kills;
        }
    }

    /// Whether there were kills that no container's own counter has, which are then those of the container with the
    /// counter `gone`.
    pub(super) fn take(&self, gone: &Counter) -> bool {
        // The others first claim what is theirs, without the lock, which they need for it.
        let counters: Vec<_> =
            self.ledger().iter().flat_map(|ledger| &ledger.counters).filter_map(Weak::upgrade).collect();
        if !counters.iter().any(|counter| std::ptr::eq(counter.as_ref(), gone)) {
            return false;
        }
        for counter in counters.iter().filter(|counter| !std::ptr::eq(counter.as_ref(), gone)) {
            counter.check();
        }
        let mut ledger = self.ledger();
        let Some(ledger) = &mut *ledger else { return false };
        let Ok(now) = kills(&ledger.file) else { return false };
        let unclaimed = now > ledger.claimed;
        ledger.claimed = ledger.claimed.max(now);
        unclaimed
    }
}

/// The slice that a kubelet has made for a pod, in which the scope is, if it is one: `kubepods-…-podUID.slice`.
fn slice_of_pod(scope: &Path) -> Option<&Path> {
    let is_scope = scope.extension().is_some_and(|extension| extension == "scope");
    let slice = scope.parent().filter(|_| is_scope)?;
    let name = slice.file_name()?.to_str()?;
    (name.ends_with(".slice") && name.contains("-pod")).then_some(slice)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::tests::counter;
    use super::*;

    fn count(folder: &Path, kills: u64) {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("memory.events"), format!("oom {kills}\noom_kill {kills}\n")).unwrap();
    }

    #[test]
    fn only_scopes_in_a_pods_slice_are_counted_by_the_pod() {
        let slice = Path::new("/c/kubepods.slice/kubepods-pod1.slice");
        assert_eq!(slice_of_pod(&slice.join("cri-containerd-a.scope")), Some(slice));
        assert_eq!(slice_of_pod(&slice.join("a")), None);
        assert_eq!(slice_of_pod(Path::new("/c/system.slice/cri-containerd-a.scope")), None);
    }

    #[tokio::test]
    async fn a_kill_that_nobody_has_counted_is_that_of_the_container_whose_counter_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let slice = dir.path().join("kubepods-pod1.slice");
        let scope = |name: &str| slice.join(format!("{name}.scope"));
        let pod = PodKills::default();
        count(&slice, 7);
        let [a, b] = ["a", "b"].map(|name| {
            count(&scope(name), 0);
            counter(name, &scope(name).join("memory.events"), &pod)
        });
        pod.join(&scope("a"), &a);
        pod.join(&scope("b"), &b);
        assert!(!pod.take(&a), "kills from before the shim are nobody's");

        // One kill of b, which its own counter still shows.
        count(&slice, 8);
        count(&scope("b"), 1);
        fs::remove_dir_all(scope("a")).unwrap();
        assert!(!pod.take(&a), "the kill was b's");

        count(&slice, 9);
        assert!(pod.take(&a));
        assert!(!pod.take(&a), "once");
    }
}
