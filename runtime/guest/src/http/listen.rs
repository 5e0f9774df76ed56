//! The service's port.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use anyhow::{Context, Result, anyhow};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};

/// Where a service listens unless its environment says otherwise.
const PORT: u16 = 8080;
/// Connections that wait in the kernel; it takes fewer where `net.core.somaxconn` is lower.
const BACKLOG: i32 = 4096;

/// A port that is this process's, and on which nobody can connect yet.
pub(crate) struct Port(std::os::fd::OwnedFd);

impl Port {
    /// From here on clients can connect.
    pub(crate) fn listen(self) -> std::io::Result<TcpListener> {
        rustix::net::listen(&self.0, BACKLOG)?;
        Ok(self.0.into())
    }
}

/// Opens `PORT` of the guest's environment, or 8080, on one address or on all: IPv6 and IPv4 by one socket, or IPv4 alone on a
/// host without IPv6.
pub(crate) fn open(env: &[(String, String)], address: Option<IpAddr>) -> Result<Port> {
    let port = match env.iter().find(|(name, _)| name == "PORT") {
        Some((_, text)) => text.parse().ok().filter(|port| *port != 0).with_context(|| {
            format!("the environment says PORT={text}; a number from 1 to 65535 was expected")
        })?,
        None => PORT,
    };
    let opened = match address {
        Some(address) => open_on((address, port).into()),
        None => match open_on((Ipv6Addr::UNSPECIFIED, port).into()) {
            Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => open_on((Ipv4Addr::UNSPECIFIED, port).into()),
            opened => opened,
        },
    };
    opened.map(Port).map_err(|error| match error {
        Errno::ADDRINUSE => {
            anyhow!("port {port} is taken by another process of this pod; set another one with PORT in the environment")
        }
        Errno::ACCESS => anyhow!(
            "port {port} is for privileged processes here; set a port from 1024 with PORT in the environment, or give the \
             container NET_BIND_SERVICE"
        ),
        Errno::ADDRNOTAVAIL => anyhow!(
            "{} is not an address of this machine; one of its own was expected",
            address.unwrap_or(Ipv4Addr::UNSPECIFIED.into())
        ),
        error => anyhow!("port {port} cannot be opened: {error}"),
    })
}

fn open_on(address: SocketAddr) -> Result<std::os::fd::OwnedFd, Errno> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    // Connections of a predecessor that are closing do not keep the port.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    bind(&socket, &address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_none_is_refused_with_what_was_found() {
        for wrong in ["http", "0", "70000", ""] {
            let error = open(&[("PORT".into(), wrong.into())], None).err().unwrap();
            assert!(error.to_string().contains(&format!("PORT={wrong};")), "{error}");
        }
    }
}
