//! containerd's `certs.d`: for each registry a folder with `hosts.toml`, which says by what addresses it is reached.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use url::Url;

use crate::tls::Identity;
use crate::{Error, file};

/// The registry that names without a host are of, as they stand in references, and its server.
const HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// One address of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// Up to the repository's name, without a slash at its end: `https://registry.example/v2`.
    pub(crate) base: Url,
    /// Names are resolved and manifests pulled here.
    pub(crate) resolve: bool,
    /// Blobs are pulled here.
    pub(crate) pull: bool,
    /// Everything is pushed here.
    pub(crate) push: bool,
    /// PEM files of authorities that are trusted.
    pub(crate) ca: Vec<PathBuf>,
    /// What the registry is shown that asks who its client is.
    pub(crate) client: Option<Identity>,
    /// Whether the certificate is taken as it is.
    pub(crate) skip_verify: bool,
    /// What is sent along with each request.
    pub(crate) headers: Vec<(String, String)>,
}

#[derive(Debug, Default, Deserialize)]
struct File {
    server: Option<String>,
    #[serde(flatten)]
    own: Host,
    #[serde(default)]
    host: BTreeMap<String, Spanned<Host>>,
}

#[derive(Debug, Default, Deserialize)]
struct Host {
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMore>,
    client: Option<Client>,
    skip_verify: Option<bool>,
    #[serde(default)]
    header: BTreeMap<String, OneOrMore>,
    #[serde(default)]
    override_path: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

/// A file, or a list of files and of pairs of them.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Client {
    One(String),
    More(Vec<OneOrMore>),
}

impl Client {
    /// The one certificate that is shown; no registry could be shown several.
    fn identity(self, folder: &Path) -> Result<Identity, String> {
        let files = match self {
            Self::One(file) => vec![file],
            Self::More(mut list) if list.len() == 1 => list.remove(0).into_vec(),
            Self::More(list) => {
                return Err(format!("client names {} certificates, expected one", list.len()));
            }
        };
        let (certificate, key) = match files.as_slice() {
            [both] => (both, both),
            // As containerd has it, a key without a name is in the certificate's file.
            [certificate, key] if key.is_empty() => (certificate, certificate),
            [certificate, key] => (certificate, key),
            _ => return Err("client is expected to be a file, or [[CERTIFICATE, KEY]]".to_owned()),
        };
        Ok(Identity { certificate: folder.join(certificate), key: folder.join(key) })
    }
}

impl OneOrMore {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one],
            Self::More(more) => more,
        }
    }
}

/// Where a registry is when nothing else says it: `https://registry.example`.
pub(crate) fn server(name: &str) -> String {
    format!("https://{}", if name == HUB.0 { HUB.1 } else { name })
}

/// The addresses of a registry in the order in which they are tried, by the first file that there is for its name; none where
/// there is no file.
///
/// # Errors
/// Where a file is not what it should be.
pub(crate) fn addresses(folder: &Path, name: &str) -> Result<Option<Vec<Address>>, Error> {
    for directory in directories(name) {
        let path = folder.join(directory).join("hosts.toml");
        match file::read_text(&path) {
            Ok(text) => {
                return parse(&text, name, &path)
                    .map(Some)
                    .map_err(|reason| Error::Configuration { path, reason });
            }
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(error) => return Err(Error::Configuration { path, reason: error.to_string() }),
        }
    }
    Ok(None)
}

/// The folders that a registry's file may be in, as containerd looks for them.
fn directories(name: &str) -> Vec<String> {
    let mut all = vec![name.to_owned()];
    if let Some((host, port)) = name.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()) {
        all.push(format!("{host}_{port}_"));
    }
    all.push("_default".to_owned());
    all
}

fn parse(text: &str, name: &str, path: &Path) -> Result<Vec<Address>, String> {
    let File { server, own, host } = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    let mut hosts: Vec<_> = host.into_iter().collect();
    hosts.sort_by_key(|(_, host)| host.span().start);
    let folder = path.parent().unwrap_or(path);
    let mut all = Vec::new();
    for (address, host) in hosts {
        all.push(resolve(&address, host.into_inner(), folder)?);
    }
    let server = server.unwrap_or_else(|| self::server(name));
    all.push(resolve(&server, own, folder)?);
    Ok(all)
}

fn resolve(address: &str, host: Host, folder: &Path) -> Result<Address, String> {
    let with_scheme = if address.contains("://") { address.to_owned() } else { format!("https://{address}") };
    let mut base = Url::parse(&with_scheme)
        .ok()
        .filter(|url| url.has_host() && matches!(url.scheme(), "http" | "https"))
        .ok_or_else(|| format!("{address:?} is no address of a host, expected https://HOST"))?;
    let path = base.path().trim_end_matches('/').to_owned();
    base.set_path(&if host.override_path || path.ends_with("/v2") { path } else { path + "/v2" });
    let may = |what: &str| host.capabilities.as_ref().is_none_or(|all| all.iter().any(|one| one == what));
    Ok(Address {
        resolve: may("resolve"),
        pull: may("pull"),
        push: may("push"),
        ca: host.ca.into_iter().flat_map(OneOrMore::into_vec).map(|file| folder.join(file)).collect(),
        client: host.client.map(|client| client.identity(folder)).transpose()?,
        skip_verify: host.skip_verify.unwrap_or(false),
        headers: host
            .header
            .into_iter()
            .flat_map(|(name, values)| values.into_vec().into_iter().map(move |value| (name.clone(), value)))
            .collect(),
        base,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(name: &str, directory: &str, text: &str) -> Result<Option<Vec<Address>>, Error> {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join(directory)).unwrap();
        fs::write(folder.path().join(directory).join("hosts.toml"), text).unwrap();
        addresses(folder.path(), name)
    }

    #[test]
    fn mirrors_come_in_the_files_order_and_the_server_last() {
        let text = r#"
            server = "https://registry.example"
            [host."https://z.example/cache"]
            capabilities = ["pull", "resolve"]
            ca = "z.crt"
            [host."http://a.example:5000/proxy/v2/"]
            skip_verify = true
            header = { x-key = ["1", "2"], y = "3" }
            [host."m.example/whole"]
            override_path = true
        "#;
        let all = read("registry.example", "registry.example", text).unwrap().unwrap();
        let bases: Vec<_> = all.iter().map(|one| one.base.as_str()).collect();
        assert_eq!(
            bases,
            [
                "https://z.example/cache/v2",
                "http://a.example:5000/proxy/v2",
                "https://m.example/whole",
                "https://registry.example/v2"
            ]
        );
        assert!(all[0].pull && all[0].resolve && !all[0].push && all[3].push);
        assert!(all[0].ca[0].ends_with("registry.example/z.crt") && all[0].ca[0].is_absolute());
        assert!(all[1].skip_verify && !all[0].skip_verify);
        assert_eq!(all[1].headers.len(), 3);
    }

    #[test]
    fn a_clients_certificate_is_in_one_file_or_two() {
        for (client, certificate, key) in [
            ("\"c.pem\"", "c.pem", "c.pem"),
            ("[\"c.pem\"]", "c.pem", "c.pem"),
            ("[[\"c.pem\", \"\"]]", "c.pem", "c.pem"),
            ("[[\"c.pem\", \"/keys/c.key\"]]", "c.pem", "/keys/c.key"),
        ] {
            let all = read("r.example", "r.example", &format!("client = {client}")).unwrap().unwrap();
            let found = all[0].client.as_ref().unwrap();
            assert!(found.certificate.is_absolute() && found.certificate.ends_with(certificate), "{client}");
            assert!(found.key.is_absolute() && found.key.ends_with(key), "{client}");
        }
    }

    #[test]
    fn a_folder_is_found_by_host_and_port_or_is_everyones() {
        for directory in ["registry.example:5000", "registry.example_5000_", "_default"] {
            let all = read("registry.example:5000", directory, "").unwrap().unwrap();
            assert_eq!(all[0].base.as_str(), "https://registry.example:5000/v2", "{directory}");
        }
        assert_eq!(read("registry.example:5000", "registry.example", "").unwrap(), None);
    }

    #[test]
    fn what_is_no_such_file_is_refused_with_its_name() {
        for text in [
            "server = 1",
            "[host.\"ftp://x\"]",
            "server = \"https://\"",
            "client = [\"a\", \"b\"]",
            "client = 1",
            "= =",
        ] {
            let error = read("r.example", "_default", text).unwrap_err().to_string();
            assert!(error.contains("_default/hosts.toml: "), "{text}: {error}");
        }
    }
}
