//! `delete`: removes what is left of a container, and answers how it ended.
//!
//! containerd runs it when the connection to a task's shim has closed: after each ordinary delete, when nearly nothing is
//! left to do; and after the shim was killed, when everything is. It acts on its own container only, may be run at any
//! time and more than once, and needs nothing but the bundle. containerd gives it five seconds.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::protobuf::{Message, MessageField};

use crate::args::Args;
use crate::bundle::{ADDRESS_FILE, ExitRecord, LOG_FILE, PID_FILE, RuntimeRecord, read_pid};
use crate::mount;
use crate::sandbox::PodFiles;
use crate::socket;
use crate::timestamp;

/// How long the runtime may take.
const LIMIT: Duration = Duration::from_secs(4);
/// What a killed process's status is.
const KILLED: u32 = 128 + 9;

/// Does it; the answer is what is to be printed. What could not be removed is told on stderr, which containerd logs.
///
/// # Errors
/// The bundle cannot be told.
pub(crate) fn delete(args: &Args) -> anyhow::Result<Vec<u8>> {
    let bundle = bundle_of(args)?;
    delete_pod(&PodFiles::of(&args.namespace, &args.id));
    let pid = read_pid(&bundle.join(PID_FILE)).unwrap_or_default().cast_unsigned();
    delete_container(&bundle, &args.id);
    remove_dead_socket(&bundle);
    Ok(answer(ExitRecord::read(&bundle), pid).write_to_bytes()?)
}

/// The bundle of the container that is meant. The working directory may be that of another container of the pod.
fn bundle_of(args: &Args) -> anyhow::Result<PathBuf> {
    if let Some(bundle) = &args.bundle {
        return Ok(bundle.clone());
    }
    let here = std::env::current_dir().context("finding the bundle, which is the working directory")?;
    Ok(here.parent().unwrap_or(Path::new("/")).join(&args.id))
}

fn answer(exit: Option<ExitRecord>, pid: u32) -> DeleteResponse {
    let (pid, status, at) = match exit {
        Some(exit) => (exit.pid, exit.status, exit.at()),
        None => (pid, KILLED, SystemTime::now()),
    };
    DeleteResponse {
        pid,
        exit_status: status,
        exited_at: MessageField::some(timestamp(at)),
        ..DeleteResponse::default()
    }
}

/// Removes what a shim that was a pod's sandbox has left: at the end of an ordinary pod, nothing.
fn delete_pod(files: &PodFiles) {
    if !files.exist() {
        return;
    }
    for (id, folder) in files.containers() {
        delete_container(&folder, &id);
    }
    if let Err(error) = files.remove() {
        warn(&format!("the pod's files stay: {error}"));
    }
}

/// Removes what is left of a container. `bundle` is its bundle, or another folder with the record of its runtime.
fn delete_container(bundle: &Path, id: &str) {
    match RuntimeRecord::read(bundle) {
        Ok(None) => {}
        Ok(Some(record)) => match run_delete(&record, bundle, id) {
            Ok(()) => RuntimeRecord::remove(bundle),
            Err(error) => warn(&format!("the container {id} was not deleted: {error:#}")),
        },
        Err(error) => warn(&format!("it is not known which runtime had the container {id}: {error}")),
    }
    if let Err(error) = mount::unmount_all(&bundle.join("rootfs")) {
        warn(&format!("the root file system of {id} stays mounted: {error}"));
    }
}

fn run_delete(record: &RuntimeRecord, bundle: &Path, id: &str) -> anyhow::Result<()> {
    let mut command = Command::new(&record.program);
    command
        .arg("--root")
        .arg(&record.root)
        .arg("--log")
        .arg(bundle.join(LOG_FILE))
        .args(["--log-format", "json"]);
    if record.systemd_cgroup {
        command.arg("--systemd-cgroup");
    }
    command.args(["delete", "--force", id]).env_remove("NOTIFY_SOCKET");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("running {}", record.program.display()))?;
    if wait(&mut child)? {
        return Ok(());
    }
    let mut why = String::new();
    if let Some(stderr) = child.stderr.take() {
        stderr.take(4096).read_to_string(&mut why)?;
    }
    anyhow::bail!("{} delete: {}", record.program.display(), why.trim())
}

/// Whether the command succeeded in time.
fn wait(child: &mut Child) -> io::Result<bool> {
    let end = Instant::now() + LIMIT;
    let mut pause = Duration::from_micros(500);
    loop {
        match child.try_wait()? {
            Some(status) => return Ok(status.success()),
            None if Instant::now() > end => {
                child.kill()?;
                child.wait()?;
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("it took more than {} s", LIMIT.as_secs()),
                ));
            }
            None => {
                sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(20));
            }
        }
    }
}

/// Removes the socket of a shim that is gone. A pod's other containers may still be served.
fn remove_dead_socket(bundle: &Path) {
    let Ok(address) = std::fs::read_to_string(bundle.join(ADDRESS_FILE)) else { return };
    if let Some(path) = address.strip_prefix("unix://") {
        socket::remove_dead(Path::new(path));
    }
}

fn warn(message: &str) {
    let _ = writeln!(io::stderr(), "{message}");
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_recorded_exit_is_answered_before_one_is_invented() {
        let dir = tempfile::tempdir().unwrap();
        let args = Args { bundle: Some(dir.path().to_owned()), id: "x".into(), ..Args::default() };
        std::fs::write(dir.path().join(PID_FILE), "42").unwrap();
        let parse = |bytes: Vec<u8>| DeleteResponse::parse_from_bytes(&bytes).unwrap();
        let invented = parse(delete(&args).unwrap());
        assert_eq!((invented.pid, invented.exit_status), (42, 137));
        ExitRecord { pid: 42, status: 3, seconds: 5, nanos: 6 }.write(dir.path()).unwrap();
        for _ in 0..2 {
            let recorded = parse(delete(&args).unwrap());
            assert_eq!((recorded.exit_status, recorded.exited_at.seconds), (3, 5));
        }
    }

    #[test]
    fn only_the_socket_of_a_dead_shim_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        std::fs::write(dir.path().join(ADDRESS_FILE), format!("unix://{}", path.display())).unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        remove_dead_socket(dir.path());
        assert!(path.exists());
        drop(listener);
        remove_dead_socket(dir.path());
        assert!(!path.exists());
    }

    #[test]
    fn the_runtime_in_the_record_is_asked_to_delete() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("rt");
        std::fs::write(&program, "#!/bin/sh\necho \"$@\" > \"$2/called\"\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let record = RuntimeRecord { program, root: dir.path().to_owned(), systemd_cgroup: true };
        record.write(dir.path()).unwrap();
        let args = Args { bundle: Some(dir.path().to_owned()), id: "x".into(), ..Args::default() };
        delete(&args).unwrap();
        let called = std::fs::read_to_string(dir.path().join("called")).unwrap();
        assert!(called.trim().ends_with("--log-format json --systemd-cgroup delete --force x"), "{called}");
        assert_eq!(RuntimeRecord::read(dir.path()).unwrap(), None, "once is enough");
    }
}
