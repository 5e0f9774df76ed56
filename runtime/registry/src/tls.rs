//! Which certificates are trusted, and which is shown: Mozilla's, the system's (or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`), and named ones.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::CertificateError;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use crate::{Error, file};

/// A client's certificate and its key, which may be in the same PEM file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// Who is trusted further, and what is shown to whom asks for it.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    authorities: Vec<Certificate<'static>>,
    client: Option<ClientCert>,
}

impl Named {
    /// Reads authorities from PEM files, and a certificate with its key.
    ///
    /// # Errors
    /// Where a file cannot be read or holds no certificate, or none of its key.
    pub(crate) fn read(authorities: &[PathBuf], identity: Option<&Identity>) -> Result<Self, Error> {
        let mut named = Self { authorities: Vec::new(), client: identity.map(shown).transpose()? };
        for path in authorities {
            named.authorities.extend(certificates(path)?);
        }
        Ok(named)
    }

    /// TLS that trusts these beside the usual ones, which may take a while to read, or anybody.
    pub(crate) fn config(self, skip_verify: bool) -> TlsConfig {
        let roots = usual().iter().cloned().chain(self.authorities).collect();
        TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(roots)))
            .disable_verification(skip_verify)
            .client_cert(self.client)
            .build()
    }
}

/// What is to be done about a certificate that is not accepted.
pub(crate) fn cure(error: &rustls::Error) -> &'static str {
    use CertificateError as Why;
    match error {
        rustls::Error::InvalidCertificate(Why::NotValidForName | Why::NotValidForNameContext { .. }) => {
            "call the registry by a name that its certificate is for"
        }
        rustls::Error::InvalidCertificate(Why::Expired | Why::ExpiredContext { .. }) => {
            "ask who runs the registry for a new one"
        }
        _ => "name the certificate authority that signed it with --ca FILE",
    }
}

fn shown(identity: &Identity) -> Result<ClientCert, Error> {
    let chain = certificates(&identity.certificate)?;
    let key = items(&identity.key)?.into_iter().find_map(|item| match item {
        PemItem::PrivateKey(key) => Some(key),
        _ => None,
    });
    let key: PrivateKey<'static> = key.ok_or_else(|| Error::Configuration {
        path: identity.key.clone(),
        reason: "there is no private key in it, expected PEM".to_owned(),
    })?;
    Ok(ClientCert::new_with_certs(&chain, key))
}

/// What is trusted without being named, read once.
fn usual() -> &'static Vec<Certificate<'static>> {
    static USUAL: OnceLock<Vec<Certificate<'static>>> = OnceLock::new();
    USUAL.get_or_init(|| {
        let system = rustls_native_certs::load_native_certs();
        for error in &system.errors {
            tracing::warn!("the system's certificate authorities: {error}");
        }
        let system = system.certs.iter().map(|der| Certificate::from_der(der).to_owned());
        let mozilla = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
        mozilla.map(|der| Certificate::from_der(der)).chain(system).collect()
    })
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, Error> {
    let certificate = |item| match item {
        PemItem::Certificate(one) => Some(one),
        _ => None,
    };
    let found: Vec<_> = items(path)?.into_iter().filter_map(certificate).collect();
    if found.is_empty() {
        let reason = "there is no certificate in it, expected PEM".to_owned();
        return Err(Error::Configuration { path: path.to_owned(), reason });
    }
    Ok(found)
}

fn items(path: &Path) -> Result<Vec<PemItem<'static>>, Error> {
    let wrong = |reason: String| Error::Configuration { path: path.to_owned(), reason };
    let pem = file::read(path).map_err(|error| wrong(format!("it cannot be read: {error}")))?;
    parse_pem(&pem).collect::<Result<_, _>>().map_err(|error| wrong(format!("not PEM: {error}")))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_without_a_certificate_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        for (text, reason) in [
            ("no certificate", "there is no certificate in it"),
            ("-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n", "not PEM"),
        ] {
            fs::write(&path, text).unwrap();
            let error = Named::read(std::slice::from_ref(&path), None).unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains("ca.pem"), "{error}");
        }
        assert!(Named::read(&[folder.path().join("none.pem")], None).is_err());
        let error = Named::read(&[PathBuf::from("/dev/zero")], None).unwrap_err().to_string();
        assert!(error.contains("/dev/zero") && error.contains("longer than 4 MiB"), "{error}");
        assert!(Named::read(&[], None).is_ok());
        let identity = Identity { certificate: path.clone(), key: path };
        assert!(Named::read(&[], Some(&identity)).is_err());
    }
}
