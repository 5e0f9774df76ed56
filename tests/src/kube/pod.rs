//! Manifests of pods.

use serde_json::{Value, json};

/// A pod with one container called `main`, and what a case adds to it.
#[derive(Debug, Clone)]
pub struct Pod(Value);

impl Pod {
    /// A pod that is never restarted and whose grace period is the default.
    #[must_use]
    pub fn new(name: &str, image: &str, command: &[&str]) -> Self {
        Self(json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {
                "restartPolicy": "Never",
                "containers": [container("main", image, command)],
            },
        }))
    }

    /// Changes its name.
    #[must_use]
    pub fn called(mut self, name: &str) -> Self {
        self.0["metadata"]["name"] = json!(name);
        self
    }

    /// Sets a field of the pod's `spec`.
    #[must_use]
    pub fn spec(mut self, field: &str, value: Value) -> Self {
        self.0["spec"][field] = value;
        self
    }

    /// Sets a field of the first container.
    #[must_use]
    pub fn main(mut self, field: &str, value: Value) -> Self {
        self.0["spec"]["containers"][0][field] = value;
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.0["metadata"]["labels"][name] = json!(value);
        self
    }

    /// Adds a container after the others.
    #[must_use]
    pub fn beside(self, container: Value) -> Self {
        self.push("containers", container)
    }

    /// Adds an init container after the others.
    #[must_use]
    pub fn first(self, container: Value) -> Self {
        self.push("initContainers", container)
    }

    /// Adds a volume called `volume`, and mounts it in the first container.
    #[must_use]
    pub fn volume(self, volume: &str, source: Value, path: &str) -> Self {
        let mut named = source;
        named["name"] = json!(volume);
        self.push("volumes", named).mount(json!({"name": volume, "mountPath": path}))
    }

    /// Mounts a volume in the first container.
    #[must_use]
    pub fn mount(mut self, mount: Value) -> Self {
        push(&mut self.0["spec"]["containers"][0]["volumeMounts"], mount);
        self
    }

    fn push(mut self, field: &str, value: Value) -> Self {
        push(&mut self.0["spec"][field], value);
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// The manifest.
    #[must_use]
    pub fn manifest(&self) -> &Value {
        &self.0
    }

    /// What a Deployment, a Job or their like make pods of.
    #[must_use]
    pub fn template(&self) -> Value {
        let mut template = json!({"metadata": self.0["metadata"], "spec": self.0["spec"]});
        if let Some(metadata) = template["metadata"].as_object_mut() {
            metadata.remove("name");
        }
        template
    }
}

fn push(list: &mut Value, value: Value) {
    match list {
        Value::Array(list) => list.push(value),
        empty => *empty = json!([value]),
    }
}

/// A container.
#[must_use]
pub fn container(name: &str, image: &str, command: &[&str]) -> Value {
    json!({"name": name, "image": image, "command": command})
}
