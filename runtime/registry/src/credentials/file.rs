//! docker's `config.json`, of which podman's `auth.json` is a part.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use super::Credential;

/// What a file says of logins.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").finish_non_exhaustive()
    }
}

impl Config {
    /// A file's, if there is one.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, String> {
        let text = match crate::file::read_text(path) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(format!("{}: {error}", path.display())),
        };
        let config = serde_json::from_str(&text);
        // serde_json's own message may quote a secret.
        config.map(Some).map_err(|error: serde_json::Error| {
            format!(
                "{} is not docker's config.json (line {}, column {})",
                path.display(),
                error.line(),
                error.column()
            )
        })
    }

    /// The helper that is there for one of these keys.
    pub(super) fn helper_for(&self, keys: &[String]) -> Option<&str> {
        keys.iter().find_map(|key| {
            let mut all = self.cred_helpers.iter();
            all.find(|(name, _)| normal(name) == key).map(|(_, helper)| helper.as_str())
        })
    }

    /// The helper that is there for all.
    pub(super) fn store(&self) -> Option<&str> {
        self.creds_store.as_deref().filter(|helper| !helper.is_empty())
    }

    /// The login that is kept under a key.
    pub(super) fn login(&self, key: &str) -> Result<Option<Credential>, String> {
        let entries = self.auths.iter().filter(|(name, _)| normal(name) == key);
        for (name, entry) in entries {
            if let Some(token) = entry.identitytoken.as_ref().filter(|token| !token.is_empty()) {
                return Ok(Some(Credential::Identity(token.clone())));
            }
            if let Some(auth) = entry.auth.as_ref().filter(|auth| !auth.is_empty()) {
                let decoded = decode(auth);
                return decoded.map(Some).ok_or_else(|| {
                    format!("the auth of {name:?} is not user:password in base64: log in again")
                });
            }
            if let (Some(user), Some(password)) = (&entry.username, &entry.password) {
                return Ok(Some(Credential::Login { user: user.clone(), password: password.clone() }));
            }
        }
        Ok(None)
    }
}

fn decode(auth: &str) -> Option<Credential> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let bytes = GeneralPurpose::new(&alphabet::STANDARD, config).decode(auth.trim()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.split_once(':')?;
    // Some tools end the password with a NUL.
    let password = password.trim_end_matches('\0');
    Some(Credential::Login { user: user.to_owned(), password: password.to_owned() })
}

/// A key as it would be without the scheme and the path of docker's first protocol.
pub(super) fn normal(key: &str) -> &str {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key)
}
