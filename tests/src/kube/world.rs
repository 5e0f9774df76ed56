//! The cluster of this run, and its nodes: the tests' own, or that of `KUBECONFIG`.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::{env, thread};

use anyhow::{Context, Result, anyhow};
use serde_json::json;

use crate::image::Image;
use crate::kube::cluster::Cluster;
use crate::kube::config::PAUSE;
use crate::kube::host::Host;
use crate::kube::kubectl::Kubectl;
use crate::kube::node::Node;
use crate::kube::registry;
use crate::kube::uml::Uml;
use crate::memo::Memo;
use crate::site;

/// The image with all guests and a busybox, as the tests' own cluster has it.
pub const GUESTS: &str = "registry.test/guests:1";
/// The RuntimeClass whose pods have a pause container.
pub const PODSANDBOX: &str = "wisp-podsandbox";

/// What all cases share.
#[derive(Debug)]
pub struct World {
    /// The cluster, where the tests started it.
    pub cluster: Option<Arc<Cluster>>,
    /// `kubectl` for it.
    pub kubectl: Kubectl,
    /// The image with all guests.
    pub image: String,
    nodes: Memo<Arc<dyn Node>>,
}

/// The world of this run, started when first asked for.
///
/// # Errors
/// Why it could not be started, each time.
pub fn world() -> Result<&'static World> {
    static WORLD: OnceLock<Result<World, String>> = OnceLock::new();
    let world = WORLD.get_or_init(|| World::start().map_err(|error| format!("{error:#}")));
    world.as_ref().map_err(|error| anyhow!(error.clone()))
}

/// Ends it, where it was started.
static CLUSTER: OnceLock<Arc<Cluster>> = OnceLock::new();

/// Ends the tests' own cluster.
pub(crate) fn end() {
    if let Some(cluster) = CLUSTER.get() {
        cluster.end();
    }
}

/// The kubeconfig of a person's own cluster, to be used in place of the tests'.
#[must_use]
pub fn foreign() -> Option<PathBuf> {
    env::var_os("KUBECONFIG").filter(|path| !path.is_empty()).map(PathBuf::from)
}

impl World {
    fn start() -> Result<Self> {
        if let Some(kubeconfig) = foreign() {
            return Self::of(kubeconfig);
        }
        let cluster = Cluster::start()?;
        let _ = CLUSTER.set(Arc::clone(&cluster));
        let kubectl = cluster.kubectl()?;
        make_classes(&kubectl)?;
        let world = Self { cluster: Some(cluster), kubectl, image: GUESTS.to_owned(), nodes: Memo::new() };
        world.push_images()?;
        Ok(world)
    }

    /// A cluster that has Wisp already, and the image of `WISP_TESTS_IMAGE` or a way to it.
    fn of(kubeconfig: PathBuf) -> Result<Self> {
        let image = env::var("WISP_TESTS_IMAGE").context(
            "KUBECONFIG is set, so the tests run on that cluster: say in WISP_TESTS_IMAGE which image has the guests \
             (`make image-kubernetes` writes it to target/guests.tar, to be loaded or pushed)",
        )?;
        let folder = site::run_folder()?.join("kubectl");
        let kubectl = Kubectl::new("kubectl".into(), kubeconfig, None, folder)?;
        kubectl.get(&["runtimeclass", "wisp"]).context("the cluster wants k8s/runtimeclass.yaml")?;
        Ok(Self { cluster: None, kubectl, image, nodes: Memo::new() })
    }

    fn push_images(&self) -> Result<()> {
        let cluster = self.cluster.as_ref().context("no cluster of the tests' own")?;
        let pause = Image::new(PAUSE)
            .file_of("/pause", site::guest("pause")?)
            .config("Entrypoint", json!(["/pause"]));
        registry::push(cluster, &pause)?;
        registry::push(cluster, &guests(GUESTS)?)
    }

    /// A node of the tests' own, started when first asked for.
    ///
    /// # Errors
    /// Why it could not be started, each time.
    pub fn node(&self, name: &str) -> Result<Arc<dyn Node>> {
        let cluster = Arc::clone(self.cluster.as_ref().context("no cluster of the tests' own")?);
        self.nodes.get(name, || {
            Ok(match name {
                "uml" => Arc::new(Uml::join(cluster)?),
                _ => Arc::new(Host::join(cluster)?),
            })
        })
    }

    /// Starts nodes beside each other, so that no case waits for one after the other.
    pub fn start_nodes(&'static self, names: Vec<&'static str>) {
        for name in names {
            // What becomes of it each case hears that asks for it.
            thread::spawn(move || drop(self.node(name)));
        }
    }
}

fn make_classes(kubectl: &Kubectl) -> Result<()> {
    let wisp = site::checkout().join("k8s/runtimeclass.yaml").display().to_string();
    kubectl.run(&["apply", "--filename", &wisp])?;
    kubectl.apply(&json!({
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": PODSANDBOX},
        "handler": PODSANDBOX,
    }))
}

const LIBRARY: &str =
    r#"(module (func (export "add") (param i32 i32) (result i32) local.get 0 local.get 1 i32.add))"#;

/// The image with all guests, and busybox for what a native program does in their place.
///
/// # Errors
/// Where one is missing.
pub fn guests(name: &str) -> Result<Image> {
    let mut image = Image::new(name)
        .config("Env", json!(["PATH=/bin", "FROM_IMAGE=yes"]))
        .folder("/tmp", 0o1777)
        .file("/data/greeting.txt", "a file of the image\n")
        .file("/lib.wasm", wat::parse_str(LIBRARY)?)
        .file_of("/bin/busybox", site::busybox()?);
    for applet in [
        "sh", "cat", "tar", "ls", "sleep", "nc", "wget", "id", "ps", "stty", "echo", "test", "kill",
        "nsenter",
    ] {
        image = image.link(&format!("/bin/{applet}"), "busybox");
    }
    let all = [
        "rust-0.1.wasm",
        "rust-0.2.wasm",
        "rust-0.3.wasm",
        "c.wasm",
        "native",
        "http-0.2.wasm",
        "http-0.3.wasm",
    ];
    for guest in all {
        image = image.file_of(&format!("/{guest}"), site::guest(guest)?);
    }
    Ok(image)
}
