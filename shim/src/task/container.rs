//! One container: its first process, the processes added to it, and what can be done to them.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use containerd_shim_protos::events::task::{TaskDelete, TaskExit, TaskPaused, TaskResumed, TaskStart};
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::topics;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::Tasks;
use super::process::{Phase, Process, already_finished};
use crate::bundle::{self, ExitRecord, RuntimeRecord};
use crate::cgroup::Cgroup;
use crate::error::{Error, Result};
use crate::io::Owner;
use crate::oom::OomWatch;
use crate::reaper::{Exit, ExitOf};
use crate::runtime::Runtime;
use crate::{mount, stats, timestamp};

/// How long a container's other processes may take to end after its first one, which has killed them by ending.
const OTHERS: Duration = Duration::from_secs(10);
/// How long a process may take to end that has been killed.
const KILLED: Duration = Duration::from_secs(10);
/// How long an OOM kill's event may hold up the exit that it caused.
const OOM_FIRST: Duration = Duration::from_secs(1);
const SIGKILL: u32 = 9;
/// The status of a process that was ended by it.
const KILLED_STATUS: u32 = 128 + SIGKILL;

/// A container.
#[derive(Debug)]
pub(crate) struct Container {
    /// Its id.
    pub id: String,
    /// Its bundle.
    pub bundle: PathBuf,
    /// Its first process.
    pub init: Arc<Process>,
    pub(super) runtime: Runtime,
    pub(super) owner: Owner,
    /// Whether hooks are run when it is started.
    pub(super) start_hooks: bool,
    /// Whether hooks are run when it is deleted.
    pub(super) stop_hooks: bool,
    /// Whether the kernel kills its other processes when the first one ends.
    pub(super) own_pid_namespace: bool,
    pub(super) cgroup: Option<Cgroup>,
    pub(super) oom: Option<OomWatch>,
    /// The processes added by exec, by their ids.
    pub(super) execs: Mutex<HashMap<String, Arc<Process>>>,
    /// How many of them run, or are being started.
    pub(super) running_execs: watch::Sender<usize>,
    /// Set as soon as the first process has ended: nothing can be started any more.
    pub(super) ended: AtomicBool,
    /// What Stats answers when the cgroup is gone, which it is before Delete only where systemd removes it.
    pub(super) last_stats: Mutex<Option<Any>>,
}

impl Container {
    pub(crate) fn execs(&self) -> MutexGuard<'_, HashMap<String, Arc<Process>>> {
        self.execs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process by its id; the empty id is the first one's.
    pub(crate) fn process(&self, exec_id: &str) -> Result<Arc<Process>> {
        if exec_id.is_empty() {
            return Ok(self.init.clone());
        }
        let found = self.execs().get(exec_id).cloned();
        found.ok_or_else(|| Error::not_found(format!("process does not exist {exec_id}")))
    }

    /// Where a process is in its life, as containerd is told: all processes of a frozen container are frozen.
    pub(crate) fn phase(&self, process: &Process) -> Phase {
        match self.init.phase() {
            phase @ (Phase::Paused | Phase::Pausing) => phase,
            _ => process.phase(),
        }
    }

    /// Starts the first process.
    pub(crate) async fn start(&self, tasks: &Tasks) -> Result<u32> {
        let _step = self.init.step.lock().await;
        match self.init.phase() {
            Phase::Created => {}
            phase => return Err(phase.refuses("start")),
        }
        self.runtime.start(&self.id, self.start_hooks).await?;
        self.init.set_phase(Phase::Running);
        let pid = self.init.pid();
        let event = TaskStart { container_id: self.id.clone(), pid, ..TaskStart::default() };
        tasks.publisher.publish(topics::TASK_START_EVENT_TOPIC, &event);
        Ok(pid)
    }

    /// Follows the first process to its end, and says that it has ended: after all its other processes, and after an OOM
    /// kill.
    pub(super) async fn follow(self: Arc<Self>, tasks: Arc<Tasks>, exit: ExitOf) {
        let exit = exit.wait().await;
        self.ended.store(true, Ordering::Relaxed);
        // At once: systemd removes a cgroup as soon as it is empty.
        if let Some(oom) = &self.oom {
            oom.check(exit.status == KILLED_STATUS);
        }
        if self.runtime.has_systemd_cgroups() {
            self.keep_stats();
        }
        let _step = self.init.step.lock().await;
        if self.init.phase() == Phase::Paused
            && let Err(error) = self.runtime.resume(&self.id).await
        {
            debug!(id = self.id, %error, "a container that ended while it was paused was not thawed");
        }
        if !self.own_pid_namespace
            && let Err(error) = self.runtime.kill(&self.id, SIGKILL, true).await
        {
            debug!(id = self.id, %error, "the container's other processes were not killed");
        }
        self.others_ended().await;
        let pid = self.init.pid();
        if let Err(error) = ExitRecord::new(pid, exit).write(&self.bundle) {
            warn!(id = self.id, %error, "the exit status was not recorded");
        }
        // Also a kill among its other processes, which have ended since.
        if let Some(oom) = &self.oom {
            oom.check(false);
        }
        if self.oom.as_ref().is_some_and(OomWatch::any) {
            // CRI hears of the exit by Wait's answer too, which must not overtake the event.
            tasks.publisher.flush(OOM_FIRST).await;
        }
        self.init.brief_output_is_read().await;
        self.init.stopped(exit);
        self.publish_exit(&tasks, &self.init, exit);
    }

    async fn others_ended(&self) {
        let mut running = self.running_execs.subscribe();
        if timeout(OTHERS, running.wait_for(|count| *count == 0)).await.is_err() {
            warn!(id = self.id, "processes of a container have not ended with its first one");
        }
    }

    /// Says that a process has ended.
    pub(super) fn publish_exit(&self, tasks: &Tasks, process: &Process, exit: Exit) {
        let event = TaskExit {
            container_id: self.id.clone(),
            id: process.id.clone(),
            pid: process.pid(),
            exit_status: exit.status,
            exited_at: MessageField::some(timestamp(exit.at)),
            ..TaskExit::default()
        };
        tasks.publisher.publish(topics::TASK_EXIT_EVENT_TOPIC, &event);
    }

    /// Sends a signal to the first process, or to all of them.
    pub(crate) async fn kill(&self, signal: u32, all: bool) -> Result<()> {
        let phase = self.init.phase();
        self.init.expect_end();
        // What a runtime does beyond the signal: it reaches the other processes where the kernel does not, and a frozen
        // process.
        let others_too = all || (signal == SIGKILL && !self.own_pid_namespace);
        if !others_too && matches!(phase, Phase::Created | Phase::Running) {
            return self.init.signal(signal);
        }
        let _step = self.init.step.lock().await;
        // Of a container whose first process has ended there may still be others.
        if !all && (self.ended.load(Ordering::Relaxed) || self.init.exit().is_some()) {
            return Err(already_finished());
        }
        self.runtime.kill(&self.id, signal, all).await.map_err(|error| {
            let text = error.to_string().to_lowercase();
            let gone = ["already finished", "not running", "no such process", "does not exist"];
            if gone.iter().any(|phrase| text.contains(phrase)) { already_finished() } else { error }
        })
    }

    /// Kills all its processes, and waits until its first one has ended.
    pub(super) async fn end(&self) -> Result<()> {
        if self.init.exit().is_none() {
            self.kill(SIGKILL, true).await?;
            // A process that the kernel does not let go holds nobody up for ever.
            let _ = timeout(KILLED, self.init.wait()).await;
        }
        Ok(())
    }

    /// Freezes the container.
    pub(crate) async fn pause(&self, tasks: &Tasks) -> Result<()> {
        let _step = self.init.step.lock().await;
        match self.init.phase() {
            Phase::Running => {}
            phase => return Err(phase.refuses("pause")),
        }
        self.init.set_phase(Phase::Pausing);
        let paused = self.runtime.pause(&self.id).await;
        self.init.set_phase(if paused.is_ok() { Phase::Paused } else { Phase::Running });
        paused?;
        let event = TaskPaused { container_id: self.id.clone(), ..TaskPaused::default() };
        tasks.publisher.publish(topics::TASK_PAUSED_EVENT_TOPIC, &event);
        Ok(())
    }

    /// Thaws the container.
    pub(crate) async fn resume(&self, tasks: &Tasks) -> Result<()> {
        let _step = self.init.step.lock().await;
        match self.init.phase() {
            Phase::Paused => {}
            phase => return Err(phase.refuses("resume")),
        }
        self.runtime.resume(&self.id).await?;
        self.init.set_phase(Phase::Running);
        let event = TaskResumed { container_id: self.id.clone(), ..TaskResumed::default() };
        tasks.publisher.publish(topics::TASK_RESUMED_EVENT_TOPIC, &event);
        Ok(())
    }

    /// Changes the container's limits; `resources` is the JSON of OCI's `LinuxResources`.
    pub(crate) async fn update(&self, resources: &[u8]) -> Result<()> {
        let _step = self.init.step.lock().await;
        match self.init.phase() {
            Phase::Stopped | Phase::Deleted => Err(self.init.phase().refuses("update")),
            _ => self.runtime.update(&self.id, resources).await,
        }
    }

    /// The process ids of all its processes; of a container that has ended and was not deleted, its first process's.
    ///
    /// A containerd that was away when the container ended takes a shim without processes for one that was forgotten: it
    /// removes it, and a Job that has succeeded is told to have failed, with no exit code. (runc's shim answers nothing.)
    pub(crate) fn pids(&self) -> Vec<u32> {
        let in_cgroup = self.cgroup.as_ref().and_then(|cgroup| cgroup.pids().ok()).unwrap_or_default();
        if !in_cgroup.is_empty() {
            return in_cgroup;
        }
        let execs = self.execs();
        let running = execs.values().filter(|process| process.exit().is_none());
        let known = std::iter::once(&self.init).chain(running).map(|process| process.pid());
        known.filter(|pid| *pid > 0).collect()
    }

    /// What its cgroup says, or said last.
    pub(crate) fn stats(&self) -> Result<Any> {
        let cgroup = self.cgroup.as_ref().ok_or_else(|| Error::not_found("cgroup does not exist"))?;
        let last = || self.last_stats.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match stats::of(cgroup) {
            Ok(stats) => Ok(stats),
            Err(error) => {
                last().ok_or_else(|| Error::unknown(format!("reading the cgroup's figures: {error}")))
            }
        }
    }

    fn keep_stats(&self) {
        if let Some(stats) = self.cgroup.as_ref().and_then(|cgroup| stats::of(cgroup).ok()) {
            *self.last_stats.lock().unwrap_or_else(PoisonError::into_inner) = Some(stats);
        }
    }

    /// Deletes the container, and says so. How its first process ended is the answer.
    pub(crate) async fn delete(&self, tasks: &Tasks) -> Result<Option<Exit>> {
        let step = self.init.step.lock().await;
        let was = self.init.phase();
        if !matches!(was, Phase::Created | Phase::Stopped) {
            return Err(was.refuses("delete"));
        }
        self.remove(was == Phase::Created).await?;
        self.init.set_phase(Phase::Deleted);
        // The step is needed by the one who follows the process that was killed.
        drop(step);
        let exit = timeout(KILLED, self.init.wait()).await.ok();
        tasks.forget(&self.id);
        let event = TaskDelete {
            container_id: self.id.clone(),
            pid: self.init.pid(),
            exit_status: exit.map_or(0, |exit| exit.status),
            exited_at: exit.map(|exit| timestamp(exit.at)).into(),
            ..TaskDelete::default()
        };
        tasks.publisher.publish(topics::TASK_DELETE_EVENT_TOPIC, &event);
        Ok(exit)
    }

    /// Removes everything that the container has on the node; with `force` also if it runs.
    pub(super) async fn remove(&self, force: bool) -> Result<()> {
        if !force && let Some(io) = self.init.take_io() {
            io.drain().await;
        }
        let deleted = if !force && self.cleared() { Ok(()) } else { self.runtime_deletes(force).await };
        if let Some(io) = self.init.take_io() {
            io.drain().await;
        }
        let unmounted = mount::unmount_all(&self.bundle.join("rootfs"));
        deleted.map_err(|error| error.context("failed to delete task"))?;
        unmounted.map_err(|error| Error::unknown(format!("failed rootfs umount: {error}")))?;
        RuntimeRecord::remove(&self.bundle);
        // It goes with the bundle anyway.
        let _ = fs::remove_file(self.bundle.join(bundle::PID_FILE));
        Ok(())
    }

    /// Whether all that the runtime has of a container that has ended could be removed without the runtime.
    fn cleared(&self) -> bool {
        let Some(cgroup) = self.cgroup.as_ref().filter(|_| !self.stop_hooks) else { return false };
        let cleared = self.runtime.clear(&self.id, cgroup);
        cleared.inspect_err(|error| debug!(id = self.id, %error, "it is for the runtime to delete")).is_ok()
    }

    async fn runtime_deletes(&self, force: bool) -> Result<()> {
        match self.runtime.delete(&self.id, force).await {
            Err(error) if error.to_string().contains("does not exist") => Ok(()),
            // A process that is still in its cgroup: its container has ended, and so must it.
            Err(_) if !force => self.runtime.delete(&self.id, true).await,
            other => other,
        }
    }
}
