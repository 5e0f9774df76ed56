//! What the administrator set for the runtime in containerd's configuration, in either of the two forms in which it comes:
//! runc's own message (`containerd.runc.v1.Options`), or the generic one (`runtimeoptions.v1.Options`), which holds TOML.

use std::path::PathBuf;

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{CodedInputStream, Message, rt::WireType};
use containerd_shim_protos::shim::oci;
use serde::Deserialize;

use crate::error::{Context, Error, Result};

/// The options, by the names that they have in containerd's configuration. What is not known is ignored.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Options {
    /// The runtime to use for native containers in place of `runc`, a path or a name on the `PATH`.
    pub binary_name: String,
    /// Where the runtimes keep their state; the namespace is added to it.
    pub root: PathBuf,
    /// Whether cgroups are made by systemd; the form of the cgroup's path says so too.
    pub systemd_cgroup: bool,
    /// A cgroup for the shim itself.
    pub shim_cgroup: String,
    /// Owner of the pipes of a container's stdio, for containers with a user namespace.
    pub io_uid: u32,
    /// Group of those pipes.
    pub io_gid: u32,
    /// Leave the old root by `chroot` in place of `pivot_root`, for root file systems in memory.
    pub no_pivot_root: bool,
    /// Use the caller's session keyring.
    pub no_new_keyring: bool,
}

impl Options {
    /// Whether a message of this type holds options.
    pub(crate) fn knows(type_url: &str) -> bool {
        matches!(
            type_url.rsplit('/').next(),
            Some("containerd.runc.v1.Options" | "runtimeoptions.v1.Options")
        )
    }

    /// Reads the options of a request.
    ///
    /// # Errors
    /// The message is of another type, or is not well formed.
    pub(crate) fn decode(any: &Any) -> Result<Self> {
        let name = any.type_url.rsplit('/').next().unwrap_or_default();
        match name {
            _ if any.value.is_empty() => Ok(Self::default()),
            "containerd.runc.v1.Options" => oci::Options::parse_from_bytes(&any.value)
                .map(Self::from)
                .map_err(|error| malformed(name, error)),
            "runtimeoptions.v1.Options" => Self::generic(&any.value),
            other => Err(Error::invalid_argument(format!(
                "runtime options of type {other} are not known; containerd.runc.v1.Options or runtimeoptions.v1.Options were expected"
            ))),
        }
    }

    /// `runtimeoptions.v1.Options`: 1 a type's name, 2 a file's path, 3 the file's content.
    fn generic(message: &[u8]) -> Result<Self> {
        const NAME: &str = "runtimeoptions.v1.Options";
        let (path, body) = path_and_body(message).map_err(|error| malformed(NAME, error))?;
        let text = if body.is_empty() && !path.is_empty() {
            std::fs::read(&path).context(|| format!("reading the runtime's ConfigPath {path}"))?
        } else {
            body
        };
        let text = String::from_utf8(text).map_err(|error| malformed(NAME, error))?;
        toml::from_str(&text).map_err(|error| malformed(NAME, error.message()))
    }
}

fn malformed(name: &str, error: impl std::fmt::Display) -> Error {
    Error::invalid_argument(format!("the runtime options ({name}) are not well formed: {error}"))
}

fn path_and_body(message: &[u8]) -> containerd_shim_protos::protobuf::Result<(String, Vec<u8>)> {
    let (mut path, mut body) = (String::new(), Vec::new());
    let mut input = CodedInputStream::from_bytes(message);
    while let Some(tag) = input.read_raw_tag_or_eof()? {
        match tag {
            18 => path = input.read_string()?,
            26 => body = input.read_bytes()?,
            other => input.skip_field(WireType::new(other & 7).unwrap_or(WireType::Varint))?,
        }
    }
    Ok((path, body))
}

impl From<oci::Options> for Options {
    fn from(options: oci::Options) -> Self {
        Self {
            binary_name: options.binary_name,
            root: options.root.into(),
            systemd_cgroup: options.systemd_cgroup,
            shim_cgroup: options.shim_cgroup,
            io_uid: options.io_uid,
            io_gid: options.io_gid,
            no_pivot_root: options.no_pivot_root,
            no_new_keyring: options.no_new_keyring,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(name: &str, value: Vec<u8>) -> Any {
        Any { type_url: name.to_owned(), value, ..Any::default() }
    }

    #[test]
    fn both_forms_of_options_say_the_same() {
        let runc = oci::Options { systemd_cgroup: true, root: "/r".to_owned(), ..oci::Options::default() };
        let runc =
            Options::decode(&any("containerd.runc.v1.Options", runc.write_to_bytes().unwrap())).unwrap();
        let toml = b"SystemdCgroup = true\nRoot = \"/r\"\nSomethingNew = 3\n";
        let mut message = vec![10, 1, b'x', 26, u8::try_from(toml.len()).unwrap()];
        message.extend_from_slice(toml);
        assert_eq!(Options::decode(&any("runtimeoptions.v1.Options", message)).unwrap(), runc);
        assert!(runc.systemd_cgroup);
        assert_eq!(Options::decode(&Any::default()).unwrap(), Options::default());
    }

    #[test]
    fn options_of_another_type_are_refused_with_their_name() {
        let error = Options::decode(&any("example.Options", vec![1])).unwrap_err();
        assert!(error.to_string().contains("example.Options"), "{error}");
        let error =
            Options::decode(&any("runtimeoptions.v1.Options", vec![26, 3, b'a', b'=', b'='])).unwrap_err();
        assert!(error.to_string().contains("not well formed"), "{error}");
    }
}
