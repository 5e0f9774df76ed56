//! Where things are: what is tested, what it is tested with, and where it may write.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::{env, fs, process};

use anyhow::{Context, Result, ensure};

/// The containerd versions that everything is tested on.
pub const VERSIONS: &[&str] = &["1.6", "1.7", "2.2", "2.4"];

/// The root of the checkout.
#[must_use]
pub fn checkout() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Where cargo and make put what they build.
#[must_use]
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| checkout().join("target"), PathBuf::from)
}

/// A program of the product: in `$WISP_BIN` or `../libexec/wisp` from it, else where `make build` puts it.
///
/// # Errors
/// One sentence where a binary is missing.
pub fn binary(name: &str) -> Result<PathBuf> {
    let folder = env::var_os("WISP_BIN").map_or_else(|| target().join("release"), PathBuf::from);
    let installed = folder.join("../libexec/wisp").join(name);
    existing(if installed.is_file() { installed } else { folder.join(name) }, "make build")
}

/// Wisp of another build, as `make install` lays it out below `$WISP_TESTS_OLDER`, where that is set.
#[must_use]
pub fn older() -> Option<PathBuf> {
    env::var_os("WISP_TESTS_OLDER").filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

/// A guest, by its file name (`tests/guests/build.sh` lists them).
///
/// # Errors
/// One sentence where the guest is missing.
pub fn guest(name: &str) -> Result<PathBuf> {
    existing(target().join("guests").join(name), "make guests")
}

fn bed() -> PathBuf {
    env::var_os("WISP_BED").map_or_else(|| PathBuf::from("/var/cache/wisp-bed"), PathBuf::from)
}

/// A program of one containerd version: `containerd`, `ctr`, `runc`.
///
/// # Errors
/// One sentence where the program is missing.
pub fn server(version: &str, name: &str) -> Result<PathBuf> {
    existing(bed().join(version).join("bin").join(name), "make testbed")
}

/// Wasmtime's own command, which the bench compares with.
///
/// # Errors
/// One sentence where it is missing.
pub fn wasmtime() -> Result<PathBuf> {
    existing(bed().join("wasmtime/bin/wasmtime"), "make testbed-bench")
}

/// A program of Kubernetes, or etcd.
///
/// # Errors
/// One sentence where the program is missing.
pub fn kubernetes(name: &str) -> Result<PathBuf> {
    existing(bed().join("kubernetes/bin").join(name), "make testbed-kubernetes")
}

/// metrics-server.
///
/// # Errors
/// One sentence where it is missing.
pub fn metrics_server() -> Result<PathBuf> {
    existing(bed().join("metrics-server/bin/metrics-server"), "make testbed-kubernetes")
}

/// A static busybox.
///
/// # Errors
/// One sentence where it is missing.
pub fn busybox() -> Result<PathBuf> {
    existing(bed().join("busybox/bin/busybox"), "make testbed-kubernetes")
}

/// A file of the node under User Mode Linux: `linux`, `disk.raw`, `id`.
///
/// # Errors
/// One sentence where it is missing.
pub fn node(name: &str) -> Result<PathBuf> {
    existing(bed().join("node").join(name), "make testbed-kubernetes")
}

/// A file of kind: `bin/kind-patched`, and `config.toml`, which its nodes' containerd has.
///
/// # Errors
/// One sentence where it is missing.
pub fn kind(name: &str) -> Result<PathBuf> {
    existing(bed().join("kind").join(name), "make testbed")
}

/// The program that renders a template of containerd's configuration as k3s does.
///
/// # Errors
/// One sentence where it is missing.
pub fn k3s() -> Result<PathBuf> {
    existing(bed().join("k3s/bin/k3s-rendered"), "make testbed")
}

/// `wkg`, which takes long to build and so is built only where it is asked for.
///
/// # Errors
/// One sentence where it is missing.
pub fn wkg() -> Result<PathBuf> {
    existing(bed().join("wkg/bin/wkg"), "make testbed-wkg")
}

/// The folder of `zig` and `componentize-py`.
///
/// # Errors
/// One sentence where they are missing.
pub fn languages() -> Result<PathBuf> {
    let bin = bed().join("languages/bin");
    existing(bin.join("componentize-py"), "make testbed-kubernetes")?;
    Ok(bin)
}

/// Where [`crate::kept`] has its files.
#[must_use]
pub(crate) fn examples() -> PathBuf {
    bed().join("examples")
}

/// Where npm keeps what it has downloaded, from one run to the next.
#[must_use]
pub fn npm_cache() -> PathBuf {
    bed().join("npm")
}

fn existing(path: PathBuf, target: &str) -> Result<PathBuf> {
    ensure!(path.is_file(), "{} is not there; run `{target}` first", path.display());
    Ok(path)
}

/// `docker-registry`, or `oras`.
///
/// # Errors
/// One sentence where the program is missing.
pub fn registry(name: &str) -> Result<PathBuf> {
    existing(bed().join("registry/bin").join(name), "make testbed")
}

/// `docker`, `dockerd`, or `docker-buildx`.
///
/// # Errors
/// One sentence where the program is missing.
pub fn docker(name: &str) -> Result<PathBuf> {
    existing(bed().join("docker/bin").join(name), "make testbed")
}

/// `critest`, Kubernetes' suite for what implements CRI.
///
/// # Errors
/// One sentence where it is missing.
pub fn critest() -> Result<PathBuf> {
    existing(bed().join("critest/bin/critest"), "make testbed-critest")
}

/// The name of this run, which everything that it makes carries.
#[must_use]
pub fn run_name() -> String {
    format!("wisp-t{}", process::id())
}

/// Where every run has its folder.
pub const RUNS: &str = "/var/tmp/wisp-tests";

/// The folder of this run; [`crate::suite`] removes it at the end.
///
/// # Errors
/// Those of making it.
pub fn run_folder() -> Result<&'static Path> {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| Path::new(RUNS).join(run_name()));
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder)
}

/// Whether this process may make namespaces and mounts.
///
/// # Errors
/// One sentence where it may not.
pub fn require_root() -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "these tests make namespaces, mounts and cgroups: run them as root"
    );
    Ok(())
}
