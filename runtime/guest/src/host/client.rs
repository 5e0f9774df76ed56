//! Outgoing HTTP: one client for the process, with connections that are kept and HTTP/2 where the server speaks it.

use std::error::Error as StdError;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

/// How long a connection is kept for the next request to the same server.
const KEPT_FOR: Duration = Duration::from_secs(30);
/// How many idle connections to one server are kept.
const KEPT: usize = 8;
/// Each of a request's time limits where the guest sets none.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long a name lookup and a connection may take.
const CONNECT: Duration = Duration::from_secs(60);

type Connections = Pool<HttpsConnector<HttpConnector>, WasiBody>;
type Io = Box<dyn Future<Output = Result<(), Error>> + Send>;

/// The process's HTTP client; clones share its connections.
#[derive(Clone)]
pub(crate) struct Client(Arc<Inner>);

struct Inner {
    /// The guest's `SSL_CERT_FILE`: the only roots to trust, a path in the container.
    roots: Option<String>,
    /// Made at the first request: most guests send none.
    connections: OnceLock<Result<Connections, String>>,
}

impl Client {
    /// A client for a guest with this environment.
    pub(crate) fn new(env: &[(String, String)]) -> Self {
        let roots = env.iter().find(|(name, _)| name == "SSL_CERT_FILE").map(|(_, path)| path.clone());
        Self(Arc::new(Inner { roots: roots.filter(|path| !path.is_empty()), connections: OnceLock::new() }))
    }

    async fn send(
        self,
        request: http::Request<WasiBody>,
        options: RequestOptions,
    ) -> Result<(http::Response<WasiBody>, Io), Error> {
        let connections = self.0.connections.get_or_init(|| connections(self.0.roots.as_deref()));
        let connections = connections.as_ref().map_err(|why| Error::InternalError(Some(why.clone())))?;
        let first_byte = options.first_byte_timeout.unwrap_or(PATIENCE);
        let patience = options.connect_timeout.unwrap_or(CONNECT).saturating_add(first_byte);
        let response = match timeout(patience, connections.request(request)).await {
            Ok(response) => response.map_err(|error| in_wasi_terms(&error))?,
            Err(_) => return Err(Error::ConnectionReadTimeout),
        };
        let between = options.between_bytes_timeout.unwrap_or(PATIENCE);
        let response = response.map(|body| Timed::new(body, between).boxed_unsync());
        // The connection is driven by a task of its own; there is nothing left to wait for.
        Ok((response, Box::new(std::future::ready(Ok(())))))
    }
}

impl WasiHttpHooks for Client {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _response_processed: Io,
    ) -> Box<dyn Future<Output = Result<(http::Response<WasiBody>, Io), Error>> + Send> {
        Box::new(self.clone().send(request, options.unwrap_or_default()))
    }
}

fn connections(roots: Option<&str>) -> Result<Connections, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(root_certificates(roots)?)
        .with_no_client_auth();
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_all_versions()
        .wrap_connector(tcp);
    Ok(Pool::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .pool_idle_timeout(KEPT_FOR)
        .pool_max_idle_per_host(KEPT)
        .build(connector))
}

/// The built-in roots (Mozilla's), or those of the guest's `SSL_CERT_FILE` in their place.
fn root_certificates(file: Option<&str>) -> Result<RootCertStore, String> {
    let Some(file) = file else {
        return Ok(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.into() });
    };
    let pem =
        std::fs::read(file).map_err(|error| format!("SSL_CERT_FILE ({file}) cannot be read: {error}"))?;
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).flatten());
    if added == 0 {
        return Err(format!("SSL_CERT_FILE ({file}) holds no certificate in PEM form"));
    }
    Ok(roots)
}

/// What went wrong on the way to a server, in the words that WASI has for it.
fn in_wasi_terms(error: &hyper_util::client::legacy::Error) -> Error {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(found) = of_cause(error) {
            return found;
        }
        cause = error.source();
    }
    if error.is_connect() { Error::DestinationUnavailable } else { Error::HttpProtocolError }
}

fn of_cause(cause: &(dyn StdError + 'static)) -> Option<Error> {
    if let Some(error) = cause.downcast_ref::<rustls::Error>() {
        return Some(of_tls(error));
    }
    if let Some(error) = cause.downcast_ref::<Error>() {
        // The request's body failed on its way out of the guest.
        return Some(Error::InternalError(Some(error.to_string())));
    }
    // hyper-util's own error around the resolver's, which has no kind.
    if cause.to_string() == "dns error" {
        return Some(Error::DnsError { rcode: Some("NXDOMAIN".into()), info_code: None });
    }
    let error = cause.downcast_ref::<io::Error>()?;
    // I/O errors wrap others (rustls's, twice) and do not call them their source.
    let inner = error.get_ref().and_then(|inner| of_cause(inner));
    Some(inner.unwrap_or_else(|| of_io(error)))
}

fn of_tls(error: &rustls::Error) -> Error {
    match error {
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
            Error::TlsCertificateError
        }
        rustls::Error::AlertReceived(alert) => Error::TlsAlertReceived {
            alert_id: Some(u8::from(*alert)),
            alert_message: Some(format!("{alert:?}")),
        },
        _ => Error::TlsProtocolError,
    }
}

fn of_io(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
        io::ErrorKind::TimedOut => Error::ConnectionTimeout,
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
            Error::ConnectionTerminated
        }
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => Error::DestinationIpUnroutable,
        _ => Error::Connect(io::Error::new(error.kind(), error.to_string())),
    }
}

/// A response's body that fails when the server is silent for too long.
struct Timed {
    body: Incoming,
    patience: Duration,
    silence: Pin<Box<Sleep>>,
}

impl Timed {
    fn new(body: Incoming, patience: Duration) -> Self {
        Self { body, patience, silence: Box::pin(sleep_until(later(patience))) }
    }
}

fn later(patience: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(patience).unwrap_or_else(|| now + PATIENCE)
}

impl Body for Timed {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            let deadline = later(this.patience);
            this.silence.as_mut().reset(deadline);
            return Poll::Ready(frame.map(|frame| frame.map_err(Error::from)));
        }
        this.silence.as_mut().poll(cx).map(|()| Some(Err(Error::ConnectionReadTimeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
