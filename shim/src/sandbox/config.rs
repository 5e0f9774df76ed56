//! The parts of CRI's `PodSandboxConfig` that the shim reads. See `runtime/v1/api.proto` of k8s.io/cri-api for the numbers.

use std::collections::BTreeMap;

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use prost::Message;

use crate::error::{Error, Result};

/// The type's name in containerd's `Any`.
const NAME: &str = "runtime.v1.PodSandboxConfig";

/// A pod's configuration. What is absent has protocol buffers' defaults, and so it means: all namespaces are the pod's.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PodConfig {
    /// The pod's host name; empty on the node's network.
    #[prost(string, tag = "2")]
    pub hostname: String,
    /// What `/etc/resolv.conf` is to say; absent: what the node's says.
    #[prost(message, optional, tag = "4")]
    pub dns: Option<Dns>,
    #[prost(message, optional, tag = "8")]
    linux: Option<Linux>,
}

/// See [`PodConfig::dns`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Dns {
    /// Addresses of name servers.
    #[prost(string, repeated, tag = "1")]
    pub servers: Vec<String>,
    /// Domains to search.
    #[prost(string, repeated, tag = "2")]
    pub searches: Vec<String>,
    /// Options of the resolver.
    #[prost(string, repeated, tag = "3")]
    pub options: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Linux {
    #[prost(string, tag = "1")]
    cgroup_parent: String,
    #[prost(message, optional, tag = "2")]
    security_context: Option<SecurityContext>,
    #[prost(btree_map = "string, string", tag = "3")]
    sysctls: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
struct SecurityContext {
    #[prost(message, optional, tag = "1")]
    namespace_options: Option<NamespaceOptions>,
}

#[derive(Clone, PartialEq, Message)]
struct NamespaceOptions {
    #[prost(enumeration = "Mode", tag = "1")]
    network: i32,
    #[prost(enumeration = "Mode", tag = "2")]
    pid: i32,
    #[prost(enumeration = "Mode", tag = "3")]
    ipc: i32,
    #[prost(message, optional, tag = "5")]
    user: Option<UserNamespace>,
}

#[derive(Clone, PartialEq, Message)]
struct UserNamespace {
    #[prost(enumeration = "Mode", tag = "1")]
    mode: i32,
}

/// Whose a namespace is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Mode {
    /// The pod's.
    Pod = 0,
    /// Each container's own.
    Container = 1,
    /// The node's.
    Node = 2,
    /// That of another container.
    Target = 3,
}

impl PodConfig {
    /// Reads the options of `CreateSandbox`. A client that is not CRI sends none: its containers share no processes, and are
    /// in the network namespace that the client names, if it names one.
    ///
    /// # Errors
    /// The message is of another type, or is not well formed.
    pub(crate) fn decode(any: Option<&Any>, network: &str) -> Result<Self> {
        let Some(any) = any.filter(|any| !any.type_url.is_empty()) else {
            return Ok(Self::without_cri(if network.is_empty() { Mode::Node } else { Mode::Pod }));
        };
        match any.type_url.rsplit('/').next() {
            Some(NAME) => Self::decode_message(&any.value),
            _ => Err(Error::invalid_argument(format!(
                "the sandbox's options are of type {}; {NAME} was expected",
                any.type_url
            ))),
        }
    }

    fn decode_message(bytes: &[u8]) -> Result<Self> {
        <Self as Message>::decode(bytes).map_err(|error| {
            Error::invalid_argument(format!("the sandbox's options ({NAME}) are not well formed: {error}"))
        })
    }

    fn without_cri(network: Mode) -> Self {
        let options = NamespaceOptions {
            network: network.into(),
            pid: Mode::Container.into(),
            ..NamespaceOptions::default()
        };
        let security_context = SecurityContext { namespace_options: Some(options) };
        let linux = Linux { security_context: Some(security_context), ..Linux::default() };
        Self { linux: Some(linux), ..Self::default() }
    }

    fn namespaces(&self) -> Option<&NamespaceOptions> {
        self.linux.as_ref()?.security_context.as_ref()?.namespace_options.as_ref()
    }

    /// Whose network the pod has.
    pub(crate) fn network(&self) -> Mode {
        self.namespaces().map_or(Mode::Pod, NamespaceOptions::network)
    }

    /// Whose processes its containers see.
    pub(crate) fn pid(&self) -> Mode {
        self.namespaces().map_or(Mode::Pod, NamespaceOptions::pid)
    }

    /// Whose System V IPC and POSIX message queues they use.
    pub(crate) fn ipc(&self) -> Mode {
        self.namespaces().map_or(Mode::Pod, NamespaceOptions::ipc)
    }

    /// Whether the pod is to have a user namespace.
    pub(crate) fn has_user_namespace(&self) -> bool {
        let user = self.namespaces().and_then(|namespaces| namespaces.user.as_ref());
        user.is_some_and(|user| user.mode() == Mode::Pod)
    }

    /// The pod's cgroup: a path, or a slice of systemd; empty where the client gives the pod none.
    pub(crate) fn cgroup_parent(&self) -> &str {
        self.linux.as_ref().map_or("", |linux| &linux.cgroup_parent)
    }

    /// The kernel parameters that are asked for, by their names.
    pub(crate) fn sysctls(&self) -> BTreeMap<String, String> {
        self.linux.as_ref().map(|linux| linux.sysctls.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A configuration with these namespaces and sysctls.
    pub(crate) fn config(network: Mode, pid: Mode, ipc: Mode, sysctls: &[(&str, &str)]) -> PodConfig {
        let options =
            NamespaceOptions { network: network.into(), pid: pid.into(), ipc: ipc.into(), user: None };
        PodConfig {
            hostname: "pod".to_owned(),
            linux: Some(Linux {
                security_context: Some(SecurityContext { namespace_options: Some(options) }),
                sysctls: sysctls.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
                ..Linux::default()
            }),
            ..PodConfig::default()
        }
    }

    #[test]
    fn a_pods_configuration_is_read_as_cri_writes_it() {
        let expected = config(Mode::Node, Mode::Container, Mode::Pod, &[("net.core.somaxconn", "9")]);
        let mut bytes = expected.encode_to_vec();
        // Field 7, annotations, which the shim does not read.
        bytes.extend_from_slice(&[58, 6, 10, 1, b'a', 18, 1, b'b']);
        let any = Any { type_url: NAME.to_owned(), value: bytes, ..Any::default() };
        let read = PodConfig::decode(Some(&any), "").unwrap();
        assert_eq!(read, expected);
        assert_eq!((read.network(), read.pid(), read.ipc()), (Mode::Node, Mode::Container, Mode::Pod));
        assert!(!read.has_user_namespace(), "what is absent is not asked for");
    }

    #[test]
    fn what_is_not_said_is_the_pods() {
        let any = Any { type_url: NAME.to_owned(), ..Any::default() };
        let read = PodConfig::decode(Some(&any), "/ns").unwrap();
        assert_eq!((read.network(), read.pid(), read.ipc()), (Mode::Pod, Mode::Pod, Mode::Pod));
    }

    #[test]
    fn clients_other_than_cri_share_no_processes_and_name_a_network_or_none() {
        for (network, mode) in [("/ns", Mode::Pod), ("", Mode::Node)] {
            let config = PodConfig::decode(None, network).unwrap();
            assert_eq!((config.network(), config.pid()), (mode, Mode::Container));
        }
    }

    #[test]
    fn options_of_another_type_or_form_are_refused() {
        let other = Any { type_url: "example.Pod".to_owned(), value: vec![1], ..Any::default() };
        assert!(PodConfig::decode(Some(&other), "").unwrap_err().to_string().contains("example.Pod"));
        let broken = Any { type_url: NAME.to_owned(), value: vec![18, 200], ..Any::default() };
        assert!(PodConfig::decode(Some(&broken), "").unwrap_err().to_string().contains("not well formed"));
    }
}
