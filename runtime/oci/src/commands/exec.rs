//! `exec`: a further process in a running container, Wasm or native.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};
use oci_spec::runtime::{Process, Spec, UserBuilder};
use wisp_entrypoint::Files;

use super::create::ExitChild;
use crate::args;
use crate::bundle;
use crate::entrypoint::{self, Program};
use crate::process;
use crate::program::Guest;
use crate::sandbox::channel;
use crate::sandbox::enter::{self, Enter, Runs};
use crate::sandbox::launch::Launch;
use crate::sandbox::{clone, console};
use crate::state::{Container, Status};

/// Runs a further process; in the foreground its exit code is the command's.
pub(super) fn run(root: &Path, args: &args::Exec) -> Result<ExitCode> {
    let container = Container::load(root, &args.id)?;
    match container.status() {
        Status::Stopped => bail!("cannot exec in a stopped container"),
        Status::Paused if !args.ignore_paused => {
            bail!("cannot exec in a paused container (use --ignore-paused to override)")
        }
        _ => {}
    }
    let spec = container.spec()?;
    let process = asked_process(args, &spec)?;
    let target = enter::open_process(container.record.pid)?;
    let pid = make(&container, &spec, &process, target, args)?;
    if let Err(error) = super::write_pid_file(args.pid_file.as_deref(), pid) {
        process::kill(pid, libc::SIGKILL).ok();
        super::wait(pid).ok();
        return Err(error);
    }
    if args.detach { Ok(ExitCode::SUCCESS) } else { super::wait(pid) }
}

fn make(
    container: &Container,
    spec: &Spec,
    process: &Process,
    target: OwnedFd,
    args: &args::Exec,
) -> Result<i32> {
    let files = Files::of_process(container.record.pid).context("the container's root")?;
    let record = &container.record;
    let program = match entrypoint::find(&files, process, &record.bundle, bundle::process(spec)?)? {
        Program::Wasm(wasm) => {
            Runs::Guest(Box::new(Guest::prepare(wasm, spec)?), record.tree, record.preopens.clone())
        }
        Program::Native(path) => Runs::Native(path),
    };
    let wants_report = matches!(program, Runs::Guest(..));
    let profile = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let launch = Launch::new(&container.record.id, process, profile)?;
    let console = args.console_socket.as_deref().map(console::connect).transpose()?;
    ensure!(
        console.is_some() == process.terminal().unwrap_or(false),
        "a terminal and a console socket go together: give both or neither"
    );
    let cgroup = container.cgroup()?;
    let entry = cgroup.entry()?;
    let (parent, child) = channel::pair()?;
    setns(&target, CloneFlags::CLONE_NEWPID).context("the container's pid namespace cannot be entered")?;
    let Some(pid) = clone(CloneFlags::empty(), Some(&entry)).context("the process cannot be made")? else {
        let _exit = ExitChild;
        drop(parent);
        let cgroup = (&cgroup, &entry);
        if let Err(error) = (Enter { target, cgroup, launch, program, console }).run(&child) {
            child.fail(&error);
        }
        bail!("the child ends here");
    };
    drop(child);
    let follow = || -> Result<()> {
        while parent.hear()?.is_some() {}
        // A guest process loads its program meanwhile.
        drop(program);
        parent.ended_well(wants_report)
    };
    follow().inspect_err(|_| {
        process::kill(pid, libc::SIGKILL).ok();
        super::wait(pid).ok();
    })?;
    Ok(pid)
}

/// The process that the arguments ask for: a file's, or the container's own with what the flags change.
fn asked_process(args: &args::Exec, spec: &Spec) -> Result<Process> {
    let mut process = match &args.process {
        Some(path) => {
            let bytes = fs::read(path).with_context(|| format!("the process file {}", path.display()))?;
            serde_json::from_slice(&bytes)
                .with_context(|| format!("{} is not a process in the OCI spec's form", path.display()))?
        }
        None => {
            let mut process = bundle::process(spec)?.clone();
            process.set_args(Some(args.command.clone())).set_terminal(Some(args.tty));
            process
        }
    };
    if let Some(cwd) = &args.cwd {
        process.set_cwd(cwd.clone());
    }
    if !args.env.is_empty() {
        let mut env = process.env().clone().unwrap_or_default();
        env.extend(args.env.iter().cloned());
        process.set_env(Some(env));
    }
    if let Some(user) = &args.user {
        let (uid, gid) = user.split_once(':').unwrap_or((user, "0"));
        let number = |text: &str| {
            text.parse::<u32>().with_context(|| format!("the user {user:?}, expected UID[:GID]"))
        };
        let groups = args.additional_gids.clone();
        process.set_user(
            UserBuilder::default().uid(number(uid)?).gid(number(gid)?).additional_gids(groups).build()?,
        );
    }
    if args.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    if args.apparmor.is_some() {
        process.set_apparmor_profile(args.apparmor.clone());
    }
    if args.process_label.is_some() {
        process.set_selinux_label(args.process_label.clone());
    }
    bundle::check_process(&process)?;
    Ok(process)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Args, Command};
    use clap::Parser;

    fn exec(line: &str) -> Process {
        let parsed = Args::try_parse_from(std::iter::once("wisp-runtime").chain(line.split(' '))).unwrap();
        let Command::Exec(args) = parsed.command else { panic!("not exec") };
        let spec: Spec = serde_json::from_str(
            r#"{"ociVersion":"1.0.2","process":{"cwd":"/w","args":["/app.wasm"],"env":["A=1"],"user":{"uid":7,"gid":7}}}"#,
        )
        .unwrap();
        asked_process(&args, &spec).unwrap()
    }

    #[test]
    fn a_process_is_the_containers_own_with_what_the_flags_change() {
        let process = exec("exec c1 /tool.wasm -v");
        assert_eq!(process.args().as_ref().unwrap(), &["/tool.wasm", "-v"]);
        assert_eq!((process.user().uid(), process.cwd().to_str()), (7, Some("/w")));
        let process = exec("exec --user 1000:1000 -e B=2 --cwd /x c1 sh -c id");
        assert_eq!((process.user().uid(), process.user().gid()), (1000, 1000));
        assert_eq!(process.env().as_ref().unwrap(), &["A=1", "B=2"]);
        assert_eq!(process.args().as_ref().unwrap(), &["sh", "-c", "id"]);
    }
}
