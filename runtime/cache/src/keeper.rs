//! The keeper: a process that owns one compile, so that the compile outlives the command that wanted it.
//!
//! A kubelet gives up on a container after two minutes and tries again later. The command that it cut off takes nothing with
//! it: the keeper has the turn ([`crate::locks::Turn`]), the compiler is its child, and it puts what comes out into the cache.
//! Whoever wants the same program meanwhile waits for the turn to end. A compile that nobody has waited for during
//! `compiler.linger` ends, with its keeper.
//!
//! The keeper is a fork of the command, which has one thread. It keeps nothing of it but its copies of the turn, of the Wasm,
//! of the files for the compiler's output, and a pipe on which it tells the command how it went.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork, setsid};
use rustix::pipe::{PipeFlags, pipe_with};
use serde::{Deserialize, Serialize};

use crate::compile::{self, Failure, Output};
use crate::key::Key;
use crate::locks::{Place, Turn, Waiting};
use crate::notes::Notes;
use crate::store::Store;

/// How often a compile that has no place yet looks for one.
const PLACE_INTERVAL: Duration = Duration::from_millis(100);

/// What a keeper does.
pub(crate) struct Job<'a> {
    /// What is compiled.
    pub(crate) key: &'a Key,
    /// Its Wasm, sealed.
    pub(crate) wasm: &'a File,
    /// Where the compiler writes.
    pub(crate) output: &'a Output,
    /// The compiler.
    pub(crate) compiler: &'a Path,
    /// Its bounds.
    pub(crate) limits: &'a wisp_config::Compiler,
    /// Where the code goes.
    pub(crate) store: &'a Store,
    /// Where a failure goes that others than the command will ask for.
    pub(crate) notes: &'a Notes,
    /// Where the locks are.
    pub(crate) run: &'a Path,
}

/// How it went.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Why there is no code, if there is none.
    pub(crate) failure: Option<String>,
    /// What an administrator should know.
    pub(crate) warnings: Vec<String>,
}

impl Job<'_> {
    /// Starts a keeper, which takes the turn over.
    ///
    /// # Errors
    /// If no process is to be had.
    pub(crate) fn start(&self, turn: Turn) -> io::Result<Kept> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        // SAFETY: the command has one thread, so that the child may allocate and call anything.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => {
                drop((turn, write));
                // The child has made the keeper and ends at once: a keeper is nobody's child who would have to reap it.
                waitpid(child, None)?;
                Ok(Kept(read.into()))
            }
            ForkResult::Child => {
                let _exit = Exit;
                // SAFETY: as above.
                if setsid().is_ok() && matches!(unsafe { fork() }, Ok(ForkResult::Child)) {
                    self.keep(&turn, &mut write.into());
                }
                Err(io::Error::other("the keeper ends here"))
            }
        }
    }

    /// The whole life of the keeper.
    fn keep(&self, turn: &Turn, tell: &mut File) {
        let mut outcome = Outcome::default();
        let kept = [self.wasm.as_raw_fd(), turn.as_raw_fd(), tell.as_raw_fd()];
        let done = forsake(&[&kept[..], &self.output.descriptors()].concat())
            .map_err(Failure::from)
            .and_then(|()| self.compile(&mut outcome));
        if let Err(failure) = done {
            let failure = failure.to_string();
            let heard = Waiting::anyone(self.run, self.key).unwrap_or(false);
            self.notes.write(self.key, &failure, heard);
            outcome.failure = Some(failure);
        }
        // The command may be gone.
        serde_json::to_vec(&outcome).map_err(io::Error::other).and_then(|text| tell.write_all(&text)).ok();
    }

    fn compile(&self, outcome: &mut Outcome) -> Result<(), Failure> {
        if let Err(error) = compile::stand_back(self.limits) {
            outcome.warnings.push(format!("a program is compiled in the caller's cgroup: {error}"));
        }
        let wanted = Wanted { job: self, last: Instant::now().into() };
        let _place = self.place(&wanted)?;
        let mut compiled =
            compile::run(self.compiler, self.limits, self.wasm, self.output, || wanted.still())?;
        if let Err(warning) = self.store.put(self.key, &mut compiled) {
            outcome.warnings.push(warning);
        }
        Ok(())
    }

    fn place(&self, wanted: &Wanted<'_>) -> Result<Place, Failure> {
        while wanted.still() {
            if let Some(place) = Place::take(self.run, self.limits.at_once)? {
                return Ok(place);
            }
            std::thread::sleep(PLACE_INTERVAL);
        }
        Err(Failure::Abandoned)
    }
}

/// Whether a compile is still wanted.
struct Wanted<'a> {
    job: &'a Job<'a>,
    /// When somebody was last seen to wait.
    last: std::cell::Cell<Instant>,
}

impl Wanted<'_> {
    fn still(&self) -> bool {
        if Waiting::anyone(self.job.run, self.job.key).unwrap_or(true) {
            self.last.set(Instant::now());
        }
        self.last.get().elapsed() <= self.job.limits.linger
    }
}

/// A keeper that was started.
#[derive(Debug)]
pub(crate) struct Kept(File);

impl Kept {
    /// Waits for how it went.
    ///
    /// # Errors
    /// If the keeper was killed.
    pub(crate) fn outcome(mut self) -> Result<Outcome, Failure> {
        let mut text = Vec::new();
        self.0.read_to_end(&mut text)?;
        if text.is_empty() { Err(Failure::Killed) } else { Ok(serde_json::from_slice(&text)?) }
    }
}

/// Lets go of everything of the command's but `kept`: its standard streams, logs and locks, its folder and its name.
fn forsake(kept: &[RawFd]) -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let open: Vec<RawFd> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for descriptor in
        open.into_iter().filter(|descriptor| *descriptor != null.as_raw_fd() && !kept.contains(descriptor))
    {
        // Not closed: what still writes to the number must not find another file there.
        // SAFETY: dup3 of an open descriptor; whoever owned the number in this process does not use it again but to write.
        unsafe { libc::dup3(null.as_raw_fd(), descriptor, libc::O_CLOEXEC) };
    }
    fs::write("/proc/self/comm", "wisp-keeper").ok();
    std::env::set_current_dir("/")
}

/// Ends the process whatever way it leaves: it must not go on as if it were the command.
struct Exit;

impl Drop for Exit {
    fn drop(&mut self) {
        // SAFETY: _exit(2) ends the process without running what belongs to the command.
        unsafe { libc::_exit(0) }
    }
}
