//! Which certificates are trusted: Mozilla's, the system's (or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`), and named ones.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::Error;

/// TLS that trusts further authorities, from PEM files; or that trusts anybody.
///
/// # Errors
/// Where a file cannot be read or holds no certificate.
pub(crate) fn config(authorities: &[PathBuf], skip_verify: bool) -> Result<TlsConfig, Error> {
    let mut roots = usual().clone();
    for path in authorities {
        roots.extend(certificates(path)?);
    }
    let roots = RootCerts::Specific(Arc::new(roots));
    Ok(TlsConfig::builder().root_certs(roots).disable_verification(skip_verify).build())
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

fn certificates(path: &PathBuf) -> Result<Vec<Certificate<'static>>, Error> {
    let wrong = |reason: String| Error::Configuration { path: path.clone(), reason };
    let pem = fs::read(path).map_err(|error| wrong(format!("the certificate cannot be read: {error}")))?;
    let mut found = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(one) = item.map_err(|error| wrong(format!("not PEM: {error}")))? {
            found.push(one);
        }
    }
    if found.is_empty() {
        return Err(wrong("there is no certificate in it, expected PEM".to_owned()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
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
            let error = config(std::slice::from_ref(&path), false).unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains("ca.pem"), "{error}");
        }
        assert!(config(&[folder.path().join("none.pem")], false).is_err());
        assert!(config(&[], false).is_ok());
    }
}
