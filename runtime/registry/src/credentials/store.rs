//! Logins that are kept for next time, and forgotten. Whatever else a file says stays as it is.

use std::fs::{self, DirBuilder};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use tempfile::NamedTempFile;

use super::file::{Config, normal};
use super::{helper, keys, server_key};

/// Where a login is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// In this file, in base64, which anybody can read who can read the file.
    File(PathBuf),
    /// With this helper.
    Helper(String),
}

pub(super) fn keep(path: &Path, host: &str, user: &str, password: &str) -> Result<Kept, String> {
    if user.contains(':') || user.is_empty() {
        return Err(format!("{user:?} is no user, expected a name without a colon"));
    }
    let server = server_key(host);
    let (entry, kept) = match helper_of(path, host)? {
        Some(helper) => {
            helper::store(&helper, server, user, password)?;
            // So docker finds the names of what its helper has.
            (json!({}), Kept::Helper(helper))
        }
        None => {
            let auth = STANDARD.encode(format!("{user}:{password}"));
            (json!({"auth": auth}), Kept::File(path.to_path_buf()))
        }
    };
    change(path, |auths| {
        auths.retain(|name, _| !is_of(name, host));
        auths.insert(server.to_owned(), entry);
    })?;
    Ok(kept)
}

pub(super) fn forget(path: &Path, host: &str) -> Result<Option<Kept>, String> {
    let helper = helper_of(path, host)?;
    let erased = match &helper {
        Some(helper) => helper::erase(helper, server_key(host))?,
        None => false,
    };
    let mut found = false;
    if path.exists() {
        change(path, |auths| {
            let before = auths.len();
            auths.retain(|name, _| !is_of(name, host));
            found = auths.len() < before;
        })?;
    }
    Ok(match helper {
        Some(helper) if erased => Some(Kept::Helper(helper)),
        _ if found => Some(Kept::File(path.to_path_buf())),
        _ => None,
    })
}

/// The helper that keeps a host's login.
fn helper_of(path: &Path, host: &str) -> Result<Option<String>, String> {
    let config = Config::read(path)?.unwrap_or_default();
    Ok(config.helper_for(&keys(host, None)).or(config.store()).map(str::to_owned))
}

fn is_of(name: &str, host: &str) -> bool {
    keys(host, None).iter().any(|key| normal(name) == key)
}

/// Changes what a file says of logins: all of it, or, if that fails, nothing.
fn change(path: &Path, change: impl FnOnce(&mut Map<String, Value>)) -> Result<(), String> {
    let wrong = |reason: &dyn std::fmt::Display| format!("{}: {reason}", path.display());
    let shape = || wrong(&"expected docker's config.json, an object with an object \"auths\"");
    // The file may be a link to where a person keeps it.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let mut config: Map<String, Value> = match crate::file::read_text(path) {
        Ok(text) => serde_json::from_str(&text).map_err(|_| shape())?,
        Err(error) if error.kind() == ErrorKind::NotFound => Map::new(),
        Err(error) => return Err(wrong(&error)),
    };
    let auths = config.entry("auths").or_insert_with(|| json!({}));
    change(auths.as_object_mut().ok_or_else(shape)?);
    let text = serde_json::to_string_pretty(&config).map_err(|error| wrong(&error))?;
    write(path, &text).map_err(|error| wrong(&error))
}

/// Replaces a file by one that only its owner can read.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::{Credential, Credentials};

    #[test]
    fn a_login_is_kept_beside_everything_else_and_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/config.json");
        let all = Credentials::in_files(&[&path]);
        assert_eq!(all.keep("r.example", "ada", "pass:word").unwrap(), Kept::File(path.clone()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let found = Credential::Login { user: "ada".to_owned(), password: "pass:word".to_owned() };
        assert_eq!(all.find("r.example", None).unwrap(), Some(found));

        let text = r#"{"psFormat": "x", "auths": {"https://r.example/v2/": {"auth": "eDp5"}, "o.example": {"auth": "eDp5"}}}"#;
        fs::write(&path, text).unwrap();
        all.keep("r.example", "ada", "b").unwrap();
        all.keep("docker.io", "ada", "b").unwrap();
        let config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(config["psFormat"], "x");
        let auths = config["auths"].as_object().unwrap();
        for name in ["o.example", "r.example", "https://index.docker.io/v1/"] {
            assert!(auths.contains_key(name), "{name} of {auths:?}");
        }
        assert_eq!(auths.len(), 3);

        assert!(all.forget("r.example").unwrap().is_some());
        assert_eq!(all.forget("r.example").unwrap(), None);
        assert!(all.find("o.example", None).unwrap().is_some());
    }

    #[test]
    fn a_file_that_is_a_link_stays_one() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("real.json"), folder.path().join("config.json"));
        fs::write(&target, "{}").unwrap();
        symlink(&target, &link).unwrap();
        Credentials::in_files(&[&link]).keep("r.example", "a", "b").unwrap();
        assert!(link.is_symlink());
        assert!(fs::read_to_string(target).unwrap().contains("r.example"));
    }

    #[test]
    fn a_file_of_another_shape_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        for text in ["[]", "{\"auths\": 1}", "not json"] {
            fs::write(&path, text).unwrap();
            assert!(Credentials::in_files(&[&path]).keep("r.example", "a", "b").is_err(), "{text}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert!(Credentials::in_files(&[&path]).keep("r.example", "a:b", "c").is_err());
        assert!(Credentials::in_files(&[]).keep("r.example", "a", "b").is_err());
    }
}
