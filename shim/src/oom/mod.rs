//! Watching for OOM kills in a container: `kubectl` says `OOMKilled` only because of the event that is published here, and
//! only if it comes before the exit's.
//!
//! The kernel wakes the watch through an eventfd (cgroup v1) or inotify (v2). Neither says that something was killed, v1
//! not even that it was in this cgroup; so what counts is whether the cgroup's `oom_kill` counter has risen. It is read
//! once more when one of its processes has ended, so that no kill is missed or told late.

mod pod;

use std::fs;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use containerd_shim_protos::events::task::TaskOOM;
use containerd_shim_protos::topics;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tracing::info;

pub(crate) use self::pod::PodKills;
use crate::cgroup::Cgroup;
use crate::io::watched;
use crate::publisher::Publisher;

/// When to count again after a wake without a kill, in milliseconds.
const SETTLING: [u64; 4] = [1, 10, 100, 1000];

/// A watch over one container; dropping it ends it.
#[derive(Debug)]
pub(crate) struct OomWatch {
    counter: Arc<Counter>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Counter {
    id: String,
    file: PathBuf,
    seen: AtomicU64,
    /// Whether there was any since the watch began.
    any: AtomicBool,
    pod: PodKills,
    publisher: Publisher,
}

impl OomWatch {
    /// Begins to watch, on the current runtime.
    ///
    /// # Errors
    /// The node has no memory controller, or the cgroup is gone.
    pub(crate) fn start(cgroup: &Cgroup, id: &str, pod: &PodKills, publisher: Publisher) -> io::Result<Self> {
        let (file, wakes) = match cgroup {
            Cgroup::V1(folders) => {
                let folder = folders.folder("memory").ok_or(io::ErrorKind::NotFound)?;
                let file = folder.join("memory.oom_control");
                let wakes = eventfd_of(folder, &file)?;
                (file, wakes)
            }
            Cgroup::V2(folder) => {
                let file = folder.join("memory.events");
                let wakes = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
                inotify::add_watch(&wakes, &file, inotify::WatchFlags::MODIFY)?;
                (file, wakes)
            }
        };
        let seen = AtomicU64::new(kills(&file)?);
        let (any, id) = (AtomicBool::default(), id.to_owned());
        let counter = Arc::new(Counter { id, file, seen, any, pod: pod.clone(), publisher });
        if let Cgroup::V2(folder) = cgroup {
            pod.join(folder, &counter);
        }
        let task = tokio::spawn(watch(watched(wakes)?, counter.clone()));
        Ok(Self { counter, task })
    }

    /// Publishes that there were kills, if there were any that have not been published. `killed` says whether the container's
    /// first process ended by SIGKILL.
    pub(crate) fn check(&self, killed: bool) {
        let gone = self.counter.check().is_none();
        if gone && killed && self.counter.pod.take(&self.counter) {
            self.counter.publish();
        }
    }

    /// Whether there were any.
    pub(crate) fn any(&self) -> bool {
        self.counter.any.load(Ordering::Relaxed)
    }
}

impl Drop for OomWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Counter {
    /// Whether the count has risen; `None` if the cgroup is gone.
    fn check(&self) -> Option<bool> {
        let now = kills(&self.file).ok()?;
        let seen = self.seen.swap(now, Ordering::Relaxed);
        let risen = now > seen;
        if risen {
            self.pod.claim(now - seen);
            self.publish();
        }
        Some(risen)
    }

    fn publish(&self) {
        info!(id = self.id, "the kernel has killed a process of a container that was out of memory");
        self.any.store(true, Ordering::Relaxed);
        let event = TaskOOM { container_id: self.id.clone(), ..TaskOOM::default() };
        self.publisher.publish(topics::TASK_OOM_EVENT_TOPIC, &event);
    }
}

/// Has the kernel signal an eventfd whenever the cgroup runs out of memory. See `Documentation/admin-guide/cgroup-v1/memory.rst`, section 10.
fn eventfd_of(folder: &Path, control: &Path) -> io::Result<OwnedFd> {
    let wakes = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let control = fs::File::open(control)?;
    fs::write(folder.join("cgroup.event_control"), format!("{} {}", wakes.as_raw_fd(), control.as_raw_fd()))?;
    Ok(wakes)
}

async fn watch(wakes: AsyncFd<OwnedFd>, counter: Arc<Counter>) {
    let mut buffer = [MaybeUninit::uninit(); 1024];
    loop {
        let Ok(mut ready) = wakes.readable().await else { return };
        // What is read is only that something has happened.
        let read = ready.try_io(|wakes| Ok(rustix::io::read(wakes, &mut buffer)?.0.len()));
        match read {
            Err(_would_block) => {}
            Ok(Ok(len)) if len > 0 && settled(&counter).await => {}
            // The cgroup has been removed: v1 then signals for ever.
            Ok(_) => return,
        }
    }
}

/// Counts after a wake; whether the cgroup is still there. v1 wakes before it kills, so the count may rise a little later.
async fn settled(counter: &Counter) -> bool {
    for pause in SETTLING {
        match counter.check() {
            None => return false,
            Some(true) => return true,
            Some(false) => sleep(Duration::from_millis(pause)).await,
        }
    }
    counter.check().is_some()
}

fn kills(file: &Path) -> io::Result<u64> {
    let mut text = String::new();
    fs::File::open(file)?.read_to_string(&mut text)?;
    Ok(oom_kill(&text))
}

fn oom_kill(text: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A counter that publishes to nobody.
    pub(super) fn counter(id: &str, file: &Path, pod: &PodKills) -> Arc<Counter> {
        Arc::new(Counter {
            id: id.to_owned(),
            file: file.to_owned(),
            seen: AtomicU64::default(),
            any: AtomicBool::default(),
            pod: pod.clone(),
            publisher: Publisher::start("", "n"),
        })
    }

    #[test]
    fn only_the_count_of_kills_counts() {
        assert_eq!(oom_kill("oom_kill_disable 1\nunder_oom 1\noom_kill 3\n"), 3);
        assert_eq!(oom_kill("low 0\nhigh 9\nmax 12\noom 5\noom_kill 2\noom_group_kill 1\n"), 2);
        assert_eq!(oom_kill("oom_kill_disable 0\nunder_oom 0\n"), 0);
    }
}
