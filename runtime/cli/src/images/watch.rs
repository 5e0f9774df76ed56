//! `wisp build --watch`: built again and run again whenever a file of the project changes.

use std::env;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Component, Path};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use notify::{Event, RecursiveMode, Watcher};

/// After a change, how long nothing else must change: editors write in several steps.
const QUIET: Duration = Duration::from_millis(200);
/// Folders in which builds write.
const BUILDS: [&str; 4] = ["target", "node_modules", "dist", "__pycache__"];

/// Builds and runs until a signal ends it. `build` gives the image's name; what it writes itself does not count as a change.
///
/// # Errors
/// If the folder cannot be watched.
pub(super) fn run(
    folder: &Path,
    options: &[String],
    mut build: impl FnMut() -> Result<String>,
) -> Result<()> {
    let (send, changes) = channel();
    let mut watcher = notify::recommended_watcher(send).context("watching files")?;
    watcher
        .watch(folder, RecursiveMode::Recursive)
        .with_context(|| format!("watching {}", folder.display()))?;
    loop {
        let built = build();
        changes.try_iter().for_each(drop);
        let mut running = match built {
            Ok(image) => Some(start(&image, options)?),
            Err(error) => {
                tell(&format!("{error:#}; waiting for a change"));
                None
            }
        };
        wait(folder, &changes)?;
        if let Some(child) = &mut running {
            // One that has ended already is only reaped.
            kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).ok();
            child.wait()?;
        }
    }
}

fn start(image: &str, options: &[String]) -> Result<Child> {
    let mut command = Command::new(env::current_exe().context("where wisp is")?);
    command.args(["run", "--pull=never"]).args(options).arg(image);
    let ends_with_us =
        || Ok(rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?);
    // SAFETY: one system call between fork and exec.
    unsafe { command.pre_exec(ends_with_us) };
    command.spawn().context("starting wisp run")
}

/// Waits for a change of the source, and until it is over.
fn wait(folder: &Path, changes: &Receiver<notify::Result<Event>>) -> Result<()> {
    loop {
        let change = changes.recv().context("watching files")?;
        if change.is_ok_and(|event| is_of_source(folder, &event)) {
            break;
        }
    }
    while !matches!(
        changes.recv_timeout(QUIET),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected)
    ) {}
    Ok(())
}

fn is_of_source(folder: &Path, event: &Event) -> bool {
    let changes = event.kind.is_modify() || event.kind.is_create() || event.kind.is_remove();
    let is_source = |path: &Path| {
        let inner = path.strip_prefix(folder).unwrap_or(path);
        !inner.components().any(|part| match part {
            Component::Normal(name) => {
                let name = name.to_string_lossy();
                name.starts_with('.') || BUILDS.contains(&&*name) || name.ends_with(".wasm")
            }
            _ => false,
        })
    };
    changes && event.paths.iter().any(|path| is_source(path))
}

fn tell(text: &str) {
    writeln!(io::stderr(), "wisp: {text}").ok();
}

#[cfg(test)]
mod tests {
    use notify::EventKind;
    use notify::event::{AccessKind, CreateKind};

    use super::*;

    #[test]
    fn what_builds_write_is_no_change_of_the_source() {
        let event = |kind, path: &str| Event::new(kind).add_path(path.into());
        let created = EventKind::Create(CreateKind::File);
        let folder = Path::new("/home/target/app");
        assert!(is_of_source(folder, &event(created, "/home/target/app/src/main.rs")));
        for path in ["target/x", ".git/index", "app.wasm", "a/node_modules/b"] {
            assert!(!is_of_source(folder, &event(created, &format!("/home/target/app/{path}"))), "{path}");
        }
        let read = EventKind::Access(AccessKind::Read);
        assert!(!is_of_source(folder, &event(read, "/home/target/app/src/main.rs")));
    }
}
