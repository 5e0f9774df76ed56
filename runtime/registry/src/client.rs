//! HTTP to one registry and to where it sends on: one exchange after the other, redirects followed with what they may know.

use std::io::{self, Read};
use std::net::IpAddr;
use std::sync::OnceLock;

use rustls::AlertDescription;
use ureq::http::header::{CONTENT_LENGTH, HeaderMap, LOCATION, USER_AGENT};
use ureq::http::{HeaderValue, Method, Response, StatusCode};
use ureq::tls::TlsConfig;
use ureq::{Agent, Body, SendBody, Timeout};
use url::{Host, Url};

use crate::tls::{self, Identity, Named};
use crate::{Error, Patience};

/// How many redirects of one request are followed.
const MOST_REDIRECTS: usize = 10;

/// An agent for a registry without TLS, one for a registry with it, and one for the hosts that it sends on to, which its `skip_verify`
/// does not hold for.
#[derive(Debug)]
pub(crate) struct Client {
    home: Url,
    plain: Agent,
    own: Secure,
    others: Secure,
    patience: Patience,
}

/// An agent with TLS, made when it is first needed: to read the authorities of the system takes longer than a short exchange.
#[derive(Debug)]
struct Secure {
    named: Named,
    skip_verify: bool,
    agent: OnceLock<Agent>,
}

impl Secure {
    fn new(named: Named, skip_verify: bool) -> Self {
        Self { named, skip_verify, agent: OnceLock::new() }
    }

    fn agent(&self, patience: &Patience) -> &Agent {
        self.agent.get_or_init(|| agent(Some(self.named.clone().config(self.skip_verify)), patience))
    }
}

/// What goes out in a request's body; reopened for another attempt.
pub(crate) struct Source<'a> {
    pub(crate) open: &'a dyn Fn() -> Result<Box<dyn Read>, Error>,
    pub(crate) size: u64,
}

/// One request.
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    /// What no other host than the request's own may see.
    pub(crate) private: HeaderMap,
    pub(crate) body: Option<&'a Source<'a>>,
    /// What is asked for, for messages.
    pub(crate) what: &'a str,
}

/// An answer, and who gave it.
pub(crate) struct Answer {
    pub(crate) url: Url,
    pub(crate) response: Response<Body>,
}

impl Client {
    /// For a registry at an address, with the authorities that are trusted further, and what it alone is shown.
    pub(crate) fn new(
        home: &Url,
        authorities: &[std::path::PathBuf],
        (own_skips, others_skip): (bool, bool),
        identity: Option<&Identity>,
        patience: Patience,
    ) -> Result<Self, Error> {
        let others = Secure::new(Named::read(authorities, None)?, others_skip);
        let own = Secure::new(Named::read(authorities, identity)?, own_skips);
        Ok(Self { home: home.clone(), plain: agent(None, &patience), own, others, patience })
    }

    /// The answer to a request, after all redirects.
    pub(crate) fn follow(&self, request: &Request<'_>) -> Result<Answer, Error> {
        let mut url = request.url.clone();
        for _ in 0..=MOST_REDIRECTS {
            let response = self.exchange(request, &url)?;
            match next(request, &url, &response)? {
                Some(next) => url = next,
                None => return Ok(Answer { url, response }),
            }
        }
        let reason = format!("more than {MOST_REDIRECTS} times");
        Err(Error::Redirect { host: host(&request.url), what: request.what.to_owned(), reason })
    }

    fn exchange(&self, request: &Request<'_>, url: &Url) -> Result<Response<Body>, Error> {
        let failed = |error| failure(error, url, request.what);
        let mut wire = ureq::http::Request::builder().method(&request.method).uri(url.as_str());
        if let Some(headers) = wire.headers_mut() {
            headers.extend(request.headers.clone());
            if url.origin() == request.url.origin() {
                headers.extend(request.private.clone());
            }
            headers.insert(USER_AGENT, HeaderValue::from_static(concat!("wisp/", env!("CARGO_PKG_VERSION"))));
            // Without it an empty body goes out in chunks, of which the last is a packet of its own.
            let empty = (request.method == Method::POST).then_some(0);
            let size = request.body.map(|source| source.size).or(empty);
            headers.extend(size.map(|size| (CONTENT_LENGTH, size.into())));
        }
        let body = match request.body {
            Some(source) => SendBody::from_owned_reader(Exact { inner: (source.open)()?, left: source.size }),
            None => SendBody::none(),
        };
        let wire = wire.body(body).map_err(|error| failed(error.into()))?;
        let mut config = self.agent(url).configure_request(wire);
        if is_loopback(url) {
            config = config.proxy(None);
        }
        if request.body.is_some() {
            config = config.timeout_per_read(self.patience.commit);
        }
        self.agent(url).run(config.build()).map_err(failed)
    }

    fn agent(&self, url: &Url) -> &Agent {
        match url.scheme() {
            "http" => &self.plain,
            _ if url.origin() == self.home.origin() => self.own.agent(&self.patience),
            _ => self.others.agent(&self.patience),
        }
    }
}

/// A body of so many bytes. An early end has to be an error: ureq would wait for the rest for ever.
struct Exact {
    inner: Box<dyn Read>,
    left: u64,
}

impl Read for Exact {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = (&mut self.inner).take(self.left).read(buffer).map_err(Unreadable)?;
        if read == 0 && self.left > 0 && !buffer.is_empty() {
            let reason = format!("it ended {} bytes early", self.left);
            return Err(Unreadable(io::Error::new(io::ErrorKind::UnexpectedEof, reason)).into());
        }
        self.left -= read as u64;
        Ok(read)
    }
}

/// What is to be sent cannot be read, which is not the network's fault.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unreadable(io::Error);

impl From<Unreadable> for io::Error {
    fn from(error: Unreadable) -> Self {
        Self::other(error)
    }
}

fn agent(tls: Option<TlsConfig>, patience: &Patience) -> Agent {
    Agent::config_builder()
        .tls_config(tls.unwrap_or_default())
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_connect(Some(patience.connect))
        .timeout_per_read(patience.silence)
        .timeout_per_write(patience.silence)
        .max_idle_connections_per_host(8)
        .build()
        .new_agent()
}

/// Where an answer sends a request on to.
fn next(request: &Request<'_>, url: &Url, response: &Response<Body>) -> Result<Option<Url>, Error> {
    let redirects = [301, 302, 303, 307, 308].contains(&response.status().as_u16());
    if !redirects || !(request.method == Method::GET || request.method == Method::HEAD) {
        return Ok(None);
    }
    let refused = |reason: String| Error::Redirect { host: host(url), what: request.what.to_owned(), reason };
    let next = location(url, response).ok_or_else(|| refused("to no address".to_owned()))?;
    match (url.scheme(), next.scheme()) {
        (_, "https") | ("http", "http") => Ok(Some(next)),
        ("https", "http") => Err(refused(format!(
            "to {} without TLS, which is not followed: the registry has to redirect to an https:// address",
            host(&next)
        ))),
        (_, other) => Err(refused(format!("to an address of the kind {other:?}, expected https"))),
    }
}

/// The address in `Location`, which may be relative.
pub(crate) fn location(url: &Url, response: &Response<Body>) -> Option<Url> {
    url.join(response.headers().get(LOCATION)?.to_str().ok()?).ok().filter(Url::has_host)
}

/// Who is spoken of in a message: host and port.
pub(crate) fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Whether an address is this machine's own.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => false,
    }
}

/// What a failed exchange means.
fn failure(error: ureq::Error, url: &Url, what: &str) -> Error {
    let (host, what) = (host(url), what.to_owned());
    let unreachable = |reason: String, transient| Error::Unreachable {
        host: host.clone(),
        what: what.clone(),
        reason,
        transient,
    };
    match error {
        ureq::Error::Timeout(Timeout::Connect | Timeout::Resolve) => {
            unreachable("no connection came about in time".to_owned(), true)
        }
        ureq::Error::Timeout(kind) => Error::Silent { host, what, reason: kind.to_string() },
        ureq::Error::HostNotFound => unreachable("there is no such host".to_owned(), false),
        ureq::Error::ConnectionFailed | ureq::Error::ConnectProxyFailed(_) => {
            unreachable(error.to_string(), true)
        }
        ureq::Error::Rustls(error) => tls_failure(&error, host, what),
        ureq::Error::Io(error) => {
            let inner = error.get_ref();
            if let Some(error) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                tls_failure(error, host, what)
            } else if inner.is_some_and(|inner| inner.is::<Unreadable>()) {
                Error::Source { what, source: error }
            } else {
                unreachable(error.to_string(), true)
            }
        }
        other => Error::Protocol { host, what, reason: crate::error::clean(&other.to_string()) },
    }
}

fn tls_failure(error: &rustls::Error, host: String, what: String) -> Error {
    match error {
        rustls::Error::InvalidMessage(_) => Error::NotTls { host },
        rustls::Error::InvalidCertificate(_) if error.to_string().contains("CaUsedAsEndEntity") => {
            Error::AuthorityAsServer { host }
        }
        rustls::Error::InvalidCertificate(_) => {
            Error::Certificate { host, reason: error.to_string(), cure: tls::cure(error) }
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => Error::WantsClient { host },
        _ => Error::Unreachable { host, what, reason: format!("TLS: {error}"), transient: false },
    }
}

/// Reads a small body whole, as far as it is not too long.
pub(crate) fn read_bounded(response: &mut Response<Body>, limit: u64) -> Result<Vec<u8>, io::Error> {
    let mut bytes = Vec::new();
    response.body_mut().as_reader().take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A status that was not expected, in the words that it deserves.
pub(crate) fn status_failure(answer: Answer, what: &str) -> Error {
    const MOST_BODY: u64 = 16 * 1024;
    let Answer { url, mut response } = answer;
    let (host, what) = (host(&url), what.to_owned());
    let header = |name: &str| {
        response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    let kind = header("content-type");
    let retry_after = crate::retry::retry_after(&header("retry-after"), std::time::SystemTime::now());
    let body = read_bounded(&mut response, MOST_BODY).unwrap_or_default();
    let detail = crate::error::Detail::of(&body, &kind);
    match response.status() {
        StatusCode::UNAUTHORIZED => Error::Unauthorized { host, what, detail },
        StatusCode::FORBIDDEN => Error::Denied { host, what, detail },
        StatusCode::NOT_FOUND => Error::NotFound { host, what, detail },
        // What Go's server says, and nginx.
        StatusCode::BAD_REQUEST if url.scheme() == "http" && body.windows(5).any(|word| word == b"HTTPS") => {
            Error::WantsTls { host }
        }
        status => Error::Status { host, what, status: status.as_u16(), detail, retry_after },
    }
}
