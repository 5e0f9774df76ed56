//! `kubectl`, as a person types it, with its answers as JSON.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Deserializer, Value};

use crate::kube::PATIENCE;
use crate::process::{self, Finished, dies_with_us};
use crate::space::Space;

/// `kubectl` for one Kubernetes namespace.
#[derive(Debug, Clone)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    space: Option<Space>,
    /// Where it keeps what it knows of the API, and where manifests are written.
    folder: PathBuf,
    /// The Kubernetes namespace.
    pub namespace: String,
    manifests: Arc<AtomicU32>,
}

impl Kubectl {
    /// Commands against the cluster of `kubeconfig`, run in `space` if there is one.
    ///
    /// # Errors
    /// Those of making `folder`.
    pub fn new(program: PathBuf, kubeconfig: PathBuf, space: Option<Space>, folder: PathBuf) -> Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self {
            program,
            kubeconfig,
            space,
            folder,
            namespace: "default".to_owned(),
            manifests: Arc::default(),
        })
    }

    /// The same for another Kubernetes namespace.
    #[must_use]
    pub fn within(&self, namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), ..self.clone() }
    }

    /// `kubectl` with these arguments, to be started.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = match &self.space {
            Some(space) => space.command(&self.program),
            None => Command::new(&self.program),
        };
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(["--namespace", &self.namespace]).args(args);
        command.env("HOME", &self.folder);
        command
    }

    /// The words by which a shell in the same network has it.
    #[must_use]
    pub fn typed(&self) -> String {
        let (program, kubeconfig) = (self.program.display(), self.kubeconfig.display());
        format!("{program} --kubeconfig {kubeconfig} --namespace {}", self.namespace)
    }

    /// Runs it to its end; that it fails is an answer.
    ///
    /// # Errors
    /// Where it does not start or end.
    pub fn finish(&self, args: &[&str]) -> Result<Finished> {
        process::run(&mut self.command(args), PATIENCE)
    }

    /// Runs it; what it printed.
    ///
    /// # Errors
    /// What it said, where it failed.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        self.finish(args)?.success().with_context(|| format!("kubectl {}", args.join(" ")))
    }

    /// An object, or a list of them.
    ///
    /// # Errors
    /// What it said, where it failed.
    pub fn get(&self, what: &[&str]) -> Result<Value> {
        Ok(serde_json::from_str(&self.run(&[&["get", "--output=json"], what].concat())?)?)
    }

    /// What the API server answers to a path.
    ///
    /// # Errors
    /// What it said, where it failed.
    pub fn raw(&self, path: &str) -> Result<String> {
        self.run(&["get", "--raw", path])
    }

    /// Applies a manifest.
    ///
    /// # Errors
    /// What it said, where it failed.
    pub fn apply(&self, manifest: &Value) -> Result<()> {
        self.run(&["apply", "--filename", &self.write(manifest)?]).map(drop)
    }

    /// Writes a manifest to a file; its path.
    fn write(&self, manifest: &Value) -> Result<String> {
        let path = self.folder.join(format!("{}-{}.json", self.namespace, self.count()));
        fs::write(&path, serde_json::to_vec_pretty(manifest)?)?;
        Ok(path.display().to_string())
    }

    /// A program in the same network, to be started.
    #[must_use]
    pub fn beside(&self, program: &str) -> Command {
        self.space.as_ref().map_or_else(|| Command::new(program), |space| space.command(program))
    }

    /// A standard input with this text, and then the end.
    ///
    /// # Errors
    /// Those of writing it.
    pub fn input(&self, text: &str) -> Result<Stdio> {
        let path = self.folder.join(format!("{}-{}.txt", self.namespace, self.count()));
        fs::write(&path, text)?;
        Ok(File::open(path)?.into())
    }

    fn count(&self) -> u32 {
        self.manifests.fetch_add(1, Ordering::Relaxed)
    }

    /// Starts a command that goes on printing lines.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn lines(&self, args: &[&str]) -> Result<Running<String>> {
        Running::start(self.command(args), |stdout| BufReader::new(stdout).lines().map_while(Result::ok))
    }

    /// Watches an object (`pod/name`) until it is as it should be; the object then.
    ///
    /// # Errors
    /// What was waited for and how the object stood, where that is not within `limit`.
    pub fn until(
        &self,
        object: &str,
        what: &str,
        limit: Duration,
        reached: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let start = Instant::now();
        let mut last = Value::Null;
        // A watch ends when its API server wants it to.
        while start.elapsed() < limit {
            let watch =
                Running::start(self.command(&["get", object, "--output=json", "--watch"]), |stdout| {
                    Deserializer::from_reader(stdout).into_iter::<Value>().map_while(Result::ok)
                })?;
            while let Ok(seen) = watch.next(limit.saturating_sub(start.elapsed())) {
                if reached(&seen) {
                    return Ok(seen);
                }
                last = seen;
            }
        }
        bail!("{object}: not {what} within {limit:?}; {}\n{}", last["status"], self.story(object))
    }

    /// Waits for an event of this reason whose message has `text`.
    ///
    /// # Errors
    /// Where none comes for as long as [`PATIENCE`].
    pub fn event(&self, reason: &str, text: &str) -> Result<()> {
        let selector = format!("--field-selector=reason={reason}");
        let events =
            self.lines(&["get", "events", "--watch", "--output=jsonpath={.message}{'\\n'}", &selector])?;
        while !events.next(PATIENCE).with_context(|| format!("{reason}: {text}"))?.contains(text) {}
        Ok(())
    }

    /// What happened to an object, for messages.
    fn story(&self, object: &str) -> String {
        let described = self.finish(&["describe", object]).map(|ended| ended.stdout).unwrap_or_default();
        let from = described.find("Events:").unwrap_or_default();
        described[from..].to_owned()
    }
}

/// A `kubectl` that goes on printing, as long as this value is there.
#[derive(Debug)]
pub struct Running<T> {
    child: Child,
    output: mpsc::Receiver<T>,
}

impl<T: Send + 'static> Running<T> {
    fn start<I: Iterator<Item = T>>(
        mut command: Command,
        read: impl FnOnce(ChildStdout) -> I + Send + 'static,
    ) -> Result<Self> {
        dies_with_us(&mut command).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().context("starting kubectl")?;
        let stdout = child.stdout.take().context("a pipe")?;
        let (sender, output) = mpsc::channel();
        thread::spawn(move || {
            for item in read(stdout) {
                if sender.send(item).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, output })
    }

    /// What it prints next.
    ///
    /// # Errors
    /// Where nothing comes within `limit`.
    pub fn next(&self, limit: Duration) -> Result<T> {
        self.output.recv_timeout(limit).context("kubectl printed nothing")
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
