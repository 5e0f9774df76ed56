//! Pulling: names become digests, digests become bytes that are what they say.

use std::cell::Cell;
use std::io::{Read, Write};

use oci_spec::distribution::Reference;
use oci_spec::image::{Descriptor, Digest, MediaType};
use serde::Deserialize;
use ureq::http::header::{
    ACCEPT, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, RANGE,
};
use ureq::http::{Method, Response, StatusCode};
use ureq::{Body, Timeout};

use crate::auth::Scope;
use crate::client::{Answer, host};
use crate::endpoint::{Call, Endpoint, Target, Use};
use crate::verify::{Hasher, checkable, sha256};
use crate::{Error, Registry};

/// The size up to which a manifest is taken, in bytes; that of the specification.
pub const MAX_MANIFEST: u64 = 4 << 20;

/// What is taken as a manifest.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// A manifest or an index, as a registry has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// What it is.
    pub media_type: MediaType,
    /// Of its bytes.
    pub digest: Digest,
    /// As they came.
    pub bytes: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Typed {
    media_type: Option<String>,
}

impl Registry {
    /// The manifest or index of a reference, of its digest where it has one.
    ///
    /// # Errors
    /// Where it is not there, longer than [`MAX_MANIFEST`], or other than its digest says.
    pub fn manifest(&self, reference: &Reference) -> Result<Manifest, Error> {
        let what = manifest_words(reference);
        let expected = reference.digest().map(|digest| checkable(digest, &what)).transpose()?;
        self.with(Use::Resolve, &Cell::new(0), |endpoint| {
            let Answer { url, mut response } = ask(endpoint, Method::GET, reference, &what)?;
            let promised = expected.clone().or_else(|| promised(&response));
            let mut bytes = Vec::new();
            let mut body = response.body_mut().as_reader().take(MAX_MANIFEST + 1);
            let host = || host(&url);
            body.read_to_end(&mut bytes)
                .map_err(|error| cut(&error, &host(), &what, bytes.len() as u64, None))?;
            if bytes.len() as u64 > MAX_MANIFEST {
                return Err(Error::TooLarge { host: host(), what: what.clone(), limit: MAX_MANIFEST });
            }
            let found = sha256(&bytes);
            if let Some(promised) = promised.filter(|promised| promised.to_string() != found) {
                let expected = promised.to_string();
                return Err(Error::Digest { host: host(), what: what.clone(), found, expected });
            }
            Ok(Manifest {
                media_type: media_type(&response, &bytes),
                digest: checkable(&found, &what)?,
                bytes,
            })
        })
    }

    /// What a reference stands for now, without pulling it; nothing where the registry has no such thing.
    ///
    /// # Errors
    /// Where the registry does not say it.
    pub fn resolve(&self, reference: &Reference) -> Result<Option<Descriptor>, Error> {
        let what = manifest_words(reference);
        let found = self.with(Use::Resolve, &Cell::new(0), |endpoint| {
            let Answer { response, .. } = ask(endpoint, Method::HEAD, reference, &what)?;
            let size = header(&response, CONTENT_LENGTH.as_str()).and_then(|size| size.parse().ok());
            let whole = promised(&response).zip(size);
            Ok(whole.map(|(digest, size)| Descriptor::new(media_type(&response, &[]), size, digest)))
        });
        match found {
            Ok(Some(found)) => Ok(Some(found)),
            // Some registries say less in answer to HEAD.
            Ok(None) => self.manifest(reference).map(|manifest| {
                Some(Descriptor::new(manifest.media_type, manifest.bytes.len() as u64, manifest.digest))
            }),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a blob of a reference's repository. A body that breaks off is gone on with where it ended.
    ///
    /// # Errors
    /// Where it is not there, of another size or digest than the descriptor says, or cannot be written. What was written by
    /// then is to be thrown away.
    pub fn blob(&self, reference: &Reference, blob: &Descriptor, into: &mut dyn Write) -> Result<(), Error> {
        let what = blob_words(blob, reference);
        let expected = checkable(blob.digest().as_ref(), &what)?.to_string();
        let received = Cell::new(0);
        let mut hasher = Hasher::default();
        self.with(Use::Pull, &received, |endpoint| {
            let mut download = Download { blob, what: &what, received: &received, hasher: &mut hasher, into };
            let answer = download.ask(endpoint, reference)?;
            download.receive(answer, self)?;
            let found = hasher.clone().finish();
            if found == expected {
                return Ok(());
            }
            Err(Error::Digest {
                host: endpoint.host(),
                what: what.clone(),
                found,
                expected: expected.clone(),
            })
        })
    }
}

/// A blob on its way.
struct Download<'a> {
    blob: &'a Descriptor,
    what: &'a str,
    received: &'a Cell<u64>,
    hasher: &'a mut Hasher,
    into: &'a mut dyn Write,
}

impl Download<'_> {
    fn ask(&self, endpoint: &Endpoint, reference: &Reference) -> Result<Answer, Error> {
        let mut headers = HeaderMap::new();
        if self.received.get() > 0 {
            let range = format!("bytes={}-{}", self.received.get(), self.blob.size() - 1);
            headers.extend(HeaderValue::from_str(&range).ok().map(|range| (RANGE, range)));
        }
        endpoint.send(&Call {
            method: Method::GET,
            target: Target::Path(&format!("{}/blobs/{}", reference.repository(), self.blob.digest())),
            headers,
            body: None,
            scope: &Scope::pull(reference.repository()),
            what: self.what,
        })
    }

    /// Takes over what is new in a body, which begins where it was asked to, or at the blob's beginning.
    fn receive(&mut self, mut answer: Answer, registry: &Registry) -> Result<(), Error> {
        let at = host(&answer.url);
        let mut skip = self.already_there(&answer)?;
        let mut body = answer.response.body_mut().as_reader();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(_) if skip == 0 && self.received.get() == self.blob.size() => break,
                Err(error) => return Err(self.cut(&error, &at)),
            };
            let old = skip.min(read as u64);
            skip -= old;
            let new = &buffer[old as usize..read];
            if self.received.get() + new.len() as u64 > self.blob.size() {
                return Err(Error::TooLarge {
                    host: at,
                    what: self.what.to_owned(),
                    limit: self.blob.size(),
                });
            }
            self.into.write_all(new).map_err(|source| Error::Store { what: self.what.to_owned(), source })?;
            self.hasher.update(new);
            self.received.set(self.received.get() + new.len() as u64);
            registry.watch.moved(self.blob.digest().as_ref(), new.len() as u64);
        }
        if self.received.get() < self.blob.size() || skip > 0 {
            let end = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the body ended there");
            return Err(self.cut(&end, &at));
        }
        Ok(())
    }

    /// How much of a body is already written.
    fn already_there(&self, answer: &Answer) -> Result<u64, Error> {
        if answer.response.status() != StatusCode::PARTIAL_CONTENT {
            return Ok(self.received.get());
        }
        let range = header(&answer.response, CONTENT_RANGE.as_str()).unwrap_or_default();
        let start =
            range.strip_prefix("bytes ").and_then(|range| range.split_once('-')?.0.parse::<u64>().ok());
        match start {
            Some(start) if start <= self.received.get() => Ok(self.received.get() - start),
            _ => Err(Error::Answer {
                host: host(&answer.url),
                what: self.what.to_owned(),
                found: format!("the range {:?}", crate::error::clean(range)),
                expected: format!("one from byte {}", self.received.get()),
            }),
        }
    }

    fn cut(&self, error: &std::io::Error, host: &str) -> Error {
        cut(error, host, self.what, self.received.get(), Some(self.blob.size()))
    }
}

fn ask(endpoint: &Endpoint, method: Method, reference: &Reference, what: &str) -> Result<Answer, Error> {
    let name = reference.digest().or(reference.tag()).unwrap_or("latest");
    endpoint.send(&Call {
        method,
        target: Target::Path(&format!("{}/manifests/{name}", reference.repository())),
        headers: [(ACCEPT, HeaderValue::from_static(MANIFESTS))].into_iter().collect(),
        body: None,
        scope: &Scope::pull(reference.repository()),
        what,
    })
}

/// A body that broke off, or fell silent.
fn cut(error: &std::io::Error, host: &str, what: &str, received: u64, expected: Option<u64>) -> Error {
    let (host, what, reason) = (host.to_owned(), what.to_owned(), error.to_string());
    match error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>()) {
        Some(ureq::Error::Timeout(Timeout::PerRead)) => Error::Silent { host, what, reason },
        _ => Error::Cut { host, what, received, expected: expected.unwrap_or(received), reason },
    }
}

/// The digest that an answer says it has, where it can be checked.
fn promised(response: &Response<Body>) -> Option<Digest> {
    header(response, "docker-content-digest").and_then(|digest| checkable(digest, "").ok())
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

/// What a manifest is: as the registry says, or, where it says something general, as the manifest says.
fn media_type(response: &Response<Body>, bytes: &[u8]) -> MediaType {
    let said = header(response, CONTENT_TYPE.as_str())
        .and_then(|said| said.split(';').next())
        .unwrap_or_default()
        .trim();
    if said.starts_with("application/vnd.") {
        return MediaType::from(said);
    }
    let own = serde_json::from_slice::<Typed>(bytes).ok().and_then(|typed| typed.media_type);
    MediaType::from(own.as_deref().unwrap_or(said))
}

fn manifest_words(reference: &Reference) -> String {
    format!("{} of {}", reference.digest().or(reference.tag()).unwrap_or("latest"), reference.repository())
}

pub(crate) fn blob_words(blob: &Descriptor, reference: &Reference) -> String {
    format!("blob {} of {}", blob.digest(), reference.repository())
}
