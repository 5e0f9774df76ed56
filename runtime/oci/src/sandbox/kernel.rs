//! What is set in the kernel for a container's new namespaces: host name, sysctls, the loopback device.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, ensure};
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::namespaces::Namespaces;

/// Sets everything that `spec` asks for in the namespaces that this process is in.
///
/// # Errors
/// With what could not be set.
pub fn prepare(spec: &Spec, namespaces: &Namespaces) -> Result<()> {
    if namespaces.new_network() {
        loopback_up().context("the loopback device")?;
    }
    if let Some(name) = spec.hostname() {
        ensure!(
            namespaces.own_uts(),
            "a hostname is set without a uts namespace; it would change the node's name"
        );
        rustix::system::sethostname(name.as_bytes()).with_context(|| format!("the hostname {name:?}"))?;
    }
    if let Some(name) = spec.domainname() {
        ensure!(
            namespaces.own_uts(),
            "a domainname is set without a uts namespace; it would change the node's name"
        );
        set_domain_name(name).with_context(|| format!("the domainname {name:?}"))?;
    }
    let linux = spec.linux().as_ref();
    for (key, value) in linux.iter().flat_map(|linux| linux.sysctl().iter().flatten()) {
        allowed(spec, key)?;
        let path = format!("/proc/sys/{}", sysctl_path(key));
        fs::write(&path, value).with_context(|| format!("the sysctl {key} cannot be set to {value:?}"))?;
    }
    Ok(())
}

/// `net.ipv4.ip_forward` as a path; with a slash in it, as sysctl(8) has it, dots are part of a name.
fn sysctl_path(key: &str) -> String {
    if key.contains('/') { key.to_owned() } else { key.replace('.', "/") }
}

/// Refuses a sysctl that is the node's, not a namespace's, with runc's list.
fn allowed(spec: &Spec, key: &str) -> Result<()> {
    let own = |typ: LinuxNamespaceType| {
        let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
        namespaces.into_iter().flatten().any(|namespace| namespace.typ() == typ)
    };
    let dotted = key.replace('/', ".");
    ensure!(!dotted.contains(".."), "the sysctl {key:?} is not a name");
    let ipc =
        ["kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax"];
    let ipc = ipc.contains(&dotted.as_str())
        || dotted == "kernel.shmmni"
        || dotted == "kernel.shm_rmid_forced"
        || dotted.starts_with("fs.mqueue.");
    let namespaced = (ipc && own(LinuxNamespaceType::Ipc))
        || (dotted.starts_with("net.") && own(LinuxNamespaceType::Network))
        || (dotted == "kernel.domainname" && own(LinuxNamespaceType::Uts));
    ensure!(
        namespaced,
        "the sysctl {key:?} is not in a namespace of this container's own and would change the node's"
    );
    Ok(())
}

fn set_domain_name(name: &str) -> io::Result<()> {
    // SAFETY: the pointer and length are those of `name`.
    match unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn loopback_up() -> io::Result<()> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: `ifreq` is plain data, for which zeroes are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    #[allow(clippy::cast_possible_truncation, reason = "the kernel's flags fit its own field")]
    {
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    }
    // SAFETY: the request is a valid ifreq with a name and flags, as SIOCSIFFLAGS takes it.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sysctl_of_the_nodes_is_refused() {
        let spec: Spec = serde_json::from_str(
            r#"{"ociVersion":"1.0.2","linux":{"namespaces":[{"type":"network"},{"type":"ipc"}]}}"#,
        )
        .unwrap();
        for key in
            ["net.ipv4.ip_forward", "net/ipv4/conf/eth0.1/forwarding", "kernel.shmmax", "fs.mqueue.msg_max"]
        {
            allowed(&spec, key).unwrap();
        }
        for key in ["kernel.core_pattern", "vm.swappiness", "net/../kernel/core_pattern", "kernel.domainname"]
        {
            allowed(&spec, key).unwrap_err();
        }
    }

    #[test]
    fn dots_are_folders_unless_slashes_are() {
        assert_eq!(sysctl_path("net.ipv4.ip_forward"), "net/ipv4/ip_forward");
        assert_eq!(sysctl_path("net/ipv4/conf/eth0.1/forwarding"), "net/ipv4/conf/eth0.1/forwarding");
    }
}
