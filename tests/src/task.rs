//! One container under a bed, as `ctr run` makes it: in the foreground with its stdio in pipes, or detached with a log file.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bed::{Bed, LIMIT, eventually};
use crate::client::Client;
pub use crate::ended::Ended;
use crate::process;
use crate::text::Text;

/// The runtime that is tested.
pub const WISP: &str = "io.containerd.wisp.v1";
/// The runtime that it is compared with.
pub const RUNC: &str = "io.containerd.runc.v2";

/// Wisp; or runc, for those who test the tests.
fn tested() -> &'static str {
    if without_wisp() { RUNC } else { WISP }
}

/// Whether runc stands in for Wisp.
#[must_use]
pub fn without_wisp() -> bool {
    std::env::var_os("WISP_TESTS_WITHOUT_WISP").is_some()
}

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Container<'a> {
    bed: &'a Bed,
    id: String,
    image: String,
    flags: Vec<String>,
    args: Vec<String>,
    runtime: &'static str,
    stdin: bool,
}

impl<'a> Container<'a> {
    /// A container of the guests' image that runs `args`, of which the first is the program (`/rust-0.1.wasm`).
    ///
    /// # Errors
    /// Where a guest is missing.
    pub fn new(bed: &'a Bed, args: &[&str]) -> Result<Self> {
        let image = bed.import_guests()?;
        Ok(Self::of_image(bed, image, args))
    }

    /// A container of an image that was imported; no arguments are those of the image.
    #[must_use]
    pub fn of_image(bed: &'a Bed, image: &str, args: &[&str]) -> Self {
        Self {
            bed,
            id: bed.id("c"),
            image: image.to_owned(),
            flags: Vec::new(),
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            runtime: tested(),
            stdin: false,
        }
    }

    /// Runs under this runtime instead of Wisp.
    #[must_use]
    pub fn runtime(mut self, runtime: &'static str) -> Self {
        self.runtime = if runtime == WISP { tested() } else { runtime };
        self
    }

    /// Adds flags of `ctr run`.
    #[must_use]
    pub fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|&flag| flag.to_owned()));
        self
    }

    /// Limits its memory, in mebibytes.
    #[must_use]
    pub fn memory(self, mebibytes: u64) -> Self {
        let bytes = (mebibytes << 20).to_string();
        self.flags(&["--memory-limit", &bytes])
    }

    /// Mounts a file or folder of this machine; `options` as in `rbind,ro`.
    #[must_use]
    pub fn bind(self, source: &str, destination: &str, options: &str) -> Self {
        let options = options.replace(',', ":");
        self.flags(&["--mount", &format!("type=bind,src={source},dst={destination},options={options}")])
    }

    /// Gives it a standard input that stays open until [`Task::close_stdin`].
    #[must_use]
    pub fn stdin(mut self) -> Self {
        self.stdin = true;
        self
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The `ctr` for it; `verb` is its command, and flags of that.
    pub(crate) fn command(&self, verb: &[&str]) -> Result<std::process::Command> {
        let mut args = verb.to_vec();
        args.extend(["--runtime", self.runtime]);
        args.extend(self.flags.iter().map(String::as_str));
        args.extend([self.image.as_str(), self.id.as_str()]);
        // Under runc the same source runs as a native binary.
        let native = |arg: &'_ String| self.runtime == RUNC && arg.starts_with("/rust-0.");
        args.extend(self.args.iter().map(|arg| if native(arg) { "/native" } else { arg.as_str() }));
        self.bed.ctr_command(&args)
    }

    /// Starts it in the foreground of a `ctr` whose pipes are read here. It is deleted when it ends.
    ///
    /// # Errors
    /// Where `ctr` does not start; that the container does not is seen in [`Task::wait`].
    pub fn start(self) -> Result<Task<'a>> {
        let mut command = self.command(&["run", "--rm"])?;
        command.stdin(if self.stdin { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut ctr = process::dies_with_us(&mut command).spawn().context("starting ctr")?;
        let (stdin, stdout, stderr) =
            (ctr.stdin.take(), Text::of(ctr.stdout.take()), Text::of(ctr.stderr.take()));
        Ok(Task { bed: self.bed, id: self.id, ctr: Some(ctr), stdin, stdout, stderr, log: None })
    }

    /// Starts it with a terminal, which `script` gives to `ctr`. What is written to the task is typed into it.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn start_in_terminal(self) -> Result<Task<'a>> {
        let mut command = in_terminal(self.bed, &self.command(&["run", "--rm", "--tty"])?);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut script = process::dies_with_us(&mut command).spawn().context("starting script")?;
        let (stdin, stdout, stderr) =
            (script.stdin.take(), Text::of(script.stdout.take()), Text::of(script.stderr.take()));
        Ok(Task { bed: self.bed, id: self.id, ctr: Some(script), stdin, stdout, stderr, log: None })
    }

    /// Starts it detached, with both outputs in one log file. It is deleted when the value is dropped.
    ///
    /// # Errors
    /// What `ctr` said where it was not started.
    pub fn detach(self) -> Result<Task<'a>> {
        let log = self.bed.folder.join("logs").join(&self.id);
        File::create(&log)?;
        let uri = format!("file://{}", log.display());
        // From here on there may be a container, so its removal is due whatever happens.
        let task = Task {
            bed: self.bed,
            id: self.id.clone(),
            ctr: None,
            stdin: None,
            stdout: Text::default(),
            stderr: Text::default(),
            log: Some(log),
        };
        process::run(&mut self.command(&["run", "--detach", "--log-uri", &uri])?, LIMIT)?.success()?;
        Ok(task)
    }

    /// Runs it to its end in the foreground.
    ///
    /// # Errors
    /// Where it does not end in time.
    pub fn run(self) -> Result<Ended> {
        self.start()?.wait()
    }
}

/// A command that has a terminal, which `script` makes for it.
fn in_terminal(bed: &Bed, command: &std::process::Command) -> std::process::Command {
    let mut script = bed.space.command("script");
    for (name, value) in command.get_envs() {
        script.env(name, value.unwrap_or_default());
    }
    script.args(["--quiet", "--return", "--flush", "--command", &quoted(command), "/dev/null"]);
    script
}

/// A command as a shell reads it.
fn quoted(command: &std::process::Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''")))
        .collect::<Vec<_>>()
        .join(" ")
}

/// A container that was started.
#[derive(Debug)]
pub struct Task<'a> {
    /// The bed that it runs in.
    pub bed: &'a Bed,
    /// Its id.
    pub id: String,
    ctr: Option<Child>,
    stdin: Option<ChildStdin>,
    stdout: Text,
    stderr: Text,
    log: Option<PathBuf>,
}

impl Task<'_> {
    /// Waits until it has printed `text`, carriage returns left out.
    ///
    /// # Errors
    /// Where it does not, with what it printed and what containerd logged.
    pub fn until(&self, text: &str) -> Result<()> {
        let found = match &self.log {
            Some(log) => {
                eventually("", LIMIT, || Ok(std::fs::read_to_string(log)?.contains(text).then_some(())))
                    .is_ok()
            }
            None => self.stdout.wait_for(text, &self.stderr, LIMIT),
        };
        ensure!(
            found,
            "{} did not print {text:?}\n{}\n{}",
            self.id,
            self.printed(),
            self.bed.log_tail(&self.id)
        );
        Ok(())
    }

    /// Whether all its output has come.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.stdout.ended() && self.stderr.ended()
    }

    /// What it printed so far.
    #[must_use]
    pub fn printed(&self) -> String {
        match &self.log {
            Some(log) => std::fs::read_to_string(log).unwrap_or_default(),
            None => format!("{}{}", self.stdout.text(), self.stderr.text()),
        }
    }

    /// Gives it input.
    ///
    /// # Errors
    /// Where it was not started with a standard input.
    pub fn write(&mut self, text: &str) -> Result<()> {
        Ok(self.stdin.as_mut().context("no standard input")?.write_all(text.as_bytes())?)
    }

    /// Ends its input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// A client of the bed's API.
    ///
    /// # Errors
    /// Where containerd does not answer.
    pub fn client(&self) -> Result<Client> {
        self.bed.client()
    }

    /// Its process id on the machine.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.client()?.state(&self.id, "").context("asking for the task's state")?.1)
    }

    /// Sends a signal, and says when.
    ///
    /// # Errors
    /// What containerd answered.
    pub fn kill(&self, signal: Signal) -> Result<Instant> {
        let client = self.client()?;
        let before = Instant::now();
        client.kill(&self.id, "", (signal as i32).cast_unsigned(), false).context("sending a signal")?;
        Ok(before)
    }

    /// Runs a program beside the task's own, through `ctr`.
    ///
    /// # Errors
    /// Where `ctr` does not end; that it fails is an answer.
    pub fn exec(&self, flags: &[&str], args: &[&str]) -> Result<process::Finished> {
        let exec = self.bed.id("x");
        self.bed.ctr(&[&["task", "exec", "--exec-id", &exec], flags, &[self.id.as_str()], args].concat())
    }

    /// As [`Task::exec`], with a terminal.
    ///
    /// # Errors
    /// Where it does not end.
    pub fn exec_in_terminal(&self, args: &[&str]) -> Result<process::Finished> {
        let exec = self.bed.id("x");
        let all = [&["task", "exec", "--tty", "--exec-id", &exec, self.id.as_str()], args].concat();
        let mut command = in_terminal(self.bed, &self.bed.ctr_command(&all)?);
        // `script` types an end of input into the terminal where its own has ended.
        process::run_from(&mut command, Stdio::piped(), LIMIT)
    }

    /// Stops the `ctr` that reads its output, as a slow reader.
    ///
    /// # Errors
    /// Where it runs detached.
    pub fn stop_reading(&self) -> Result<()> {
        self.signal_reader(Signal::SIGSTOP)
    }

    /// Kills the `ctr` that reads its output.
    ///
    /// # Errors
    /// Where it runs detached.
    pub fn kill_reader(&self) -> Result<()> {
        self.signal_reader(Signal::SIGKILL)
    }

    fn signal_reader(&self, signal: Signal) -> Result<()> {
        let ctr = self.ctr.as_ref().context("no ctr reads the output of a detached task")?;
        Ok(kill(Pid::from_raw(ctr.id().cast_signed()), signal)?)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Where it does not end in time, with what it printed and what containerd logged.
    pub fn wait(mut self) -> Result<Ended> {
        let Some(mut ctr) = self.ctr.take() else {
            let code = self.exit_code()?;
            return Ok(Ended { code: code.cast_signed(), stdout: self.printed(), stderr: String::new() });
        };
        self.stdin = None;
        let Some(status) = process::wait(&mut ctr, LIMIT)? else {
            self.ctr = Some(ctr);
            bail!(
                "{} did not end in {LIMIT:?}\n{}\n{}",
                self.id,
                self.printed(),
                self.bed.log_tail(&self.id)
            );
        };
        let text = |text: &Text| text.whole(Duration::from_secs(5));
        Ok(Ended { code: process::code(status), stdout: text(&self.stdout), stderr: text(&self.stderr) })
    }

    /// Waits for its exit event; its exit status.
    ///
    /// # Errors
    /// Where it does not come in time.
    pub fn exit_code(&self) -> Result<u32> {
        let event = self.bed.events().wait(&self.id, "", "/tasks/exit", LIMIT);
        let event = event.with_context(|| format!("{}\n{}", self.printed(), self.bed.log_tail(&self.id)))?;
        event.status.context("an exit without a status")
    }

    /// A file of its control group on hierarchy `controller`.
    ///
    /// # Errors
    /// Where there is none.
    pub fn cgroup_file(&self, controller: &str, name: &str) -> Result<PathBuf> {
        let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", self.pid()?))?;
        let path = groups.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            controllers.split(',').any(|one| one == controller).then_some(path)
        });
        Ok(format!("/sys/fs/cgroup/{controller}{}/{name}", path.context("no such hierarchy")?).into())
    }
}

impl Drop for Task<'_> {
    fn drop(&mut self) {
        self.stdin = None;
        if self.ctr.is_none() && self.log.is_none() {
            return; // it ended, and `ctr run --rm` has removed it
        }
        if let Some(ctr) = &mut self.ctr {
            let _ = kill(Pid::from_raw(ctr.id().cast_signed()), Signal::SIGCONT);
            let _ = self.bed.ctr(&["task", "kill", "--signal", "SIGKILL", &self.id]);
            // It removes the container, and its fifos.
            if matches!(process::wait(ctr, Duration::from_secs(5)), Ok(Some(status)) if status.code().is_some())
            {
                return;
            }
            let _ = ctr.kill();
            let _ = ctr.wait();
            self.remove_fifos();
        }
        let _ = self.bed.ctr(&["task", "rm", "--force", &self.id]);
        let _ = self.bed.ctr(&["container", "rm", &self.id]);
    }
}

impl Task<'_> {
    /// A `ctr` that was killed has left them.
    fn remove_fifos(&self) {
        let fifo = format!("{}-stdout", self.id);
        let _ = self.bed.space.inside(move || {
            for folder in std::fs::read_dir("/run/containerd/fifo")?.flatten().map(|entry| entry.path()) {
                if folder.join(&fifo).exists() {
                    std::fs::remove_dir_all(folder)?;
                }
            }
            Ok(())
        });
    }
}
