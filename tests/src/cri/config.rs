//! containerd's configuration, with and without its CRI plugin, and the network of its pods.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

use crate::cri::image::PAUSE;
use crate::site;

/// The handler of runc.
pub const RUNC: &str = "runc";
/// The handler of Wisp with a pause container.
pub const PODSANDBOX: &str = "wisp";
/// The handler of Wisp in which the shim is the sandbox; containerd has it from 2.0 on.
pub const SHIM: &str = "wisp-shim";

/// The configuration of a containerd whose clients make containers themselves.
pub(crate) fn without_cri(version: &str, common: &str) -> String {
    let plugins = match version {
        "1.6" | "1.7" => r#""io.containerd.grpc.v1.cri""#,
        _ => r#""io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime""#,
    };
    // A key that is not in a table comes first.
    format!("version = 2\ndisabled_plugins = [{plugins}]\n{common}")
}

/// The configuration of a containerd with CRI, and beside it that of the network of its pods. Each of `shims` gets a handler of
/// its name, on 2.4, whose containerd then does not ask for the figures of pods by itself. `registries` is its `config_path`, on 2.x.
///
/// # Errors
/// Those of writing it, and where the network's plugins are missing.
pub(crate) fn with_cri(
    version: &str,
    folder: &Path,
    common: &str,
    shims: &[&str],
    registries: Option<&Path>,
) -> Result<String> {
    let networks = folder.join("cni");
    fs::create_dir_all(&networks)?;
    fs::write(networks.join("10-pods.conflist"), network())?;
    let bridge = site::server("2.4", "cni/bridge")?;
    let plugins = bridge.parent().context("a plugin without a folder")?.display();
    let networks = networks.display();
    Ok(match version {
        "1.7" => format!(
            "version = 2\n{common}{}",
            version_2(&format!("bin_dir = '{plugins}'\nconf_dir = '{networks}'"))
        ),
        _ => format!(
            "version = 3\n{common}{}",
            version_3(
                version,
                &format!("bin_dirs = ['{plugins}']\nconf_dir = '{networks}'"),
                shims,
                registries
            )
        ),
    })
}

/// What a test's root may lack on this machine: it may not lower scores, and there may be no AppArmor.
const MACHINE: &str = "restrict_oom_score_adj = true\ndisable_apparmor = true\n";

fn version_2(cni: &str) -> String {
    let cri = "plugins.'io.containerd.grpc.v1.cri'";
    let runtimes = format!("{cri}.containerd.runtimes");
    // What is the default of 2.x.
    let unprivileged = "enable_unprivileged_ports = true\nenable_unprivileged_icmp = true\n";
    format!(
        "[{cri}]\nsandbox_image = '{PAUSE}'\nstream_server_address = '127.0.0.1'\n{MACHINE}{unprivileged}\
         [{cri}.cni]\n{cni}\n{}{}",
        handler(&runtimes, RUNC, "io.containerd.runc.v2", ""),
        handler(&runtimes, PODSANDBOX, "io.containerd.wisp.v1", ""),
    )
}

fn version_3(version: &str, cni: &str, shims: &[&str], registries: Option<&Path>) -> String {
    let cri = "plugins.'io.containerd.cri.v1.runtime'";
    let runtimes = format!("{cri}.containerd.runtimes");
    // 2.2 wants the pause image even where it runs no pause container.
    let without_pause = if version == "2.2" { "" } else { "disable_pause_image_pull = true\n" };
    let sandbox = format!("sandboxer = 'shim'\n{without_pause}");
    // Who compares shims is not to measure what containerd asks all of them each second.
    let figures = if shims.is_empty() { "" } else { "stats_collect_period = '24h'\n" };
    let registries = registries.map(|folder| {
        format!("[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '{}'\n", folder.display())
    });
    let more =
        shims.iter().map(|name| handler(&runtimes, name, &format!("io.containerd.{name}.v1"), &sandbox));
    format!(
        "[plugins.'io.containerd.cri.v1.images'.pinned_images]\nsandbox = '{PAUSE}'\n\
         [{cri}]\n{MACHINE}{figures}[{cri}.cni]\n{cni}\n{}{}{}{}",
        handler(&runtimes, RUNC, "io.containerd.runc.v2", ""),
        handler(&runtimes, PODSANDBOX, "io.containerd.wisp.v1", "sandboxer = 'podsandbox'\n"),
        handler(&runtimes, SHIM, "io.containerd.wisp.v1", &sandbox),
        more.collect::<String>() + &registries.unwrap_or_default(),
    )
}

fn handler(runtimes: &str, name: &str, kind: &str, more: &str) -> String {
    format!("[{runtimes}.{name}]\nruntime_type = '{kind}'\npod_annotations = ['wisp.dev/*']\n{more}")
}

/// A bridge with addresses that are its own, and ports of the node that lead to pods.
fn network() -> String {
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": "10.88.0.0/16"}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "backend": "nftables", "capabilities": {"portMappings": true}},
        ],
    })
    .to_string()
}
