//! `kubectl`, as a person types it, with its answers as JSON; and what tests ask so often that they ask the API server itself.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};

use crate::kube::PATIENCE;
use crate::kube::api::{Api, collection};
use crate::kube::server::GARBAGE;
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
    api: Arc<OnceLock<Result<Api, String>>>,
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
            api: Arc::default(),
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
        // It is collecting garbage for a tenth of its short life, with the default.
        command.env("HOME", &self.folder).env("GOGC", GARBAGE);
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
    /// What it answered, where that is not a success.
    pub fn raw(&self, path: &str) -> Result<String> {
        self.api()?.get(path)
    }

    fn api(&self) -> Result<&Api> {
        static COUNTER: AtomicU32 = AtomicU32::new(1);
        let start = || {
            let socket = format!("proxy-{}", COUNTER.fetch_add(1, Ordering::Relaxed));
            Api::start(self.command(&["proxy"]), self.folder.join(socket))
        };
        let api = self.api.get_or_init(|| start().map_err(|error| format!("{error:#}")));
        api.as_ref().map_err(|error| anyhow!(error.clone()))
    }

    /// Makes its namespace, and waits until pods may be created there.
    ///
    /// # Errors
    /// What the API server answered.
    pub(crate) fn create_namespace(&self) -> Result<()> {
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}});
        self.api()?.create("/api/v1/namespaces", &namespace)?;
        self.until("serviceaccount/default", "there", PATIENCE, |_| true).map(drop)
    }

    /// Deletes its namespace, which goes when all in it has gone.
    ///
    /// # Errors
    /// What the API server answered.
    pub(crate) fn delete_namespace(&self) -> Result<()> {
        self.api()?.delete(&format!("/api/v1/namespaces/{}", self.namespace))
    }

    /// Creates a pod that is not there yet.
    ///
    /// # Errors
    /// What the API server answered.
    pub(crate) fn create_pod(&self, manifest: &Value) -> Result<()> {
        self.api()?.create(&collection("pod", &self.namespace)?, manifest)
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
        let (kind, name) = object.split_once('/').context("a kind and a name")?;
        match self.api()?.watch(&collection(kind, &self.namespace)?, name, limit, reached)? {
            Ok(seen) => Ok(seen),
            Err(last) => {
                bail!("{object}: not {what} within {limit:?}; {}\n{}", last["status"], self.story(object))
            }
        }
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
