//! Processes that are added to a container.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::UNIX_EPOCH;

use containerd_shim_protos::events::task::{TaskExecAdded, TaskExecStarted};
use containerd_shim_protos::topics;
use serde_json::Value;

use super::Tasks;
use super::container::Container;
use super::process::{Phase, Process};
use crate::bundle;
use crate::error::{Context, Error, Result};
use crate::io::{ConsoleSocket, Io, Owner, Stdio};
use crate::reaper::{Exit, ExitOf};
use crate::runtime::Launch;

impl Container {
    /// Adds a process that can be started. `spec` is the JSON of OCI's `Process`.
    pub(crate) fn add_exec(&self, tasks: &Tasks, exec_id: &str, spec: &[u8], stdio: Stdio) -> Result<()> {
        if exec_id.is_empty() || exec_id.contains('/') {
            return Err(Error::invalid_argument(format!("{exec_id:?} cannot be the id of a process")));
        }
        match self.init.phase() {
            Phase::Created | Phase::Running => {}
            Phase::Paused | Phase::Pausing => return Err(Error::unknown("cannot exec in a paused state")),
            Phase::Stopped | Phase::Deleted => return Err(Error::unknown("cannot exec in a stopped state")),
        }
        let mut execs = self.execs();
        if execs.contains_key(exec_id) {
            return Err(Error::already_exists(format!("id {exec_id}")));
        }
        let spec = with_terminal(spec, stdio.terminal)?;
        bundle::write(&self.spec_file(exec_id), &spec)
            .context(|| "keeping the process's specification".to_owned())?;
        execs.insert(exec_id.to_owned(), Arc::new(Process::new(exec_id, stdio)));
        drop(execs);
        let event = TaskExecAdded {
            container_id: self.id.clone(),
            exec_id: exec_id.to_owned(),
            ..TaskExecAdded::default()
        };
        tasks.publisher.publish(topics::TASK_EXEC_ADDED_EVENT_TOPIC, &event);
        Ok(())
    }

    /// Starts a process that was added.
    pub(crate) async fn start_exec(
        self: &Arc<Self>,
        tasks: &Arc<Tasks>,
        process: Arc<Process>,
    ) -> Result<u32> {
        // Counted before anything is waited for, so that the first process's end cannot be told without this one's.
        let running = Running::count(self)?;
        let step = process.step.lock().await;
        match process.phase() {
            Phase::Created => {}
            phase => return Err(phase.refuses("start")),
        }
        let exit = match self.launch_exec(tasks, &process).await {
            Ok(exit) => exit,
            Err(error) => {
                // Whoever waits for it is not left waiting; it has no status of its own.
                process.stopped(Exit { status: 255, at: UNIX_EPOCH });
                return Err(error);
            }
        };
        process.set_phase(Phase::Running);
        let pid = process.pid();
        let event = TaskExecStarted {
            container_id: self.id.clone(),
            exec_id: process.id.clone(),
            pid,
            ..TaskExecStarted::default()
        };
        tasks.publisher.publish(topics::TASK_EXEC_STARTED_EVENT_TOPIC, &event);
        drop(step);
        let (container, tasks) = (self.clone(), tasks.clone());
        tokio::spawn(async move {
            let exit = exit.wait().await;
            let _step = process.step.lock().await;
            if let Some(oom) = &container.oom {
                oom.check(false);
            }
            process.brief_output_is_read().await;
            process.stopped(exit);
            container.publish_exit(&tasks, &process, exit);
            drop(running);
        });
        Ok(pid)
    }

    async fn launch_exec(&self, tasks: &Tasks, process: &Process) -> Result<ExitOf> {
        let owner = Owner { id: process.id.clone(), ..self.owner.clone() };
        let (pid_file, spec_file) = (self.exec_pid_file(&process.id), self.spec_file(&process.id));
        let launch = |socket, stdio| Launch {
            pid_file: &pid_file,
            console_socket: socket,
            stdio,
            flags: Vec::new(),
            abandoned: None,
        };
        let expected = tasks.reaper.expect();
        let io = if process.stdio.terminal {
            let socket = ConsoleSocket::bind(&self.bundle)?;
            let path: PathBuf = socket.path();
            self.runtime.exec(&self.id, &spec_file, launch(Some(path.as_path()), None)).await?;
            Io::connect(&process.stdio, &owner, socket.receive()?).await?
        } else {
            let (io, stdio) = Io::open(&process.stdio, &owner).await?;
            self.runtime.exec(&self.id, &spec_file, launch(None, Some(stdio))).await?;
            io
        };
        let pid = bundle::read_pid(&pid_file).context(|| "reading the process's id".to_owned())?;
        let exit = expected.claim(pid);
        process.born(pid, io);
        Ok(exit)
    }

    /// Deletes a process that has ended, or was never started.
    pub(crate) async fn delete_exec(&self, process: &Process) -> Result<Option<Exit>> {
        let _step = process.step.lock().await;
        match process.phase() {
            Phase::Created | Phase::Stopped => {}
            phase => return Err(phase.refuses("delete")),
        }
        if let Some(io) = process.take_io() {
            io.drain().await;
        }
        for file in [self.exec_pid_file(&process.id), self.spec_file(&process.id)] {
            // The first is there only if it was started; both go with the bundle anyway.
            let _ = fs::remove_file(file);
        }
        process.set_phase(Phase::Deleted);
        self.execs().remove(&process.id);
        Ok(process.exit())
    }

    fn exec_pid_file(&self, exec_id: &str) -> PathBuf {
        self.bundle.join(format!("exec-{exec_id}.pid"))
    }

    fn spec_file(&self, exec_id: &str) -> PathBuf {
        self.bundle.join(format!("exec-{exec_id}.json"))
    }
}

/// The request says whether the process has a terminal, whatever its specification says.
fn with_terminal(spec: &[u8], terminal: bool) -> Result<Vec<u8>> {
    let malformed = |error: serde_json::Error| {
        Error::invalid_argument(format!("the process is not an OCI process: {error}"))
    };
    let mut spec: serde_json::Map<String, Value> = serde_json::from_slice(spec).map_err(malformed)?;
    spec.insert("terminal".to_owned(), Value::Bool(terminal));
    serde_json::to_vec(&spec).map_err(malformed)
}

/// Counts a process as running for as long as it is held.
struct Running(Arc<Container>);

impl Running {
    fn count(container: &Arc<Container>) -> Result<Self> {
        if container.ended.load(Ordering::Relaxed) {
            let message = format!("container {} init process is not running", container.id);
            return Err(Error::failed_precondition(message));
        }
        container.running_execs.send_modify(|count| *count += 1);
        Ok(Self(container.clone()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running_execs.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_decides_about_the_terminal_and_nothing_else_changes() {
        let spec = with_terminal(br#"{"args":["a"],"unknown":{"kept":1},"terminal":true}"#, false).unwrap();
        let spec: Value = serde_json::from_slice(&spec).unwrap();
        assert_eq!(spec, serde_json::json!({"args": ["a"], "unknown": {"kept": 1}, "terminal": false}));
        assert!(with_terminal(b"[]", true).is_err());
    }
}
