//! Pushing: blobs first, then the manifest that names them.

use std::cell::Cell;
use std::io::{self, Cursor, Read};
use std::sync::Arc;

use oci_spec::distribution::Reference;
use oci_spec::image::{Descriptor, Digest, MediaType};
use ureq::http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use ureq::http::{Method, StatusCode};
use url::Url;
use url::form_urlencoded::Serializer;

use crate::auth::Scope;
use crate::client::{Answer, Source, host, location};
use crate::endpoint::{Call, Endpoint, Target, Use};
use crate::pull::blob_words;
use crate::verify::{checkable, sha256};
use crate::{Error, Registry, Watch};

impl Registry {
    /// Whether a reference's repository has a blob already.
    ///
    /// # Errors
    /// Where the registry does not say it.
    pub fn has_blob(&self, reference: &Reference, blob: &Descriptor) -> Result<bool, Error> {
        let upload = Upload::new(self, reference, blob, None);
        self.with(Use::Push, &Cell::new(0), |endpoint| upload.is_there(endpoint))
    }

    /// Sends a blob, unless the repository has it, or can take it over from another one of the same registry. `open` gives
    /// the blob from its beginning, and is called again for each attempt.
    ///
    /// # Errors
    /// Where the registry does not take it, or it cannot be read.
    pub fn push_blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        open: &dyn Fn() -> io::Result<Box<dyn Read>>,
        from: Option<&str>,
    ) -> Result<(), Error> {
        let upload = Upload::new(self, reference, blob, from);
        self.with(Use::Push, &Cell::new(0), |endpoint| {
            if upload.is_there(endpoint)? {
                return Ok(());
            }
            match upload.begin(endpoint)? {
                Some(session) => upload.send(endpoint, session, open),
                None => Ok(()),
            }
        })
    }

    /// Puts a manifest or an index under a reference's tag, or under its digest where it has no tag. What it names has to be
    /// there. Answers its digest.
    ///
    /// # Errors
    /// Where the registry does not take it, or takes it for something else.
    pub fn push_manifest(
        &self,
        reference: &Reference,
        media_type: &MediaType,
        bytes: &[u8],
    ) -> Result<Digest, Error> {
        let digest = sha256(bytes);
        let name = reference.tag().unwrap_or(&digest);
        let what = format!("the manifest {name} of {}", reference.repository());
        let checked = checkable(&digest, &what)?;
        let open = || Ok(Box::new(Cursor::new(bytes.to_vec())) as Box<dyn Read>);
        let source = Source { open: &open, size: bytes.len() as u64 };
        let kind = HeaderValue::from_str(media_type.as_ref()).map_err(|_| Error::Name {
            name: media_type.to_string(),
            reason: "expected a media type".to_owned(),
        })?;
        let call = Call {
            method: Method::PUT,
            target: Target::Path(&format!("{}/manifests/{name}", reference.repository())),
            headers: [(CONTENT_TYPE, kind)].into_iter().collect(),
            body: Some(&source),
            scope: &Scope::push(reference.repository(), None),
            what: &what,
        };
        self.with(Use::Push, &Cell::new(0), |endpoint| {
            let Answer { url, response } = endpoint.send(&call)?;
            let found = response.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
            match found.filter(|found| found.starts_with("sha256:") && **found != digest) {
                Some(found) => Err(Error::Digest {
                    host: host(&url),
                    what: what.clone(),
                    found: crate::error::clean(found),
                    expected: digest.clone(),
                }),
                None => Ok(checked.clone()),
            }
        })
    }
}

/// A blob to be sent.
struct Upload<'a> {
    repository: &'a str,
    blob: &'a Descriptor,
    digest: String,
    from: Option<&'a str>,
    scope: Scope,
    what: String,
    watch: Arc<dyn Watch>,
}

impl<'a> Upload<'a> {
    fn new(
        registry: &Registry,
        reference: &'a Reference,
        blob: &'a Descriptor,
        from: Option<&'a str>,
    ) -> Self {
        Self {
            repository: reference.repository(),
            blob,
            digest: blob.digest().to_string(),
            from,
            scope: Scope::push(reference.repository(), from),
            what: blob_words(blob, reference),
            watch: registry.watch.clone(),
        }
    }

    fn call<'b>(&'b self, method: Method, target: Target<'b>) -> Call<'b> {
        Call { method, target, headers: HeaderMap::new(), body: None, scope: &self.scope, what: &self.what }
    }

    fn is_there(&self, endpoint: &Endpoint) -> Result<bool, Error> {
        let path = format!("{}/blobs/{}", self.repository, self.digest);
        match endpoint.send(&self.call(Method::HEAD, Target::Path(&path))) {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Where to send the blob to; nowhere if the registry took it over from the other repository.
    fn begin(&self, endpoint: &Endpoint) -> Result<Option<Url>, Error> {
        let mut path = format!("{}/blobs/uploads/", self.repository);
        if let Some(from) = self.from {
            let mut query = Serializer::new(String::new());
            query.append_pair("mount", &self.digest).append_pair("from", from);
            path = format!("{path}?{}", query.finish());
        }
        let Answer { url, response } = endpoint.send(&self.call(Method::POST, Target::Path(&path)))?;
        if response.status() == StatusCode::CREATED && self.from.is_some() {
            return Ok(None);
        }
        let session = location(&url, &response).ok_or_else(|| Error::Answer {
            host: host(&url),
            what: self.what.clone(),
            found: "no Location".to_owned(),
            expected: "one to send the blob to".to_owned(),
        })?;
        match (url.scheme(), session.scheme()) {
            (_, "https") | ("http", "http") => Ok(Some(session)),
            _ => Err(Error::Redirect {
                host: host(&url),
                what: self.what.clone(),
                reason: "to an address without TLS, which is not followed".to_owned(),
            }),
        }
    }

    fn send(
        &self,
        endpoint: &Endpoint,
        mut session: Url,
        open: &dyn Fn() -> io::Result<Box<dyn Read>>,
    ) -> Result<(), Error> {
        session.query_pairs_mut().append_pair("digest", &self.digest);
        let open = || {
            let inner = open().map_err(|source| Error::Source { what: self.what.clone(), source })?;
            let (watch, digest) = (self.watch.clone(), self.digest.clone());
            Ok(Box::new(Told { inner, watch, digest }) as Box<dyn Read>)
        };
        let source = Source { open: &open, size: self.blob.size() };
        let octets = HeaderValue::from_static("application/octet-stream");
        let call = Call {
            headers: [(CONTENT_TYPE, octets)].into_iter().collect(),
            body: Some(&source),
            ..self.call(Method::PUT, Target::Url(session))
        };
        endpoint.send(&call).map(drop)
    }
}

/// A reader that tells of each byte that it gives.
struct Told {
    inner: Box<dyn Read>,
    watch: Arc<dyn Watch>,
    digest: String,
}

impl Read for Told {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.watch.moved(&self.digest, read as u64);
        Ok(read)
    }
}
