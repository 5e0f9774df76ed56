//! Control groups: what the kernel has, and whether kubelet and containerd mean the same.

use std::fs;
use std::path::{Path, PathBuf};

use toml::Value;

use super::Finding;
use crate::node::config::Effective;
use crate::node::containerd::same_root;

const CHECK: &str = "cgroups";

/// Compares kubelet's driver with that of containerd's default handler.
pub(super) fn drivers(effective: &Effective) -> Finding {
    let version =
        if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { "version 2" } else { "version 1" };
    let systemd = effective
        .default_handler()
        .and_then(|table| table.get("options")?.get("SystemdCgroup").and_then(Value::as_bool));
    let containerd = if systemd == Some(true) { "systemd" } else { "cgroupfs" };
    let Some((path, kubelet)) = kubelet_config()
        .and_then(|path| Some((driver(&fs::read_to_string(&path).ok()?), path)))
        .map(|(d, p)| (p, d))
    else {
        return Finding::ok(
            CHECK,
            format!("{version}, driver {containerd} (kubelet's configuration was not found)"),
        );
    };
    // Since Kubernetes 1.31 kubelet asks containerd 2.0 and later, whatever its own file says; a file without the key means cgroupfs.
    let kubelet = kubelet.unwrap_or_else(|| "cgroupfs".into());
    if kubelet == containerd {
        return Finding::ok(CHECK, format!("{version}, driver {kubelet}"));
    }
    Finding::warning(
        CHECK,
        format!("{version}, kubelet's driver is {kubelet} ({}), containerd's {containerd}", path.display()),
        "make them one: cgroupDriver in kubelet's file, SystemdCgroup in the options of containerd's default handler",
    )
}

/// The file that the kubelet of this node reads, else where kubeadm puts it.
fn kubelet_config() -> Option<PathBuf> {
    let usual = PathBuf::from("/var/lib/kubelet/config.yaml");
    let processes = fs::read_dir("/proc").ok()?.flatten().map(|entry| entry.path());
    let kubelet = processes.into_iter().find(|proc| {
        fs::read_to_string(proc.join("comm")).is_ok_and(|name| name == "kubelet\n") && same_root(proc)
    });
    let line = kubelet.and_then(|proc| fs::read(proc.join("cmdline")).ok()).unwrap_or_default();
    let line = String::from_utf8_lossy(&line);
    config_flag(&line.split('\0').collect::<Vec<_>>()).or_else(|| usual.exists().then_some(usual))
}

fn config_flag(arguments: &[&str]) -> Option<PathBuf> {
    arguments.iter().enumerate().find_map(|(i, argument)| match argument.strip_prefix("--config") {
        Some("") => arguments.get(i + 1).map(PathBuf::from),
        Some(value) => value.strip_prefix('=').map(PathBuf::from),
        None => None,
    })
}

/// The driver in a KubeletConfiguration, which kubelet takes as YAML or JSON.
fn driver(text: &str) -> Option<String> {
    let value = text.lines().find_map(|line| {
        let (key, value) = line.trim().split_once(':')?;
        (key.trim_matches('"') == "cgroupDriver").then(|| value.trim().trim_end_matches(','))
    })?;
    let value = value.split(" #").next().unwrap_or_default();
    Some(value.trim().trim_matches(['"', '\'']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubelets_driver_is_read_in_both_forms() {
        assert_eq!(driver("kind: K\ncgroupDriver: systemd # ours\n").as_deref(), Some("systemd"));
        assert_eq!(driver("{\n  \"cgroupDriver\": \"cgroupfs\",\n}").as_deref(), Some("cgroupfs"));
        assert_eq!(driver("kind: K\n"), None);
    }

    #[test]
    fn kubelets_file_is_found_in_both_spellings() {
        assert_eq!(config_flag(&["kubelet", "--config", "/a"]), Some("/a".into()));
        assert_eq!(config_flag(&["kubelet", "--v=2", "--config=/b"]), Some("/b".into()));
        assert_eq!(config_flag(&["kubelet", "--config-dir=/c"]), None);
    }
}
