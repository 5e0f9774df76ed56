//! The commands of pages, run as they are written.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use wisp_tests::bed::LIMIT;
use wisp_tests::kube::registry;
use wisp_tests::kube::scene::{Scene, has_ended};
use wisp_tests::kube::suite::{Case, HOST, UML};
use wisp_tests::pages::{self, Page};
use wisp_tests::{Outcome, kube_cases, process, site};

pub(crate) const CASES: &[&[Case]] = &[
    kube_cases![Alone, UML; the_quick_start_leads_to_a_pod],
    kube_cases![Alone, HOST; the_readme_leads_to_a_pod_that_answers],
    kube_cases![Node, HOST; every_command_for_a_cluster_is_run_or_named],
];

/// What pages say in place of a registry.
const REGISTRY: &str = "registry.example";

/// What the tests do not run as it is written, and why.
const NOT_RUN: &[(&str, &str)] = &[
    (
        "(cd k8s/installer && kustomize edit set image wisp-installer=YOUR.REGISTRY/wisp-installer:0.1.0)",
        "kustomize itself is not there; a_daemon_set_installs_wisp_and_another_takes_it_back names the image in what `kubectl kustomize` prints",
    ),
    (
        "kubectl apply --kustomize k8s",
        "its image is named as above; every_manifest_is_one_that_the_api_server_takes has the server check it as it is",
    ),
    (
        "kind create cluster --config kind-config.yaml",
        "the image of kind's nodes comes from a registry; node/kinds_patch_gives_its_containerd_the_handler has kind's own code read the file",
    ),
    ("kubectl port-forward pod/hello-rust-http 8080", PORT_FORWARD),
    ("kubectl port-forward pod/hello-javascript 8080", PORT_FORWARD),
    ("kubectl port-forward pod/hello-typescript 8080", PORT_FORWARD),
];

const PORT_FORWARD: &str = "it does not end; a_port_is_forwarded runs one like it";

/// What is run as it is written by a case of another file.
const RUN_ELSEWHERE: &[(&str, &str)] = &[
    (
        "kubectl --namespace wisp-system rollout status daemonset/wisp-installer",
        "a_daemon_set_installs_wisp_and_another_takes_it_back",
    ),
    ("kubectl apply -f pod.yaml", "runs_as_its_page_says"),
];

/// What kind 0.33 runs in its node for `kind load image-archive hello.tar` (`LoadImageArchive` in its `nodeutils`).
const KIND_LOADS: &str =
    "ctr --namespace=k8s.io images import --all-platforms --digests --snapshotter=overlayfs - <hello.tar";

/// A person's shell, with Wisp's tools, the cluster and the registry of the tests.
pub(crate) struct Shell<'a> {
    scene: &'a Scene<'a>,
    /// Where the commands have led so far.
    pub(crate) here: PathBuf,
    /// Where tools keep what is theirs.
    home: PathBuf,
}

impl<'a> Shell<'a> {
    /// One in a folder, which it makes.
    pub(crate) fn new(scene: &'a Scene<'a>, here: PathBuf) -> Result<Self> {
        let home = here.with_extension("home");
        let hosts = home.join("certs.d").join(registry::NAME);
        fs::create_dir_all(&hosts)?;
        fs::create_dir_all(&here)?;
        fs::write(hosts.join("hosts.toml"), format!("server = \"{}\"\n", registry::url()))?;
        Ok(Self { scene, here, home })
    }

    /// Runs a line of a page; what it printed.
    pub(crate) fn run(&mut self, line: &str) -> Result<String> {
        let line = line.replace("node NAME", &format!("node {}", self.scene.node()?.name()));
        // What is typed as root is typed on the node.
        if let Some(line) = line.strip_prefix("sudo ") {
            return self.scene.node()?.shell(line)?.success();
        }
        // A person looks again until it is there.
        if let Some(pod) = line.strip_prefix("kubectl logs ").and_then(|rest| rest.split(' ').next()) {
            self.scene.until(pod, "ended", has_ended)?;
        }
        let said = process::run(&mut self.command(&line)?, 4 * LIMIT)?.success()?;
        self.here = fs::read_to_string(self.home.join("pwd"))?.trim().into();
        Ok(said)
    }

    fn command(&self, line: &str) -> Result<Command> {
        // Where the registry is, a node knows from its certs.d; this machine has none.
        let hosts = format!("wisp push --hosts-dir {}/certs.d", self.home.display());
        // Wisp's checkout is not where a person's program is.
        let of_wisp = format!(" {}/k8s/", site::checkout().display());
        let line = line.replace("wisp push", &hosts).replace(" k8s/", &of_wisp);
        let builds = ["cargo ", "rustup ", "wisp build "].iter().any(|word| line.starts_with(word));
        // Where compilers find what a program depends on, and not in the cluster's network.
        let mut sh = if builds { Command::new("sh") } else { self.scene.kubectl.beside("sh") };
        let (here, home, kubectl) = (self.here.display(), self.home.display(), self.scene.kubectl.typed());
        let script = format!("kubectl() {{ {kubectl} \"$@\"; }}\ncd {here}\n{line}\npwd >{home}/pwd");
        sh.args(["-e", "-c", &script]);
        let wisp = site::binary("wisp")?;
        let bin = wisp.parent().context("a folder of programs")?.display();
        let path = std::env::var("PATH").unwrap_or_default();
        sh.env("npm_config_cache", site::npm_cache());
        // What is there is what the lock file names, and nobody reads of its advisories here.
        sh.env("npm_config_prefer_offline", "true").env("npm_config_audit", "false");
        sh.env("PATH", format!("{bin}:{}:{path}", site::languages()?.display()))
            .env_remove("CARGO_TARGET_DIR");
        sh.env("XDG_DATA_HOME", &self.home).env("KUBECACHEDIR", &self.home);
        Ok(sh)
    }
}

/// A page with the tests' registry in place of the one that it has.
pub(crate) fn page(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Ok(text.replace(REGISTRY, registry::NAME))
}

fn the_quick_start_leads_to_a_pod(scene: &Scene<'_>) -> Outcome {
    let mut shell = Shell::new(scene, site::run_folder()?.join("quick-start"))?;
    let page = page(&site::checkout().join("docs/quick-start.md"))?;
    let on_this_node = format!("spec:\n  nodeName: {}\n", scene.node()?.name());
    for (language, text) in pages::blocks(&page) {
        if language == "yaml" {
            fs::write(shell.here.join("hello.yaml"), text.replace("spec:\n", &on_this_node))?;
            continue;
        }
        for line in text.lines() {
            let said = shell.run(line).with_context(|| line.to_owned())?;
            // Of the remarks beside the commands one is what they print.
            let greeting = line.ends_with("# Hello, world!");
            ensure!(!greeting || said.contains("Hello, world!\n"), "{line}: {said}");
        }
    }
    Ok(())
}

/// The README's first block, once there are programs and a cluster: the tests' own is in the place of kind's.
fn the_readme_leads_to_a_pod_that_answers(scene: &Scene<'_>) -> Outcome {
    let mut shell = Shell::new(scene, site::run_folder()?.join("readme"))?;
    let example = site::checkout().join("examples/rust-http");
    process::run(Command::new("cp").arg("-r").args([&example, &shell.here.join("rust-http")]), LIMIT)?
        .success()?;
    let readme = Page::read("README.md")?;
    let block = readme.blocks("sh").next().context("a block of commands")?;
    let (_, block) =
        block.split_once("kind create cluster --config kind-config.yaml\n").context("a cluster")?;
    let (block, forwarded) = block.split_once("kubectl port-forward ").context("a port that is forwarded")?;
    for line in block.lines().filter(|line| !line.is_empty()) {
        let line = line.replace("examples/rust-http", "rust-http");
        // Another image than that of the example's own case: kubelet has pulled that one by another name, and pulls what it has
        // pulled before by each further name, to see whether it may.
        let line = line.replace("wisp build", "wisp build --label of=README");
        if line == "kind load image-archive hello.tar" {
            scene.node()?.shell(&format!("cd {} && {KIND_LOADS}", shell.here.display()))?.success()?;
            continue;
        }
        shell.run(&line).with_context(|| line)?;
    }
    // One shell has both, as a person's does; kubectl would outlive it.
    let kubectl = scene.kubectl.typed();
    let said = shell.run(&format!("trap 'kill $!' EXIT\n{kubectl} port-forward {forwarded}"))?;
    ensure!(said.contains("hello reader from Rust\n"), "{said}");
    Ok(())
}

/// The commands for a cluster that a page has, without the remarks beside them.
fn commands(page: &str) -> impl Iterator<Item = &str> {
    // Those of a manifest are in the comment that it begins with.
    let lines = page.lines().map(|line| pages::command(line.trim_start_matches("#   ")));
    lines.filter(|line| {
        ["kubectl ", "kind create ", "kind load ", "(cd k8s"].iter().any(|word| line.starts_with(word))
    })
}

fn every_command_for_a_cluster_is_run_or_named(_: &Scene<'_>) -> Outcome {
    let (quick_start, readme) = (Page::read("docs/quick-start.md")?, Page::read("README.md")?);
    let typed = readme.blocks("sh").next().unwrap_or_default();
    let mut known: Vec<_> = commands(&quick_start.text).chain(commands(typed)).collect();
    known.extend(NOT_RUN.iter().chain(RUN_ELSEWHERE).map(|(command, _)| *command));
    let mut seen = Vec::new();
    let mut texts = pages::all()?;
    texts.push(Page::read("kind-config.yaml")?);
    for page in &texts {
        for command in commands(&page.text) {
            ensure!(known.contains(&command), "{}: no case runs {command:?}", page.path);
            seen.push(command.to_owned());
        }
    }
    let unseen: Vec<_> = known.iter().filter(|known| !seen.iter().any(|seen| seen == *known)).collect();
    ensure!(unseen.is_empty(), "no page has {unseen:?}");
    Ok(())
}
