//! OCI hooks: programs of the node's that are told the container's state on stdin (runtime-spec, "POSIX-platform Hooks").

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use oci_spec::runtime::{Hook, Hooks, Spec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::state::State;

/// The moments at which hooks run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// In the node's namespaces, when the container's namespaces and mounts are made (`prestart`, deprecated).
    Prestart,
    /// The same, under its newer name.
    CreateRuntime,
    /// In the container's namespaces, before its root is entered.
    CreateContainer,
    /// In the container, before its program runs.
    StartContainer,
    /// In the node's namespaces, after the program began; failures are logged.
    Poststart,
    /// In the node's namespaces, after the container was deleted; failures are logged.
    Poststop,
}

impl Moment {
    fn name(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::StartContainer => "startContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }

    #[allow(deprecated, reason = "the spec still has prestart, and NVIDIA's hook still is one")]
    fn hooks(self, hooks: &Hooks) -> &[Hook] {
        match self {
            Self::Prestart => hooks.prestart(),
            Self::CreateRuntime => hooks.create_runtime(),
            Self::CreateContainer => hooks.create_container(),
            Self::StartContainer => hooks.start_container(),
            Self::Poststart => hooks.poststart(),
            Self::Poststop => hooks.poststop(),
        }
        .as_deref()
        .unwrap_or_default()
    }
}

/// Whether `spec` has hooks for one of these moments.
#[must_use]
pub fn any(spec: &Spec, moments: &[Moment]) -> bool {
    spec.hooks().as_ref().is_some_and(|hooks| moments.iter().any(|moment| !moment.hooks(hooks).is_empty()))
}

/// Runs the hooks of a moment, one after the other.
///
/// # Errors
/// With the first that failed, and what it said.
pub fn run(spec: &Spec, moment: Moment, state: &State<'_>) -> Result<()> {
    let Some(hooks) = spec.hooks().as_ref() else { return Ok(()) };
    let state = serde_json::to_vec(state)?;
    for hook in moment.hooks(hooks) {
        one(hook, &state)
            .with_context(|| format!("the {} hook {} failed", moment.name(), hook.path().display()))?;
    }
    Ok(())
}

/// Runs the hooks of a moment at which the container is not undone any more: failures are logged.
pub fn run_leniently(spec: &Spec, moment: Moment, state: &State<'_>) {
    if let Err(error) = run(spec, moment, state) {
        tracing::warn!("{error:#}");
    }
}

fn one(hook: &Hook, state: &[u8]) -> Result<()> {
    ensure!(hook.path().is_absolute(), "its path is expected to be absolute");
    let mut command = Command::new(hook.path());
    if let Some((name, arguments)) = hook.args().as_ref().and_then(|args| args.split_first()) {
        command.arg0(name).args(arguments);
    }
    let variables = hook.env().iter().flatten().filter_map(|variable| variable.split_once('='));
    command.env_clear().envs(variables).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(state) {
            // A hook need not read.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            done => done?,
        }
    }
    let timeout =
        hook.timeout().and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0);
    let status = match timeout {
        Some(seconds) => wait(&mut child, Duration::from_secs(seconds))?,
        None => child.wait()?,
    };
    if status.success() {
        return Ok(());
    }
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        io::Read::read_to_string(&mut stderr, &mut said).ok();
    }
    bail!("{status}{}{}", if said.is_empty() { "" } else { ": " }, said.trim())
}

fn wait(child: &mut Child, timeout: Duration) -> Result<ExitStatus> {
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let deadline = Instant::now() + timeout;
    loop {
        let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now()))?;
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&left)) {
            Ok(0) => {
                child.kill()?;
                child.wait()?;
                bail!("it did not end within {timeout:?}");
            }
            Ok(_) => return Ok(child.wait()?),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::Path;

    use super::*;
    use crate::state::{OCI_VERSION, Status};

    fn run(hook: &str) -> Result<(), String> {
        let spec: Spec = serde_json::from_str(&format!(
            r#"{{"ociVersion":"1.0.2","hooks":{{"createRuntime":[{hook}]}}}}"#
        ))
        .unwrap();
        let state = State {
            oci_version: OCI_VERSION,
            id: "c1",
            pid: 1,
            status: Status::Created,
            bundle: Path::new("/b"),
            rootfs: Path::new("/b/rootfs"),
            created: "",
            annotations: &HashMap::new(),
            owner: "",
        };
        super::run(&spec, Moment::CreateRuntime, &state).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn a_hook_reads_the_state_and_has_only_its_own_environment() {
        let script = r#"{"path":"/bin/sh","args":["sh","-c","grep -q '\"id\":\"c1\"' && [ \"$A\" = b ] && [ -z \"$HOME\" ]"],"env":["A=b"]}"#;
        run(script).unwrap();
    }

    #[test]
    fn a_hook_that_fails_is_told_with_what_it_said() {
        let error =
            run(r#"{"path":"/bin/sh","args":["sh","-c","echo no such device >&2; exit 3"]}"#).unwrap_err();
        assert_eq!(error, "the createRuntime hook /bin/sh failed: exit status: 3: no such device");
    }

    #[test]
    fn a_hook_that_hangs_is_ended_after_its_timeout() {
        let error = run(r#"{"path":"/bin/sleep","args":["sleep","60"],"timeout":1}"#).unwrap_err();
        assert!(error.contains("did not end within 1s"), "{error}");
    }
}
