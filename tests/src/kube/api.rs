//! The API server's own paths, by a `kubectl proxy`: a `kubectl` for each question takes more of the processor than its answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Deserializer, Value};

use crate::kube::PATIENCE;
use crate::process;

/// How long to leave an API server alone that did not let itself be asked.
const AGAIN: Duration = Duration::from_millis(500);

/// A way to the API server, as long as this value is there.
#[derive(Debug)]
pub(crate) struct Api {
    proxy: Child,
    socket: PathBuf,
}

impl Api {
    /// Starts `kubectl proxy`, which the command is up to its flags, with a socket, and waits until it serves.
    ///
    /// # Errors
    /// Where it does not.
    pub(crate) fn start(mut kubectl: Command, socket: PathBuf) -> Result<Self> {
        kubectl.arg(format!("--unix-socket={}", socket.display()));
        kubectl.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut proxy = process::spawn_lasting(kubectl).context("starting kubectl proxy")?;
        let mut said = String::new();
        BufReader::new(proxy.stdout.take().context("a pipe")?).read_line(&mut said)?;
        ensure!(said.starts_with("Starting to serve"), "kubectl proxy does not serve: {said:?}");
        Ok(Self { proxy, socket })
    }

    /// What there is at a path.
    ///
    /// # Errors
    /// What the server answered, where that is not a success.
    pub(crate) fn get(&self, path: &str) -> Result<String> {
        self.ask("GET", path, None)
    }

    /// Puts an object into a collection.
    ///
    /// # Errors
    /// What the server answered, where it does not take it.
    pub(crate) fn create(&self, collection: &str, object: &Value) -> Result<()> {
        // As strict as kubectl is.
        self.ask("POST", &format!("{collection}?fieldValidation=Strict"), Some(object)).map(drop)
    }

    /// Deletes an object; it goes when it may.
    ///
    /// # Errors
    /// What the server answered, where it does not.
    pub(crate) fn delete(&self, path: &str) -> Result<()> {
        self.ask("DELETE", path, None).map(drop)
    }

    /// Watches the object of a name in a collection, from how it is now, until it is as it should be. The object then, or how it
    /// was last. A server that is too busy to answer is asked again.
    ///
    /// # Errors
    /// Where the server does not let itself be asked until the time is over.
    pub(crate) fn watch(
        &self,
        collection: &str,
        name: &str,
        limit: Duration,
        reached: impl Fn(&Value) -> bool,
    ) -> Result<Result<Value, Value>> {
        let path = format!("{collection}?watch=true&fieldSelector=metadata.name%3D{name}");
        let (end, mut last) = (Instant::now() + limit, Value::Null);
        // A watch ends when its server wants it to.
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Err(last));
            }
            let events = match self.send("GET", &path, None, left) {
                Ok((200, events)) => events,
                _ if left > AGAIN => {
                    thread::sleep(AGAIN);
                    continue;
                }
                Ok((status, _)) => bail!("watching {collection}: {status}"),
                Err(error) => return Err(error.context(format!("watching {collection}"))),
            };
            for event in Deserializer::from_reader(events).into_iter::<Value>().map_while(Result::ok) {
                if event["type"] == "ERROR" || Instant::now() > end {
                    break;
                }
                if reached(&event["object"]) {
                    return Ok(Ok(event["object"].clone()));
                }
                last = event["object"].clone();
            }
        }
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<String> {
        let (status, mut answer) = self.send(method, path, body, PATIENCE)?;
        let mut text = String::new();
        answer.read_to_string(&mut text).with_context(|| format!("{method} {path}"))?;
        if !(200..300).contains(&status) {
            let told: Option<Value> = serde_json::from_str(&text).ok();
            let message = told.as_ref().and_then(|status| status["message"].as_str()).unwrap_or(&text);
            bail!("{method} {path}: {status}: {message}");
        }
        Ok(text)
    }

    /// Sends a request; the status, and the body, which ends with the connection: that is what version 1.0 of HTTP is for.
    fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        limit: Duration,
    ) -> Result<(u16, impl BufRead + use<>)> {
        let mut stream = connect(&self.socket, limit)?;
        let body = body.map(Value::to_string).unwrap_or_default();
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: localhost\r\nAccept: application/json\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = BufReader::new(stream);
        let mut line = String::new();
        answer.read_line(&mut line).with_context(|| format!("{method} {path}"))?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.with_context(|| format!("{method} {path}: no answer of HTTP: {line:?}"))?;
        while line.trim_end() != "" {
            line.clear();
            answer.read_line(&mut line)?;
        }
        Ok((status, answer))
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        let _ = self.proxy.kill();
        let _ = self.proxy.wait();
    }
}

fn connect(socket: &Path, limit: Duration) -> Result<UnixStream> {
    let stream = UnixStream::connect(socket).context("connecting to kubectl proxy")?;
    stream.set_read_timeout(Some(limit))?;
    Ok(stream)
}

/// The collection of a kind of object in a namespace.
///
/// # Errors
/// Where it is none that a test watches.
pub(crate) fn collection(kind: &str, namespace: &str) -> Result<String> {
    Ok(match kind {
        "node" => "/api/v1/nodes".to_owned(),
        "pod" => format!("/api/v1/namespaces/{namespace}/pods"),
        "serviceaccount" => format!("/api/v1/namespaces/{namespace}/serviceaccounts"),
        "daemonset" => format!("/apis/apps/v1/namespaces/{namespace}/daemonsets"),
        "job" => format!("/apis/batch/v1/namespaces/{namespace}/jobs"),
        "cronjob" => format!("/apis/batch/v1/namespaces/{namespace}/cronjobs"),
        "hpa" => format!("/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers"),
        _ => bail!("no path is known for objects of the kind {kind:?}; add it here"),
    })
}
