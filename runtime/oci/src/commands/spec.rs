//! `spec`: a configuration to begin a bundle with.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::args;
use crate::state::OCI_VERSION;

/// Writes `config.json`, unless there is one.
pub(super) fn run(args: &args::Spec) -> Result<()> {
    let path = args.bundle.join("config.json");
    ensure!(!path.exists(), "File {} exists. Remove it first", path.display());
    std::fs::write(&path, format!("{}\n", serde_json::to_string_pretty(&configuration())?))
        .with_context(|| path.display().to_string())
}

/// A command in `rootfs/app.wasm` with what a container usually has.
fn configuration() -> serde_json::Value {
    let capabilities = ["CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_NET_BIND_SERVICE"];
    json!({
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": ["/app.wasm"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "wisp",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            {
                "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
            },
            {
                "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
            },
            {
                "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
            },
        ],
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
                { "type": "cgroup" },
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_configuration_is_one_that_this_runtime_takes() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("rootfs")).unwrap();
        super::run(&crate::args::Spec { bundle: dir.path().into() }).unwrap();
        crate::bundle::Bundle::open(dir.path()).unwrap().process().unwrap();
        let again = super::run(&crate::args::Spec { bundle: dir.path().into() }).unwrap_err();
        assert!(again.to_string().ends_with("exists. Remove it first"));
    }
}
