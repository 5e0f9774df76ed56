//! Registries over TLS, with certificates made for the test: whom the client believes, and what it shows of itself.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use oci_spec::distribution::Reference;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use wisp_registry::{Options, Registry};

use crate::client::{descriptor, options};
use crate::server::{Reply, Server};

/// An authority of the test's own.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate that it signed, with its key.
struct Signed {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn sign(&self, name: &str, purpose: ExtendedKeyUsagePurpose) -> Signed {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.extended_key_usages = vec![purpose];
        Signed { certificate: params.signed_by(&key, &self.0).unwrap(), key }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        Arc::new(roots)
    }

    /// A server with a certificate for this name, which wants to see one that `clients` has signed.
    fn server(&self, name: &str, clients: Option<&Self>) -> ServerConfig {
        let Signed { certificate, key } = self.sign(name, ExtendedKeyUsagePurpose::ServerAuth);
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(clients.roots(), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        builder.with_single_cert(vec![certificate.der().clone()], key.into()).unwrap()
    }
}

/// `certs.d` that says this of `registry.invalid`, with files beside it; and a blob pulled by it.
fn pulled(hosts: &str, files: &[(&str, String)]) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let of_registry = folder.path().join("registry.invalid");
    fs::create_dir_all(&of_registry).unwrap();
    fs::write(of_registry.join("hosts.toml"), hosts).unwrap();
    for (name, text) in files {
        fs::write(of_registry.join(name), text).unwrap();
    }
    pull("registry.invalid/team/app:1", &Options { certs_d: Some(folder.path().to_path_buf()), ..options() })
}

fn pull(name: &str, options: &Options) -> Result<(), String> {
    let app: Reference = name.parse().unwrap();
    let registry = Registry::of(&app, options).map_err(|error| error.to_string())?;
    registry.blob(&app, &descriptor(b"content"), &mut Vec::new()).map_err(|error| error.to_string())
}

fn with_ca(folder: &Path, authority: &Authority) -> Options {
    let ca = folder.join("ca.pem");
    fs::write(&ca, authority.0.pem()).unwrap();
    Options { ca: Some(ca), ..options() }
}

#[test]
fn a_registry_is_believed_by_the_authority_that_is_named() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let server = Server::with_tls(authority.server("127.0.0.1", None), |_, _| Reply::ok(b"content"));
    let hosts = format!("server = \"{}\"\n", server.url());
    pulled(&format!("{hosts}ca = \"ca.pem\"\n"), &[("ca.pem", authority.0.pem())]).unwrap();
    pull(&format!("{}/team/app:1", server.name()), &with_ca(folder.path(), &authority)).unwrap();
    let refused = pulled(&hosts, &[]).unwrap_err();
    assert!(refused.contains("UnknownIssuer") && refused.ends_with("with --ca FILE"), "{refused}");
    pulled(&format!("{hosts}skip_verify = true\n"), &[]).unwrap();
    assert_eq!(server.seen().len(), 3);
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let server = Server::with_tls(authority.server("other.invalid", None), |_, _| Reply::ok(b"content"));
    let refused = pull(&format!("{}/team/app:1", server.name()), &with_ca(folder.path(), &authority));
    let refused = refused.unwrap_err();
    assert!(refused.ends_with("call the registry by a name that its certificate is for"), "{refused}");
    assert!(server.seen().is_empty());
}

#[test]
fn a_registry_that_asks_who_its_client_is_is_shown_the_certificate_of_hosts_toml() {
    let authority = Authority::new();
    let config = authority.server("127.0.0.1", Some(&authority));
    let server = Server::with_tls(config, |_, _| Reply::ok(b"content"));
    let hosts = format!("server = \"{}\"\nca = \"ca.pem\"\n", server.url());
    let Signed { certificate, key } = authority.sign("ada", ExtendedKeyUsagePurpose::ClientAuth);
    let files = [
        ("ca.pem", authority.0.pem()),
        ("client.pem", certificate.pem()),
        ("client.key", key.serialize_pem()),
        ("both.pem", certificate.pem() + &key.serialize_pem()),
    ];
    for client in ["[[\"client.pem\", \"client.key\"]]", "\"both.pem\""] {
        pulled(&format!("{hosts}client = {client}\n"), &files).unwrap();
    }
    let refused = pulled(&hosts, &files).unwrap_err();
    assert!(refused.contains("wants a certificate of its clients"), "{refused}");
    let refused = pulled(&format!("{hosts}client = \"client.pem\"\n"), &files).unwrap_err();
    assert!(refused.contains("client.pem: there is no private key in it"), "{refused}");
    assert_eq!(server.seen().len(), 2);
}

#[test]
fn where_a_registry_redirects_to_no_certificate_is_shown() {
    let authority = Authority::new();
    let store =
        Server::with_tls(authority.server("127.0.0.1", Some(&authority)), |_, _| Reply::ok(b"content"));
    let to = format!("{}/blob", store.url());
    let config = authority.server("127.0.0.1", Some(&authority));
    let server = Server::with_tls(config, move |_, _| Reply::redirect(&to));
    let Signed { certificate, key } = authority.sign("ada", ExtendedKeyUsagePurpose::ClientAuth);
    let hosts = format!("server = \"{}\"\nca = \"ca.pem\"\nclient = \"both.pem\"\n", server.url());
    let files = [("ca.pem", authority.0.pem()), ("both.pem", certificate.pem() + &key.serialize_pem())];
    let refused = pulled(&hosts, &files).unwrap_err();
    assert!(refused.starts_with(&format!("{} wants a certificate", store.name())), "{refused}");
    assert_eq!((server.seen().len(), store.seen().len()), (1, 0));
}
