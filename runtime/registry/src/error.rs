//! What may go wrong with a registry, each in one sentence: where, what was found, what was expected, and the cure.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

/// Why a registry did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no connection, or it broke.
    #[error("{host} cannot be reached for {what}: {reason}")]
    Unreachable {
        /// The registry's host.
        host: String,
        /// What was asked for.
        what: String,
        /// What the network says.
        reason: String,
        /// Another attempt may find it otherwise.
        transient: bool,
    },
    /// The registry fell silent.
    #[error("{host} sent nothing for too long ({reason}) while it was asked for {what}")]
    Silent {
        /// The registry's host.
        host: String,
        /// What was asked for.
        what: String,
        /// What was waited for.
        reason: String,
    },
    /// A body ended before its time.
    #[error("{host} cut {what} after {received} of {expected} bytes: {reason}")]
    Cut {
        /// The registry's host.
        host: String,
        /// What was asked for.
        what: String,
        /// Bytes that came.
        received: u64,
        /// Bytes that were said to come.
        expected: u64,
        /// What the network says.
        reason: String,
    },
    /// TLS failed.
    #[error("the TLS certificate of {host} is not accepted ({reason}): {cure}")]
    Certificate {
        /// The registry's host.
        host: String,
        /// What TLS says.
        reason: String,
        /// What is to be done.
        cure: &'static str,
    },
    /// The registry asks who its client is.
    #[error("{host} wants a certificate of its clients: name one with `client` in its hosts.toml")]
    WantsClient {
        /// The registry's host.
        host: String,
    },
    /// A certificate that can only sign others, which docker's and openssl's recipes for a self-signed one make.
    #[error(
        "the TLS certificate of {host} is one of an authority (CA:TRUE), which no server may have: sign a server's certificate with it, \
         or make it with -addext basicConstraints=critical,CA:FALSE; until then --insecure does not check it"
    )]
    AuthorityAsServer {
        /// The registry's host.
        host: String,
    },
    /// The other side speaks TLS only.
    #[error(
        "{host} answers in TLS only: name the certificate authority that signed its certificate with --ca FILE"
    )]
    WantsTls {
        /// The registry's host.
        host: String,
    },
    /// The other side does not speak TLS.
    #[error("{host} does not answer in TLS: if it is a registry without TLS, say --plain-http")]
    NotTls {
        /// The registry's host.
        host: String,
    },
    /// The other side does not speak HTTP, or speaks it wrongly.
    #[error("{host} did not answer in HTTP when it was asked for {what}: {reason}")]
    Protocol {
        /// The registry's host.
        host: String,
        /// What was asked for.
        what: String,
        /// What was found.
        reason: String,
    },
    /// 401.
    #[error("{host} wants a login for {what}{detail}: run `wisp login {host}`")]
    Unauthorized {
        /// The registry's host.
        host: String,
        /// What was asked for.
        what: String,
        /// What the registry says.
        detail: Detail,
    },
    /// 403.
    #[error(
        "{host} does not permit {what} to this login{detail}: ask who runs the registry, or `wisp login {host}` as another user"
    )]
    Denied {
        /// The registry's host.
        host: String,
        /// What was asked for.
        what: String,
        /// What the registry says.
        detail: Detail,
    },
    /// 404.
    #[error("{host} has no {what}{detail}: check the name")]
    NotFound {
        /// The registry's host.
        host: String,
        /// What was asked for.
        what: String,
        /// What the registry says.
        detail: Detail,
    },
    /// Any other status than the expected ones.
    #[error("{host} answered {status} to the request for {what}{detail}")]
    Status {
        /// The registry's host.
        host: String,
        /// What was asked for.
        what: String,
        /// The status code.
        status: u16,
        /// What the registry says.
        detail: Detail,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// An answer that does not follow the specification.
    #[error("{host} answered the request for {what} with {found}, expected {expected}")]
    Answer {
        /// The registry's host.
        host: String,
        /// What was asked for.
        what: String,
        /// What came.
        found: String,
        /// What the specification says.
        expected: String,
    },
    /// The content is not that of the digest.
    #[error(
        "{host} sent content with the digest {found} for {what}, expected {expected}: nothing of it is used"
    )]
    Digest {
        /// The registry's host.
        host: String,
        /// What was asked for.
        what: String,
        /// What came.
        found: String,
        /// What was asked for, or promised.
        expected: String,
    },
    /// The content is longer than it may be.
    #[error("{host} sent more than {limit} bytes for {what}: nothing of it is used")]
    TooLarge {
        /// The registry's host.
        host: String,
        /// What was asked for.
        what: String,
        /// How much it may be.
        limit: u64,
    },
    /// A redirect that is not followed.
    #[error("{host} redirects {what} {reason}")]
    Redirect {
        /// The registry's host.
        host: String,
        /// What was asked for.
        what: String,
        /// Where to, and why not.
        reason: String,
    },
    /// A challenge that is not answered.
    #[error("{host} asks for a login in a way that is not followed: {reason}")]
    Challenge {
        /// The registry's host.
        host: String,
        /// What was found, and what was expected.
        reason: String,
    },
    /// A login cannot be had from where it is kept, or not be kept there.
    #[error("the login to {host}: {reason}")]
    Credentials {
        /// The registry's host.
        host: String,
        /// Which file or helper, and why.
        reason: String,
    },
    /// A file that says how to reach registries is not one.
    #[error("{}: {reason}", path.display())]
    Configuration {
        /// The file.
        path: PathBuf,
        /// What was found, and what was expected.
        reason: String,
    },
    /// A name that no registry takes.
    #[error("{name:?} is not the name of a registry: {reason}")]
    Name {
        /// The name.
        name: String,
        /// What was expected.
        reason: String,
    },
    /// A package that no registry is known for.
    #[error(
        "no registry is known for the package {package}: name one for {namespace:?} with `wkg config --edit`, as default_registry \
         or in namespace_registries"
    )]
    Package {
        /// The package.
        package: String,
        /// Its namespace.
        namespace: String,
    },
    /// A digest of an algorithm that is not known.
    #[error("{what} has the digest {digest}, expected one of sha256")]
    Algorithm {
        /// What was asked for.
        what: String,
        /// Its digest.
        digest: String,
    },
    /// The caller's side of a pull.
    #[error("{what} cannot be stored: {source}")]
    Store {
        /// What came.
        what: String,
        /// What the caller's writer says.
        source: io::Error,
    },
    /// The caller's side of a push.
    #[error("{what} cannot be read: {source}")]
    Source {
        /// What was to go.
        what: String,
        /// What the caller's reader says.
        source: io::Error,
    },
}

impl Error {
    /// Whether another attempt may succeed, and what the registry wants to be waited before it.
    pub(crate) fn transient(&self) -> Option<Option<Duration>> {
        match self {
            Self::Unreachable { transient: true, .. } | Self::Silent { .. } | Self::Cut { .. } => Some(None),
            Self::Status { status: 408 | 429 | 500..=599, retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }

    /// Whether the host is not there at all, so that asking it for something else is in vain too.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Silent { .. } | Self::NotTls { .. })
    }

    /// Why it is worth waiting, for [`crate::Watch::waits`].
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Status { host, status: 429, .. } => format!("{host} has too many requests"),
            other => other.to_string(),
        }
    }
}

/// What a registry's own words are cut to.
const MOST_WORDS: usize = 200;

/// What a registry said in an error's body, fit to be shown; shown as nothing when it said nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail(String);

impl Detail {
    /// The codes and messages of an error's body; a body of another form tells nothing but for its first line, when it is text.
    pub(crate) fn of(body: &[u8], content_type: &str) -> Self {
        if let Ok(body) = serde_json::from_slice::<ErrorBody>(body) {
            let all: Vec<_> = body.errors.iter().map(ErrorInfo::to_words).collect();
            return Self(clean(&all.join("; ")));
        }
        if content_type.is_empty() || content_type.starts_with("text/plain") {
            let text = String::from_utf8_lossy(body);
            return Self(clean(text.lines().next().unwrap_or_default()));
        }
        Self::default()
    }

    pub(crate) fn text(text: &str) -> Self {
        Self(clean(text))
    }
}

impl std::fmt::Display for Detail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, " ({})", self.0) }
    }
}

/// The form of errors in section "Error Codes" of the specification.
#[derive(Deserialize)]
struct ErrorBody {
    errors: Vec<ErrorInfo>,
}

#[derive(Deserialize)]
struct ErrorInfo {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl ErrorInfo {
    fn to_words(&self) -> String {
        match (self.code.as_str(), self.message.as_str()) {
            (code, "") => code.to_owned(),
            ("", message) => message.to_owned(),
            (code, message) => format!("{code}: {message}"),
        }
    }
}

/// Another's text for a terminal: on one line, without control characters, short.
pub(crate) fn clean(text: &str) -> String {
    let mut words: String =
        text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).filter(|c| !c.is_control()).collect();
    if let Some((at, _)) = words.char_indices().nth(MOST_WORDS) {
        words.truncate(at);
        words.push('…');
    }
    words.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registrys_words_are_quoted_short_and_without_control_characters() {
        let body = br#"{"errors":[{"code":"DENIED","message":"no\u001b[31m\nway"},{"code":"UNKNOWN"}]}"#;
        assert_eq!(Detail::of(body, "").to_string(), " (DENIED: no[31m way; UNKNOWN)");
        let long = format!(r#"{{"errors":[{{"message":"{}"}}]}}"#, "ä".repeat(5000));
        assert_eq!(Detail::of(long.as_bytes(), "").to_string().chars().count(), MOST_WORDS + 4);
    }

    #[test]
    fn a_body_of_another_form_is_not_shown_but_a_line_of_text_is() {
        assert_eq!(Detail::of(b"<html>so sorry</html>", "text/html"), Detail::default());
        assert_eq!(Detail::of(b"slow down\nplease", "text/plain; charset=utf-8").to_string(), " (slow down)");
        assert_eq!(Detail::of(b"\xff\xfe", "text/plain").to_string(), " (\u{fffd}\u{fffd})");
        assert_eq!(Detail::of(b"no type", "").to_string(), " (no type)");
        assert_eq!(Detail::of(br#"{"errors":"no list"}"#, "application/json").to_string(), "");
    }
}
