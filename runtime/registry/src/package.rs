//! Names of packages, `ns:pkg@version`, which become references by [wkg's configuration][wkg] and by what a registry says of itself.
//!
//! [wkg]: https://github.com/bytecodealliance/wasm-pkg-tools

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, io};

use oci_spec::distribution::Reference;
use serde::Deserialize;
use ureq::http::Method;
use ureq::http::header::HeaderMap;

use crate::auth::Scope;
use crate::client::{host, read_bounded};
use crate::endpoint::{Call, Target, Use};
use crate::{Error, Options, Registry, file};

/// Where a registry of packages says in which registry of images they are.
const METADATA: &str = "/.well-known/wasm-pkg/registry.json";
/// More than any has.
const MOST_METADATA: u64 = 64 * 1024;

/// A package's name with its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    namespace: String,
    name: String,
    version: String,
}

/// wkg's `config.toml`.
#[derive(Debug, Default, Deserialize)]
struct Config {
    default_registry: Option<String>,
    #[serde(default)]
    namespace_registries: BTreeMap<String, Mapping>,
    #[serde(default)]
    package_registry_overrides: BTreeMap<String, Mapping>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Mapping {
    Registry(String),
    Known { registry: String, metadata: Metadata },
}

/// What a registry of packages is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    oci: Oci,
    // The same by its earlier names.
    oci_registry: Option<String>,
    oci_namespace_prefix: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Oci {
    registry: Option<String>,
    namespace_prefix: Option<String>,
}

impl Package {
    /// Reads `ns:pkg@version`; nothing where a text is no such name, but a reference to an image. Without a version it would be one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (package, version) = text.split_once('@')?;
        let (namespace, name) = package.split_once(':')?;
        let is_version = version.starts_with(|c: char| c.is_ascii_digit())
            && version.split('.').count() >= 3
            && version.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c));
        let whole = is_label(namespace) && is_label(name) && is_version;
        whole.then(|| Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            version: version.to_owned(),
        })
    }

    /// The image that a package is, by the user's configuration of wkg, `$XDG_CONFIG_HOME/wasm-pkg/config.toml` or
    /// `~/.config/wasm-pkg/config.toml`, and by what its registry says of itself.
    ///
    /// # Errors
    /// Where nothing says in which registry it is, or what says it is not what it should be.
    pub fn reference(&self, options: &Options) -> Result<Reference, Error> {
        self.reference_by(&users_configuration().unwrap_or_default(), options)
    }

    /// The same by a configuration in a file, which need not be there.
    ///
    /// # Errors
    /// As those of [`Package::reference`].
    pub fn reference_by(&self, configuration: &Path, options: &Options) -> Result<Reference, Error> {
        let (registry, metadata) = match self.mapping(read(configuration)?)? {
            Mapping::Known { registry, metadata } => (registry, metadata),
            Mapping::Registry(registry) => {
                let metadata = metadata(&registry, options)?;
                (registry, metadata)
            }
        };
        let host = metadata.oci.registry.or(metadata.oci_registry).unwrap_or(registry);
        let prefix = metadata.oci.namespace_prefix.or(metadata.oci_namespace_prefix).unwrap_or_default();
        let text = format!("{host}/{prefix}{}/{}:{}", self.namespace, self.name, self.version);
        text.parse().map_err(|error| Error::Name { name: text, reason: format!("{error}") })
    }

    fn mapping(&self, config: Config) -> Result<Mapping, Error> {
        let package = format!("{}:{}", self.namespace, self.name);
        let own = config.package_registry_overrides.get(&package);
        let own = own.or_else(|| config.namespace_registries.get(&self.namespace)).cloned();
        let found = own.or(config.default_registry.map(Mapping::Registry));
        found.ok_or_else(|| Error::Package { package, namespace: self.namespace.clone() })
    }
}

/// A word of the component model: lower case, with single hyphens.
fn is_label(text: &str) -> bool {
    text.split('-').all(|word| {
        word.starts_with(|c: char| c.is_ascii_lowercase())
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
    })
}

fn users_configuration() -> Option<PathBuf> {
    let folder = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = folder("XDG_CONFIG_HOME").or_else(|| folder("HOME").map(|home| home.join(".config")));
    folder.map(|folder| folder.join("wasm-pkg/config.toml"))
}

fn read(path: &Path) -> Result<Config, Error> {
    let wrong = |reason: String| Error::Configuration { path: path.to_path_buf(), reason };
    match file::read_text(path) {
        Ok(text) => toml::from_str(&text).map_err(|error| wrong(error.message().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Config::default()),
        Err(error) => Err(wrong(error.to_string())),
    }
}

/// What a registry says of itself; one that says nothing has the images itself.
fn metadata(registry: &str, options: &Options) -> Result<Metadata, Error> {
    let what = "where its packages are";
    let registry = Registry::at(registry, &Options { certs_d: None, ..options.clone() })?;
    let found = registry.with(Use::Resolve, &Cell::new(0), |endpoint| {
        let mut answer = endpoint.send(&Call {
            method: Method::GET,
            target: Target::Url(endpoint.at(METADATA)),
            headers: HeaderMap::new(),
            body: None,
            scope: &Scope::default(),
            what,
        })?;
        let body = read_bounded(&mut answer.response, MOST_METADATA).unwrap_or_default();
        serde_json::from_slice(&body).map_err(|_| Error::Answer {
            host: host(&answer.url),
            what: what.to_owned(),
            found: "something else".to_owned(),
            expected: format!("the JSON of {METADATA}"),
        })
    });
    match found {
        Err(Error::NotFound { .. }) => Ok(Metadata::default()),
        found => found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_with_a_version_are_packages() {
        for text in ["wasi:http@0.2.0", "a-b:c1-d@1.2.3-rc.1"] {
            assert!(Package::parse(text).is_some(), "{text}");
        }
        for text in [
            "busybox:latest",
            "a:b",
            "a:b@1",
            "r.example/a:b@1.2.3",
            "A:b@1.2.3",
            "a-:b@1.2.3",
            "a:b@sha256:0.0.0",
            ":@1.2.3",
            "a:b@1.2.3/x",
            "a:1b@1.2.3",
            "",
            "@",
            "a:b:c@1.2.3",
            "ä:b@1.2.3",
        ] {
            assert_eq!(Package::parse(text), None, "{text}");
        }
    }
}
