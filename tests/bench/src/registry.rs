//! A large component, pushed to a registry of this machine and pulled from it, beside oras.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use wisp_tests::bed::LIMIT;
use wisp_tests::registry::Registry;
use wisp_tests::space::{Cache, Space};
use wisp_tests::{process, site};

use crate::figure::{Figure, Pairs};
use crate::rounds::{self, interleaved};

/// A JavaScript service of 12 MB.
const COMPONENT: &str = "http-js.wasm";
const PORT: u16 = 5110;
const ORAS: &str = "oras";
const KINDS: &[&str] = &[ORAS, "wisp"];

/// How long a push into a repository that has nothing takes, and a pull into a store that has nothing.
///
/// # Errors
/// What a command said that failed.
pub(crate) fn measure() -> Result<Vec<Figure>> {
    let person = Person::new()?;
    let registry = Registry::start(&person.space, &person.folder.join("registry"), PORT)?;
    let mut pushed = 0;
    let [push, pull] = interleaved(rounds::count(), KINDS.len(), |kind| {
        pushed += 1;
        let name = registry.name(&format!("app-{pushed}:1"));
        let (push, pull) = if KINDS[kind] == ORAS { person.by_oras(&name) } else { person.by_wisp(&name) }
            .with_context(|| KINDS[kind])?;
        Ok([push.as_secs_f64() * 1e3, pull.as_secs_f64() * 1e3])
    })?;
    let figure =
        |name, note, times| rounds::figure(name, "ms", note, KINDS, times).against(&[ORAS], Pairs::Rounds);
    Ok(vec![
        figure(
            "push of a component of 12 MB",
            "From the command's start to its end, into a repository that has nothing, over the loopback without TLS.",
            push,
        ),
        figure(
            "pull of a component of 12 MB",
            "The same, into a folder (oras) or a store (wisp) that has nothing.",
            pull,
        ),
    ])
}

/// Whoever pushes and pulls.
struct Person {
    space: Space,
    folder: PathBuf,
}

impl Person {
    fn new() -> Result<Self> {
        let folder = site::run_folder()?.join("registry");
        fs::create_dir_all(&folder)?;
        fs::copy(site::guest(COMPONENT)?, folder.join("app.wasm"))?;
        Ok(Self { space: Space::new(Cache::Folder(folder.join("cache")), None)?, folder })
    }

    fn by_oras(&self, name: &str) -> Result<(Duration, Duration)> {
        let oras = site::registry("oras")?;
        let push = self.time(&oras, &["push", "--plain-http", name, "app.wasm:application/wasm"])?;
        let pull = self.time(&oras, &["pull", "--plain-http", "--output", "empty", name])?;
        Ok((push, pull))
    }

    fn by_wisp(&self, name: &str) -> Result<(Duration, Duration)> {
        let wisp = site::binary("wisp")?;
        let push = self.time(&wisp, &["push", "--artifact", "app.wasm", name])?;
        let pull = self.time(&wisp, &["pull", name])?;
        Ok((push, pull))
    }

    /// Runs a command whose store or output is the folder `empty`, which is there for this command alone.
    fn time(&self, program: &Path, args: &[&str]) -> Result<Duration> {
        let empty = self.folder.join("empty");
        fs::create_dir_all(&empty)?;
        // A process that enters a space is at its root.
        let mut command = self.space.command("env");
        command.arg("-C").arg(&self.folder).arg(program).args(args).env("XDG_DATA_HOME", &empty);
        let start = Instant::now();
        process::run(&mut command, LIMIT)?.success()?;
        let took = start.elapsed();
        fs::remove_dir_all(empty)?;
        Ok(took)
    }
}
