//! What containerd is, and what it makes of its configuration.

use std::fs;
use std::path::Path;

use toml::{Table, Value};

use super::{Finding, cgroups, programs};
use crate::install::OLDEST;
use crate::install::handler::{NO_PAUSE_IMAGE, RUNTIME_TYPE, SHIM_SANDBOX};
use crate::node::config::{Effective, Source, V2, V3};
use crate::node::containerd::{Containerd, Version};

/// The first versions that take a Wasm OCI artifact.
const ARTIFACTS: [Version; 2] = [Version(1, 6, 25), Version(1, 7, 7)];
/// From where on images for `wasi/wasm` may be pulled and not unpacked: 2.2 unpacks them, 2.4 does not, 2.3 is not known.
const UNPACKS_NO_WASM: Version = Version(2, 3, 0);

/// Everything that has to do with containerd.
pub(super) fn look(config: Option<&Path>, handler: &str) -> Vec<Finding> {
    const CHECK: &str = "containerd";
    let containerd = match Containerd::running(config) {
        Ok(Some(containerd)) => containerd,
        Ok(None) => {
            return vec![Finding::failed(
                CHECK,
                "none runs here",
                "start it, or name its file with --containerd-config",
            )];
        }
        Err(error) => {
            return vec![Finding::failed(CHECK, format!("{error:#}"), "run this again with that option")];
        }
    };
    let version = match containerd.version() {
        Ok(version) => version,
        Err(error) => {
            return vec![Finding::failed(CHECK, format!("{error:#}"), "install containerd 1.6 or later")];
        }
    };
    let mut findings = vec![version_finding(version, &containerd)];
    findings.extend(programs::look(&containerd));
    match Effective::of(&containerd, &containerd.config) {
        Err(error) => findings.push(Finding::failed(
            "configuration",
            format!("{error:#}"),
            "mend the file: containerd will not start again with it",
        )),
        Ok(effective) => {
            findings.push(handler_finding(&containerd, version, &effective, handler));
            findings.extend(age(&containerd));
            findings.extend(pulls(version, &effective));
            findings.extend(selinux(&effective));
            findings.push(programs::runc(&containerd, &effective, handler));
            findings.push(cgroups::drivers(&effective));
        }
    }
    findings
}

fn version_finding(version: Version, containerd: &Containerd) -> Finding {
    const CHECK: &str = "containerd";
    let found = format!("{version}, {containerd}");
    if version < OLDEST {
        return Finding::failed(CHECK, found, format!("use {OLDEST} or later"));
    }
    let too_old = |first: &Version| (version.0, version.1) == (first.0, first.1) && version < *first;
    match ARTIFACTS.iter().find(|first| too_old(first)) {
        Some(first) => {
            Finding::warning(CHECK, found, format!("images that are Wasm artifacts need {first} or later"))
        }
        None => Finding::ok(CHECK, found),
    }
}

fn handler_finding(containerd: &Containerd, version: Version, effective: &Effective, name: &str) -> Finding {
    const CHECK: &str = "handler";
    let Some(found) = effective.handler(name) else {
        return missing_handler(containerd, effective, name);
    };
    let text = |key: &str| found.get(key).and_then(Value::as_str).unwrap_or_default();
    if text("runtime_type") != RUNTIME_TYPE {
        return Finding::failed(
            CHECK,
            format!("{name} is of the kind {:?}, expected {RUNTIME_TYPE:?}", text("runtime_type")),
            "set its runtime_type",
        );
    }
    let sandboxer = if text("sandboxer") == "shim" { "shim" } else { "podsandbox" };
    let pause = found.get("disable_pause_image_pull").and_then(Value::as_bool);
    if sandboxer == "shim" && version < SHIM_SANDBOX {
        return Finding::failed(
            CHECK,
            format!(
                "{name}, sandboxer shim: containerd {version} crashes with the first such pod on the host's network"
            ),
            format!("take sandboxer out of its table, or use containerd {SHIM_SANDBOX} or later"),
        );
    }
    if sandboxer == "shim" && version >= NO_PAUSE_IMAGE && pause != Some(true) {
        return Finding::warning(
            CHECK,
            format!("{name}, sandboxer shim, and the pause image is pulled that nobody runs"),
            "set disable_pause_image_pull = true in its table",
        );
    }
    let annotations = found.get("pod_annotations").and_then(Value::as_array);
    if !annotations
        .is_some_and(|list| list.iter().filter_map(Value::as_str).any(|text| text.starts_with("wisp.dev/")))
    {
        return Finding::warning(
            CHECK,
            format!("{name}, sandboxer {sandboxer}, and pods' wisp.dev annotations do not reach Wisp"),
            "set pod_annotations = [\"wisp.dev/*\"] in its table",
        );
    }
    Finding::ok(CHECK, format!("{name}, sandboxer {sandboxer}"))
}

/// Why containerd does not see the handler, as far as the files tell.
fn missing_handler(containerd: &Containerd, effective: &Effective, name: &str) -> Finding {
    const CHECK: &str = "handler";
    let sources = Source::read(&containerd.config)
        .ok()
        .flatten()
        .and_then(|main| Source::all(main).ok())
        .unwrap_or_default();
    if let Some(source) = sources.iter().find(|source| source.disables_cri()) {
        return Finding::failed(
            CHECK,
            format!("{} disables the CRI plugin, without which there are no pods", source.path.display()),
            "take cri out of its disabled_plugins and restart containerd",
        );
    }
    for source in &sources {
        for (wrong, right) in [(V2, V3), (V3, V2)] {
            if source.handler(wrong, name).is_some() {
                return Finding::failed(
                    CHECK,
                    format!(
                        "{} has {name} in the table of {wrong:?}, which containerd does not read there (the file is of version {})",
                        source.path.display(),
                        source.version()
                    ),
                    format!("move it to [plugins.\"{right}\".containerd.runtimes.{name}]"),
                );
            }
        }
    }
    let others: Vec<_> = effective
        .handlers()
        .map(|table: &Table| table.keys().map(String::as_str).collect())
        .unwrap_or_default();
    Finding::failed(
        CHECK,
        format!("containerd has none called {name} (it has {})", others.join(", ")),
        "run `wisp install`",
    )
}

/// Whether a file is newer than the process that read it.
fn age(containerd: &Containerd) -> Option<Finding> {
    let started = containerd.started()?;
    let sources = Source::all(Source::read(&containerd.config).ok()??).ok()?;
    let newer = sources.iter().find(|source| {
        // Both are of a second's grain.
        let changed = fs::metadata(&source.path).and_then(|data| data.modified());
        changed.is_ok_and(|changed| changed.duration_since(started).is_ok_and(|since| since.as_secs() > 1))
    })?;
    Some(Finding::warning(
        "configuration",
        format!("{} has changed since containerd was started", newer.path.display()),
        "restart containerd",
    ))
}

fn pulls(version: Version, effective: &Effective) -> Option<Finding> {
    if version < UNPACKS_NO_WASM {
        return None;
    }
    let local = effective.images()?.get("use_local_image_pull")?.as_bool()?;
    Some(if local {
        Finding::ok("image pull", "local, for images of every platform")
    } else {
        Finding::warning(
            "image pull",
            "images whose only platform is wasi/wasm are pulled but not unpacked (\"parent snapshot … does not exist\")",
            "build them for linux, or set use_local_image_pull = true in [plugins.\"io.containerd.cri.v1.images\"]",
        )
    })
}

fn selinux(effective: &Effective) -> Option<Finding> {
    let enforcing = fs::read_to_string("/sys/fs/selinux/enforce").ok()?.trim() == "1";
    let labels = effective.cri()?.get("enable_selinux").and_then(Value::as_bool).unwrap_or_default();
    Some(match (enforcing, labels) {
        (false, _) => Finding::ok("SELinux", "permissive"),
        (true, true) => Finding::ok("SELinux", "enforcing, and containerd labels containers"),
        (true, false) => Finding::warning(
            "SELinux",
            "enforcing, and containerd does not label containers: guests run in the shim's domain",
            "set enable_selinux = true in containerd's CRI settings",
        ),
    })
}
