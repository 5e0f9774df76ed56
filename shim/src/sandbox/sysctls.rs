//! Kernel parameters of a pod: those that it asks for, and those that every pod has. Only what belongs to a namespace of
//! the pod can be set: anything else would be the node's.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use tracing::warn;

use super::config::{Mode, PodConfig};
use crate::error::{Context, Error, Result};

/// What a pod with a network of its own has unless it asks otherwise, as with containerd's own sandbox: programs that are
/// not root may serve on any port and send pings.
const DEFAULTS: [(&str, &str); 2] =
    [("net/ipv4/ip_unprivileged_port_start", "0"), ("net/ipv4/ping_group_range", "0 2147483647")];
/// What the IPC namespace holds.
const IPC: [&str; 8] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
];

/// The parameters to set, by their paths below `/proc/sys`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Sysctls {
    asked: BTreeMap<String, String>,
    defaults: BTreeMap<String, String>,
}

impl Sysctls {
    /// Those of a pod.
    ///
    /// # Errors
    /// The pod asks for one that is not in a namespace of its own.
    pub(crate) fn of(config: &PodConfig) -> Result<Self> {
        let mut asked = BTreeMap::new();
        for (name, value) in config.sysctls() {
            let path = path(&name)
                .ok_or_else(|| Error::invalid_argument(format!("{name:?} is not the name of a sysctl")))?;
            check(&name, &path, config)?;
            asked.insert(path, value);
        }
        let mut defaults = BTreeMap::new();
        if config.network() != Mode::Node {
            let wanted = DEFAULTS.iter().filter(|(path, _)| !asked.contains_key(*path));
            defaults.extend(wanted.map(|(path, value)| ((*path).to_owned(), (*value).to_owned())));
        }
        Ok(Self { asked, defaults })
    }

    /// Sets them in the namespaces of the calling thread.
    ///
    /// # Errors
    /// The kernel does not know one that was asked for, or not its value.
    pub(crate) fn set(&self) -> Result<()> {
        let file = |path: &str| PathBuf::from("/proc/sys").join(path);
        for (path, value) in &self.defaults {
            if let Err(error) = fs::write(file(path), value) {
                warn!(path, value, %error, "a sysctl that pods usually have was not set");
            }
        }
        for (path, value) in &self.asked {
            let written = fs::write(file(path), value);
            written.context(|| format!("setting the sysctl {} to {value:?}", path.replace('/', ".")))?;
        }
        Ok(())
    }
}

/// Where a parameter is: its separator is the one that comes first, and the other is part of its names
/// (`net.ipv4.conf.eth0/1.forwarding`), as in sysctl(8).
fn path(name: &str) -> Option<String> {
    let dots = name.find(['.', '/']).is_some_and(|at| name[at..].starts_with('.'));
    let swap = |character| match character {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let path = if dots { name.chars().map(swap).collect() } else { name.to_owned() };
    let sound = |part: &str| !matches!(part, "" | "." | "..");
    (path.contains('/') && path.split('/').all(sound)).then_some(path)
}

fn check(name: &str, path: &str, config: &PodConfig) -> Result<()> {
    let is_ipc = IPC.contains(&path) || path.starts_with("fs/mqueue/");
    let (of, mode) = match path {
        _ if path.starts_with("net/") => ("network", config.network()),
        _ if is_ipc => ("IPC", config.ipc()),
        "kernel/domainname" => ("host name", config.network()),
        _ => {
            return Err(Error::invalid_argument(format!(
                "the sysctl {name} is not in a namespace of the pod, so setting it would change the whole node; set it on the \
                 node, or leave it out"
            )));
        }
    };
    if mode == Mode::Node {
        return Err(Error::invalid_argument(format!(
            "the sysctl {name} cannot be set by a pod that has the node's {of}, because it would change the whole node; \
             leave it out, or give the pod its own"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::config::tests::config;
    use super::*;

    fn of(network: Mode, ipc: Mode, name: &str) -> Result<Sysctls> {
        Sysctls::of(&config(network, Mode::Pod, ipc, &[(name, "1")]))
    }

    #[test]
    fn names_have_dots_or_slashes() {
        assert_eq!(path("net.ipv4.ip_forward").as_deref(), Some("net/ipv4/ip_forward"));
        assert_eq!(
            path("net/ipv4/conf/eth0.1/forwarding").as_deref(),
            Some("net/ipv4/conf/eth0.1/forwarding")
        );
        assert_eq!(
            path("net.ipv4.conf.eth0/1.forwarding").as_deref(),
            Some("net/ipv4/conf/eth0.1/forwarding")
        );
        for bad in ["", "kernel", "net/../kernel/panic", "net..x", "/net/x", "net/./x"] {
            assert_eq!(path(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn only_what_is_the_pods_own_can_be_set() {
        for name in ["net.core.somaxconn", "kernel.shmmax", "fs.mqueue.msg_max", "kernel.domainname"] {
            assert!(of(Mode::Pod, Mode::Pod, name).is_ok(), "{name}");
        }
        for name in ["kernel.panic", "vm.swappiness", "fs.file-max", "kernel.hostname", "network.x"] {
            let error = of(Mode::Pod, Mode::Pod, name).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("whole node"), "{error}");
        }
        assert!(of(Mode::Node, Mode::Pod, "net.core.somaxconn").unwrap_err().to_string().contains("network"));
        assert!(of(Mode::Node, Mode::Pod, "kernel.domainname").is_err());
        assert!(of(Mode::Pod, Mode::Node, "kernel.sem").unwrap_err().to_string().contains("IPC"));
        assert!(of(Mode::Node, Mode::Pod, "kernel.sem").is_ok());
    }

    #[test]
    fn a_network_of_ones_own_has_defaults_that_can_be_overridden() {
        let plain = Sysctls::of(&config(Mode::Pod, Mode::Pod, Mode::Pod, &[])).unwrap();
        assert_eq!(plain.defaults.len(), 2);
        let asked = of(Mode::Pod, Mode::Pod, "net.ipv4.ip_unprivileged_port_start").unwrap();
        assert_eq!(asked.asked["net/ipv4/ip_unprivileged_port_start"], "1");
        assert_eq!(asked.defaults.keys().collect::<Vec<_>>(), ["net/ipv4/ping_group_range"]);
        let on_node = Sysctls::of(&config(Mode::Node, Mode::Pod, Mode::Pod, &[])).unwrap();
        assert_eq!(on_node, Sysctls::default());
    }
}
