//! Logins: what a registry's 401 asks for, by basic authentication or by a token from where it says ([token authentication]).
//!
//! [token authentication]: https://distribution.github.io/distribution/spec/auth/token/

use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use ureq::Body;
use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use ureq::http::{Method, Response, StatusCode};
use url::Url;
use url::form_urlencoded::Serializer;

use crate::Error;
use crate::challenge::Challenge;
use crate::client::{Answer, Client, Request, Source, host, is_loopback, read_bounded, status_failure};
use crate::credentials::{Credential, Credentials};
use crate::error::{Detail, clean};

/// More than any token has.
const MOST_TOKEN: u64 = 1 << 20;

/// What a request needs the right to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Scope {
    /// None of a repository for the registry itself.
    pub(crate) repository: Option<String>,
    pub(crate) push: bool,
    /// Another repository that blobs are taken over from.
    pub(crate) from: Option<String>,
}

impl Scope {
    pub(crate) fn pull(repository: &str) -> Self {
        Self { repository: Some(repository.to_owned()), ..Self::default() }
    }

    pub(crate) fn push(repository: &str, from: Option<&str>) -> Self {
        Self { repository: Some(repository.to_owned()), push: true, from: from.map(str::to_owned) }
    }

    /// As a token server reads it.
    fn to_words(&self) -> Vec<String> {
        let actions = if self.push { "pull,push" } else { "pull" };
        let own = self.repository.iter().map(|name| format!("repository:{name}:{actions}"));
        own.chain(self.from.iter().map(|name| format!("repository:{name}:pull"))).collect()
    }
}

/// The logins to one address, which are asked for once a scope.
pub(crate) struct Authorizer {
    host: String,
    given: Option<Credential>,
    stored: Credentials,
    known: Mutex<HashMap<Scope, HeaderValue>>,
}

impl std::fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authorizer").field("host", &self.host).finish_non_exhaustive()
    }
}

/// A token server's answer.
#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Authorizer {
    /// For a host, with a login or with the one that is stored for it.
    pub(crate) fn new(host: String, given: Option<Credential>, stored: Credentials) -> Self {
        Self { host, given, stored, known: Mutex::default() }
    }

    /// The `Authorization` that was good for a scope before.
    pub(crate) fn known(&self, scope: &Scope) -> Option<HeaderValue> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(scope).cloned()
    }

    /// The `Authorization` that a 401 asks for.
    ///
    /// # Errors
    /// Where there is no login, none that is accepted, or the challenge is not one to answer.
    pub(crate) fn answer(
        &self,
        client: &Client,
        refusal: Answer,
        scope: &Scope,
        what: &str,
    ) -> Result<HeaderValue, Error> {
        let credential = self.credential(scope)?;
        let login = match challenge(&refusal.response) {
            Ok(Challenge::Basic) => match &credential {
                Some(Credential::Login { user, password }) => basic(user, password),
                Some(Credential::Identity(_)) => {
                    return Err(self.refused("it wants a password, and there is an identity token"));
                }
                None => return Err(status_failure(refusal, what)),
            },
            Ok(Challenge::Bearer { realm, service, scope: asked }) => {
                let realm = self.realm(&realm, &refusal.url)?;
                let mut scopes = scope.to_words();
                scopes.extend(asked.filter(|asked| !scopes.contains(asked)));
                self.token(client, realm, service.as_deref(), &scopes, credential.as_ref(), what)?
            }
            Err(reason) => return Err(self.refused(&reason)),
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(scope.clone(), login.clone());
        Ok(login)
    }

    fn credential(&self, scope: &Scope) -> Result<Option<Credential>, Error> {
        match &self.given {
            Some(given) => Ok(Some(given.clone())),
            None => self.stored.find(&self.host, scope.repository.as_deref()),
        }
    }

    fn refused(&self, reason: &str) -> Error {
        Error::Challenge { host: self.host.clone(), reason: reason.to_owned() }
    }

    /// A password goes out in the clear to no other than a registry that is plain itself.
    fn realm(&self, realm: &str, registry: &Url) -> Result<Url, Error> {
        let url = registry.join(realm).ok().filter(Url::has_host);
        let url = url.ok_or_else(|| {
            self.refused(&format!("its token server is {:?}, expected https://…", clean(realm)))
        })?;
        match url.scheme() {
            "https" => Ok(url),
            "http" if registry.scheme() == "http" && (is_loopback(&url) || !is_loopback(registry)) => Ok(url),
            _ => Err(self.refused(&format!(
                "its token server is {}, where a password could be read by others, expected https://…",
                clean(url.as_str())
            ))),
        }
    }

    fn token(
        &self,
        client: &Client,
        realm: Url,
        service: Option<&str>,
        scopes: &[String],
        credential: Option<&Credential>,
        what: &str,
    ) -> Result<HeaderValue, Error> {
        let mut answer = match credential {
            Some(Credential::Identity(token)) => by_identity(client, realm, service, scopes, token, what)?,
            Some(Credential::Login { user, password }) => {
                by_get(client, realm, service, scopes, Some(basic(user, password)), what)?
            }
            None => by_get(client, realm, service, scopes, None, what)?,
        };
        if !answer.response.status().is_success() {
            let at = host(&answer.url);
            return Err(match (answer.response.status(), status_failure(answer, what)) {
                // Token servers answer a wrong password so, or whoever has none.
                (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST, _) => {
                    Error::Unauthorized {
                        host: self.host.clone(),
                        what: what.to_owned(),
                        detail: Detail::text(&format!(
                            "its token server {at} refuses this user and password"
                        )),
                    }
                }
                (_, other) => other,
            });
        }
        let body = read_bounded(&mut answer.response, MOST_TOKEN)
            .map_err(|error| self.refused(&format!("its token cannot be read: {error}")))?;
        let token: Token = serde_json::from_slice(&body)
            .map_err(|_| self.refused("its token server's answer is not JSON with a token"))?;
        let token = token.token.or(token.access_token).filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| self.refused("its token server's answer has no token"))?;
        secret(&format!("Bearer {token}")).ok_or_else(|| self.refused("its token has control characters"))
    }
}

fn by_get(
    client: &Client,
    mut realm: Url,
    service: Option<&str>,
    scopes: &[String],
    login: Option<HeaderValue>,
    what: &str,
) -> Result<Answer, Error> {
    {
        let mut query = realm.query_pairs_mut();
        query.extend_pairs(service.map(|service| ("service", service)));
        query.extend_pairs(scopes.iter().map(|scope| ("scope", scope)));
    }
    let private = login.map(|login| (AUTHORIZATION, login)).into_iter().collect();
    let (method, headers) = (Method::GET, HeaderMap::new());
    client.follow(&Request { method, url: realm, headers, private, body: None, what })
}

/// By a token that stands for a user and password, as helpers of clouds keep them.
fn by_identity(
    client: &Client,
    realm: Url,
    service: Option<&str>,
    scopes: &[String],
    token: &str,
    what: &str,
) -> Result<Answer, Error> {
    let form = Serializer::new(String::new())
        .append_pair("grant_type", "refresh_token")
        .append_pair("client_id", "wisp")
        .append_pair("service", service.unwrap_or_default())
        .append_pair("scope", &scopes.join(" "))
        .append_pair("refresh_token", token)
        .finish();
    let size = form.len() as u64;
    let open = move || Ok(Box::new(Cursor::new(form.clone().into_bytes())) as Box<dyn Read>);
    let body = Source { open: &open, size };
    let form = HeaderValue::from_static("application/x-www-form-urlencoded");
    let headers = [(CONTENT_TYPE, form)].into_iter().collect();
    let (method, private) = (Method::POST, HeaderMap::new());
    client.follow(&Request { method, url: realm, headers, private, body: Some(&body), what })
}

/// `Authorization` of a user and password.
fn basic(user: &str, password: &str) -> HeaderValue {
    let encoded = STANDARD.encode(format!("{user}:{password}"));
    // Base64 has no character that a header may not have.
    secret(&format!("Basic {encoded}")).unwrap_or_else(|| HeaderValue::from_static("Basic"))
}

fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The challenge to answer: a token where one is offered, else a password.
fn challenge(response: &Response<Body>) -> Result<Challenge, String> {
    let headers = response.headers().get_all(WWW_AUTHENTICATE);
    let texts: Vec<_> = headers.iter().filter_map(|value| value.to_str().ok()).collect();
    Challenge::of(&texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_the_clear_goes_to_a_plain_registrys_own_kind_only() {
        let authorizer = Authorizer::new("r".to_owned(), None, Credentials::in_files(&[]));
        let realm = |realm: &str, registry: &str| authorizer.realm(realm, &Url::parse(registry).unwrap());
        assert!(realm("https://a.example/t", "https://r.example/v2").is_ok());
        assert!(realm("/token", "https://r.example/v2").is_ok());
        assert!(realm("http://a.example/t", "http://r.example/v2").is_ok());
        assert!(realm("http://127.0.0.1:2/t", "http://localhost:1/v2").is_ok());
        assert!(realm("http://a.example/t", "http://localhost:1/v2").is_err());
        assert!(realm("http://a.example/t", "https://r.example/v2").is_err());
        assert!(realm("file:///etc/passwd", "http://r.example/v2").is_err());
        assert!(realm("data:x", "https://r.example/v2").is_err());
    }
}
