//! What a registry's 401 asks for: challenges of `WWW-Authenticate` (RFC 9110, section 11.6.1), which whoever answers there wrote.

use crate::error::clean;

/// How a registry wants a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// A user and a password.
    Basic,
    /// A token that a server gives ([token authentication](https://distribution.github.io/distribution/spec/auth/token/)).
    Bearer {
        /// The server's address.
        realm: String,
        /// The registry's name there.
        service: Option<String>,
        /// What the token is to be good for.
        scope: Option<String>,
    },
}

impl Challenge {
    /// The challenge to answer of those in all headers: for a token where one is offered, else for a password.
    ///
    /// # Errors
    /// What is offered in place of these two, for a sentence about the registry.
    pub fn of(headers: &[&str]) -> Result<Self, String> {
        let mut found = None;
        let all = headers.iter().flat_map(|text| http_auth::parse_challenges(text).unwrap_or_default());
        for challenge in all {
            let param = |name: &str| {
                let mut params = challenge.params.iter();
                params.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_unescaped())
            };
            if challenge.scheme.eq_ignore_ascii_case("bearer") {
                let realm = param("realm").ok_or("its Bearer challenge has no realm")?;
                return Ok(Self::Bearer { realm, service: param("service"), scope: param("scope") });
            }
            if challenge.scheme.eq_ignore_ascii_case("basic") {
                found = Some(Self::Basic);
            }
        }
        found.ok_or_else(|| {
            let offered = clean(&headers.join(", "));
            format!("it offers {offered:?}, expected Bearer or Basic in WWW-Authenticate")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_preferred_to_a_password() {
        let bearer = r#"Bearer realm="https://a/token",service="r \"x\"",scope="repository:a/b:pull,push""#;
        let wanted = Challenge::Bearer {
            realm: "https://a/token".to_owned(),
            service: Some("r \"x\"".to_owned()),
            scope: Some("repository:a/b:pull,push".to_owned()),
        };
        assert_eq!(Challenge::of(&["Basic realm=\"x\"", bearer]), Ok(wanted));
        assert_eq!(Challenge::of(&["basic"]), Ok(Challenge::Basic));
    }

    #[test]
    fn challenges_that_are_none_are_refused_in_words() {
        for headers in [&[][..], &["Negotiate"], &["Bearer"], &["Bearer realm"], &["="], &["\u{7f}, ,,,"]] {
            assert!(Challenge::of(headers).is_err(), "{headers:?}");
        }
    }
}
