//! One address of a registry: requests go out with its headers and the login that it asks for.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use ureq::http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use ureq::http::{Method, StatusCode};
use url::Url;

use crate::auth::{Authorizer, Scope};
use crate::client::{Answer, Client, Request, Source, host, is_loopback, status_failure};
use crate::hosts::{self, Address};
use crate::{Error, Options};

/// What an address may be asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Use {
    Resolve,
    Pull,
    Push,
}

/// One address of a registry.
#[derive(Debug)]
pub(crate) struct Endpoint {
    address: Address,
    /// The registry's own name, for those that stand in for it.
    namespace: Option<String>,
    headers: HeaderMap,
    client: Client,
    auth: Authorizer,
    down: AtomicBool,
}

/// Where a request goes to.
pub(crate) enum Target<'a> {
    /// A path behind the address, `library/app/blobs/…`.
    Path(&'a str),
    /// An address that the registry named.
    Url(Url),
}

/// A request to whichever address of a registry.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) target: Target<'a>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<&'a Source<'a>>,
    pub(crate) scope: &'a Scope,
    /// What is asked for, for messages.
    pub(crate) what: &'a str,
}

/// All addresses of a registry in the order in which they are tried; its own is the last one.
pub(crate) fn all(name: &str, options: &Options) -> Result<Vec<Endpoint>, Error> {
    let configured = match &options.certs_d {
        Some(folder) => hosts::addresses(folder, name)?,
        None => None,
    };
    let mut addresses = match configured {
        Some(all) => all,
        None => vec![own(name, options)?],
    };
    if let Some(own) = addresses.last_mut().filter(|own| options.plain_http && own.base.scheme() == "https") {
        own.base = parse(name, &own.base.as_str().replacen("https", "http", 1))?;
    }
    addresses.into_iter().map(|address| Endpoint::new(name, address, options)).collect()
}

fn parse(name: &str, address: &str) -> Result<Url, Error> {
    let wrong = |reason: &str| Error::Name { name: name.to_owned(), reason: reason.to_owned() };
    let url = Url::parse(address).map_err(|_| wrong("expected HOST or HOST:PORT"))?;
    let whole = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    if whole { Ok(url) } else { Err(wrong("expected HOST or HOST:PORT and nothing else")) }
}

/// The address of a registry that no file says anything of. A loopback address speaks plain HTTP, as it does to Docker, but on
/// TLS's own port and where a certificate is spoken of.
fn own(name: &str, options: &Options) -> Result<Address, Error> {
    let mut base = parse(name, &format!("{}/v2", hosts::server(name)))?;
    let tls = options.ca.is_some() || options.insecure_skip_verify || name.ends_with(":443");
    if is_loopback(&base) && !tls {
        base = parse(name, &base.as_str().replacen("https", "http", 1))?;
    }
    let (ca, headers) = (Vec::new(), Vec::new());
    Ok(Address { base, resolve: true, pull: true, push: true, ca, client: None, skip_verify: false, headers })
}

impl Endpoint {
    fn new(name: &str, address: Address, options: &Options) -> Result<Self, Error> {
        let server = parse(name, &hosts::server(name))?;
        let is_server = (address.base.host(), address.base.port()) == (server.host(), server.port());
        let ca: Vec<PathBuf> = address.ca.iter().cloned().chain(options.ca.clone()).collect();
        let skips = (address.skip_verify || options.insecure_skip_verify, options.insecure_skip_verify);
        let mut headers = HeaderMap::new();
        for (key, value) in &address.headers {
            let wrong = |_| Error::Name {
                name: name.to_owned(),
                reason: format!("{key:?} in its hosts.toml is no HTTP header with its value"),
            };
            let key = HeaderName::from_bytes(key.as_bytes()).map_err(|error| wrong(error.to_string()))?;
            let value = HeaderValue::from_str(value).map_err(|error| wrong(error.to_string()))?;
            headers.append(key, value);
        }
        let login = if is_server { name.to_owned() } else { host(&address.base) };
        Ok(Self {
            namespace: (!is_server).then(|| name.to_owned()),
            headers,
            client: Client::new(&address.base, &ca, skips, address.client.as_ref(), options.patience)?,
            auth: Authorizer::new(
                login,
                options.credential.clone().filter(|_| is_server),
                options.credentials.clone(),
            ),
            down: AtomicBool::new(false),
            address,
        })
    }

    pub(crate) fn serves(&self, purpose: Use) -> bool {
        match purpose {
            Use::Resolve => self.address.resolve,
            Use::Pull => self.address.pull,
            Use::Push => self.address.push,
        }
    }

    pub(crate) fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// It is not asked again where there is another.
    pub(crate) fn set_down(&self) {
        self.down.store(true, Ordering::Relaxed);
    }

    pub(crate) fn host(&self) -> String {
        host(&self.address.base)
    }

    /// A path of its host, outside of what the distribution specification knows.
    pub(crate) fn at(&self, path: &str) -> Url {
        let mut url = self.address.base.clone();
        url.set_path(path);
        url
    }

    /// The successful answer to a call, after a login where one is asked for.
    pub(crate) fn send(&self, call: &Call<'_>) -> Result<Answer, Error> {
        let url = self.url(&call.target)?;
        let home = url.origin() == self.address.base.origin();
        let known = self.auth.known(call.scope).filter(|_| home);
        let mut answer = self.client.follow(&self.request(call, &url, known))?;
        let asks = answer.response.status() == StatusCode::UNAUTHORIZED;
        if asks && home && answer.url.origin() == url.origin() {
            let login = self.auth.answer(&self.client, answer, call.scope, call.what)?;
            answer = self.client.follow(&self.request(call, &url, Some(login)))?;
        }
        if answer.response.status().is_success() {
            Ok(answer)
        } else {
            Err(status_failure(answer, call.what))
        }
    }

    fn request<'a>(&self, call: &'a Call<'_>, url: &Url, login: Option<HeaderValue>) -> Request<'a> {
        let mut private =
            if url.origin() == self.address.base.origin() { self.headers.clone() } else { HeaderMap::new() };
        private.extend(login.map(|login| (AUTHORIZATION, login)));
        Request {
            method: call.method.clone(),
            url: url.clone(),
            headers: call.headers.clone(),
            private,
            body: call.body,
            what: call.what,
        }
    }

    fn url(&self, target: &Target<'_>) -> Result<Url, Error> {
        let path = match target {
            Target::Url(url) => return Ok(url.clone()),
            Target::Path(path) => path,
        };
        let mut url = Url::parse(&format!("{}/{path}", self.address.base))
            .map_err(|error| Error::Name { name: (*path).to_owned(), reason: error.to_string() })?;
        if let Some(namespace) = &self.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        Ok(url)
    }
}
