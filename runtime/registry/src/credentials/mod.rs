//! Logins that docker and podman keep: in files, or with helpers that those name.

mod file;
mod helper;
mod store;

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::Error;
use file::Config;
pub use store::Kept;

/// A way to log in. Its debug form does not tell the secret.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A user and a password.
    Login {
        /// The user's name.
        user: String,
        /// The password, or a token that is used as one.
        password: String,
    },
    /// A token that a token server gives tokens for.
    Identity(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Login { user, .. } => f.debug_struct("Login").field("user", user).finish_non_exhaustive(),
            Self::Identity(_) => f.debug_tuple("Identity").finish_non_exhaustive(),
        }
    }
}

/// The files that logins are in, docker's before podman's.
#[derive(Clone, Debug)]
pub struct Credentials {
    files: Vec<PathBuf>,
}

impl Credentials {
    /// Those of the user who runs this: `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`; then `$REGISTRY_AUTH_FILE`,
    /// `$XDG_RUNTIME_DIR/containers/auth.json` and `~/.config/containers/auth.json`.
    #[must_use]
    pub fn of_user() -> Self {
        let folder = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = folder("HOME");
        let docker = folder("DOCKER_CONFIG").or_else(|| home.as_ref().map(|home| home.join(".docker")));
        let configuration = folder("XDG_CONFIG_HOME").or_else(|| home.map(|home| home.join(".config")));
        let podman = |folder: PathBuf| folder.join("containers/auth.json");
        let files = [
            docker.map(|docker| docker.join("config.json")),
            folder("REGISTRY_AUTH_FILE"),
            folder("XDG_RUNTIME_DIR").map(podman),
            configuration.map(podman),
        ];
        Self { files: files.into_iter().flatten().collect() }
    }

    /// Those in files.
    #[must_use]
    pub fn in_files(files: &[&Path]) -> Self {
        Self { files: files.iter().map(|path| path.to_path_buf()).collect() }
    }

    /// Keeps the login to a registry where docker would: with the helper that its file names, else in the file.
    ///
    /// # Errors
    /// Where there is no such place, it is not what it should be, or cannot be written.
    pub fn keep(&self, host: &str, user: &str, password: &str) -> Result<Kept, Error> {
        self.first(host).and_then(|path| store::keep(path, host, user, password).map_err(wrong(host)))
    }

    /// Forgets what [`Credentials::keep`] kept; nothing where there was nothing.
    ///
    /// # Errors
    /// As those of [`Credentials::keep`].
    pub fn forget(&self, host: &str) -> Result<Option<Kept>, Error> {
        self.first(host).and_then(|path| store::forget(path, host).map_err(wrong(host)))
    }

    fn first(&self, host: &str) -> Result<&Path, Error> {
        let first = self.files.first().map(PathBuf::as_path);
        first.ok_or_else(|| wrong(host)("there is no place for it: set HOME or DOCKER_CONFIG".to_owned()))
    }

    /// The login for a repository of a registry, or for the registry: the most special one of the first file that has one.
    ///
    /// # Errors
    /// Where a file is not what it should be, or a helper does not answer.
    pub fn find(&self, host: &str, repository: Option<&str>) -> Result<Option<Credential>, Error> {
        let keys = keys(host, repository);
        for path in &self.files {
            let Some(config) = Config::read(path).map_err(wrong(host))? else { continue };
            if let Some(found) = look_up(&config, host, &keys, path).map_err(wrong(host))? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

fn wrong(host: &str) -> impl Fn(String) -> Error {
    move |reason| Error::Credentials { host: host.to_owned(), reason }
}

/// As docker looks: a helper for the host, what the file has, the helper for all.
fn look_up(config: &Config, host: &str, keys: &[String], path: &Path) -> Result<Option<Credential>, String> {
    let server = server_key(host);
    if let Some(helper) = config.helper_for(keys) {
        return helper::get(helper, server);
    }
    for key in keys {
        if let Some(found) = config.login(key).map_err(|reason| format!("{}: {reason}", path.display()))? {
            return Ok(Some(found));
        }
    }
    match config.store() {
        Some(helper) => helper::get(helper, server),
        None => Ok(None),
    }
}

/// The registry that docker keeps under a name of its own.
const HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// What docker and its helpers keep a host under.
fn server_key(host: &str) -> &str {
    if HUB.contains(&host) { HUB_KEY } else { host }
}

/// What a login may be kept under, the most special first: `host/a/b`, `host/a`, `host`.
fn keys(host: &str, repository: Option<&str>) -> Vec<String> {
    let hosts: &[&str] = if HUB.contains(&host) { &HUB } else { &[host] };
    let mut all = Vec::new();
    let mut rest = repository;
    while let Some(path) = rest {
        all.extend(hosts.iter().map(|host| format!("{host}/{path}")));
        rest = path.rsplit_once('/').map(|(parent, _)| parent);
    }
    all.extend(hosts.iter().map(|&host| host.to_owned()));
    all
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn login(user: &str, password: &str) -> Option<Credential> {
        Some(Credential::Login { user: user.to_owned(), password: password.to_owned() })
    }

    #[test]
    fn the_most_special_key_of_the_first_file_wins() {
        let folder = tempfile::tempdir().unwrap();
        let (docker, podman) = (folder.path().join("config.json"), folder.path().join("auth.json"));
        fs::write(
            &docker,
            r#"{"auths": {"https://r.example/v1/": {"auth": "YTpi"}, "r.example/team/app": {"auth": "Yzpk"},
                          "https://index.docker.io/v1/": {"username": "h", "password": "u:b"}, "t.example": {"identitytoken": "id"}}}"#,
        )
        .unwrap();
        fs::write(
            &podman,
            r#"{"auths": {"r.example": {"auth": "eDp5"}, "p.example": {"auth": "cDpxOnI="}}}"#,
        )
        .unwrap();
        let all = Credentials::in_files(&[&docker, &folder.path().join("none.json"), &podman]);
        assert_eq!(all.find("r.example", Some("team/app")).unwrap(), login("c", "d"));
        assert_eq!(all.find("r.example", Some("team/app2")).unwrap(), login("a", "b"));
        assert_eq!(all.find("r.example", None).unwrap(), login("a", "b"));
        assert_eq!(all.find("p.example", Some("x")).unwrap(), login("p", "q:r"));
        assert_eq!(all.find("docker.io", Some("library/x")).unwrap(), login("h", "u:b"));
        assert_eq!(all.find("t.example", None).unwrap(), Some(Credential::Identity("id".to_owned())));
        assert_eq!(all.find("r.example:5000", None).unwrap(), None);
    }

    #[test]
    fn a_file_that_is_none_is_named_and_its_secrets_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        for text in
            ["{", r#"{"auths": {"r": {"auth": "secret!"}}}"#, r#"{"auths": {"r": {"auth": "YQ=="}}}"#, "[]"]
        {
            fs::write(&path, text).unwrap();
            let error = Credentials::in_files(&[&path]).find("r", None).unwrap_err().to_string();
            assert!(error.contains("config.json") && !error.contains("secret!"), "{error}");
        }
    }
}
