//! What a case is given: a Kubernetes namespace of its own, on a node, under a RuntimeClass.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::kube::PATIENCE;
use crate::kube::cluster::is_ready;
use crate::kube::config::TAINT;
use crate::kube::kubectl::Kubectl;
use crate::kube::node::Node;
use crate::kube::pod::{self, Pod};
use crate::kube::suite::Place;

/// Everything that a case does is done through this.
#[derive(Debug)]
pub struct Scene<'a> {
    /// For the case's own Kubernetes namespace.
    pub kubectl: Kubectl,
    /// Where it runs.
    pub place: Place,
    /// The image with all guests.
    pub image: String,
    /// The node, where the tests started it.
    pub(crate) node: Option<&'a dyn Node>,
}

impl Scene<'_> {
    /// The node; only cases that say so have one on a cluster that the tests did not start.
    ///
    /// # Errors
    /// Where there is none.
    pub fn node(&self) -> Result<&dyn Node> {
        self.node.context("this case needs a node that the tests started")
    }

    /// The same on another node.
    #[must_use]
    pub fn on<'a>(&self, node: &'a dyn Node) -> Scene<'a> {
        Scene {
            kubectl: self.kubectl.clone(),
            place: self.place,
            image: self.image.clone(),
            node: Some(node),
        }
    }

    /// A pod of Wasm with one container, to be created.
    #[must_use]
    pub fn pod(&self, name: &str, command: &[&str]) -> Pod {
        self.native(name, command).spec("runtimeClassName", json!(self.place.class()))
    }

    /// A pod of an HTTP service, which is ready when it answers.
    #[must_use]
    pub fn service(&self, name: &str) -> Pod {
        let probe =
            json!({"httpGet": {"path": "/hello", "port": 8080}, "periodSeconds": 1, "failureThreshold": 60});
        self.pod(name, &["/http-0.2.wasm"]).main("readinessProbe", probe)
    }

    /// The same as [`Self::pod`] under the cluster's default runtime.
    #[must_use]
    pub fn native(&self, name: &str, command: &[&str]) -> Pod {
        let pod = Pod::new(name, &self.image, command);
        match self.node {
            Some(node) => pod
                .spec("nodeSelector", json!({"kubernetes.io/hostname": node.name()}))
                .spec("tolerations", json!([{"key": TAINT, "operator": "Exists"}])),
            None => pod,
        }
    }

    /// A container of the image with all guests.
    #[must_use]
    pub fn container(&self, name: &str, command: &[&str]) -> Value {
        pod::container(name, &self.image, command)
    }

    /// Creates a pod.
    ///
    /// # Errors
    /// What the API server answered, also where there is one of that name.
    pub fn create(&self, pod: &Pod) -> Result<()> {
        self.kubectl.create_pod(pod.manifest())
    }

    /// Creates a pod and waits until it is ready.
    ///
    /// # Errors
    /// Where it does not get ready.
    pub fn ready(&self, pod: &Pod) -> Result<Value> {
        self.create(pod)?;
        self.until(pod.name(), "ready", is_ready)
    }

    /// Creates a pod and waits until it has run to its end, well or not.
    ///
    /// # Errors
    /// Where it does not end.
    pub fn ended(&self, pod: &Pod) -> Result<Value> {
        self.create(pod)?;
        self.until(pod.name(), "ended", has_ended)
    }

    /// Watches a pod until it is as it should be; it then.
    ///
    /// # Errors
    /// Where it does not get so.
    pub fn until(&self, pod: &str, what: &str, reached: impl Fn(&Value) -> bool) -> Result<Value> {
        self.kubectl.until(&format!("pod/{pod}"), what, PATIENCE, reached)
    }

    /// The log of a pod's only container.
    ///
    /// # Errors
    /// What kubectl said.
    pub fn logs(&self, pod: &str) -> Result<String> {
        self.kubectl.run(&["logs", pod])
    }

    /// Deletes a pod and waits until it is gone, but not longer than `limit`.
    ///
    /// # Errors
    /// Where it is not gone in time.
    pub fn delete(&self, pod: &str, limit: Duration) -> Result<()> {
        self.kubectl.run(&["delete", "pod", pod, &format!("--timeout={}s", limit.as_secs())]).map(drop)
    }

    /// What a service answers on port 8080 of its pod, asked from inside.
    ///
    /// # Errors
    /// Where it does not answer 200.
    pub fn fetch(&self, pod: &str, path: &str) -> Result<String> {
        self.exec(pod, &["/bin/wget", "-qO-", &format!("http://127.0.0.1:8080{path}")])
    }

    /// The control groups of a container, one in each hierarchy where it has version 1.
    ///
    /// # Errors
    /// Where the node cannot be asked.
    pub fn control_groups(&self, container: &str) -> Result<Vec<String>> {
        let top = self.node()?.control_groups();
        let found = self.node()?.shell(&format!("find {top} -type d -name '*{container}*' 2>/dev/null"))?;
        Ok(found.stdout.lines().map(str::to_owned).collect())
    }

    /// What a file of a container's control group says; `names` are what the versions call it.
    ///
    /// # Errors
    /// Where the node cannot be asked.
    pub fn control(&self, container: &str, names: &[&str]) -> Result<String> {
        let groups = self.control_groups(container)?;
        let files = groups.iter().flat_map(|group| names.iter().map(move |name| format!("{group}/{name}")));
        let files = files.collect::<Vec<_>>().join(" ");
        Ok(self.node()?.shell(&format!("cat {files} 2>/dev/null"))?.stdout)
    }

    /// What `wisp top` on the node says of a pod's first container.
    ///
    /// # Errors
    /// Where it does not show it.
    pub fn wisp_top(&self, pod: &str) -> Result<Value> {
        let said = self.node()?.shell("wisp top --namespace k8s.io --json")?.success()?;
        let tasks: Vec<Value> = serde_json::from_str(&said).with_context(|| said.clone())?;
        let shown = |task: &Value| {
            let of = &task["pod"];
            of["namespace"] == *self.kubectl.namespace && of["name"] == pod && of["container"] == "main"
        };
        tasks.into_iter().find(shown).with_context(|| format!("wisp top does not show {pod}: {said}"))
    }

    /// Runs a command in a pod's first container.
    ///
    /// # Errors
    /// Where it fails.
    pub fn exec(&self, pod: &str, command: &[&str]) -> Result<String> {
        self.kubectl.run(&[&["exec", pod, "--container=main", "--"], command].concat())
    }
}

/// Whether a pod has run to its end, well or not.
#[must_use]
pub fn has_ended(pod: &Value) -> bool {
    pod["status"]["phase"] == "Succeeded" || pod["status"]["phase"] == "Failed"
}

/// The state of a pod's first container that has ended: `exitCode`, `reason`, `message`.
///
/// # Errors
/// Where it has not ended.
pub fn terminated(pod: &Value) -> Result<&Value> {
    let state = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    ensure!(state.is_object(), "the container has not ended: {}", pod["status"]);
    Ok(state)
}

/// Requires how a pod's first container ended.
///
/// # Errors
/// Where it ended otherwise.
pub fn ended_with(pod: &Value, reason: &str, code: i64) -> Result<()> {
    let state = terminated(pod)?;
    ensure!(state["reason"] == reason && state["exitCode"] == code, "not {reason} with {code}: {state}");
    Ok(())
}

/// The id of a pod's first container, as containerd has it.
///
/// # Errors
/// Where it has none.
pub fn container_id(pod: &Value) -> Result<&str> {
    let id =
        pod["status"]["containerStatuses"][0]["containerID"].as_str().context("a container without an id")?;
    Ok(id.trim_start_matches("containerd://"))
}
