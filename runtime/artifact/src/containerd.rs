//! What containerd is asked, over gRPC.

use std::path::{Path, PathBuf};

use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::images_client::ImagesClient;
use containerd_client::services::v1::introspection_client::IntrospectionClient;
use containerd_client::services::v1::{
    GetContainerRequest, GetImageRequest, ListImagesRequest, PluginsRequest,
};
use containerd_client::tonic::metadata::{Ascii, MetadataValue};
use containerd_client::tonic::transport::{self, Channel};
use containerd_client::tonic::{Code, Request, Status};
use serde::Deserialize;
use wisp_contract::digest::Digest;

/// The extension of a container's record in which the CRI plugin keeps what it made the container from.
const CRI_METADATA: &str = "io.cri-containerd.container.metadata";

/// Why containerd gave no answer that could be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket.
    #[error("no connection: {0}")]
    Connect(String),
    /// A call failed.
    #[error("{0} ({1:?})")]
    Call(String, Code),
    /// The namespace cannot be sent.
    #[error("the namespace {0:?} has characters that no namespace has")]
    Namespace(String),
    /// The record of the container.
    #[error("the container's {CRI_METADATA} cannot be read")]
    Metadata(#[source] serde_json::Error),
    /// The content store is elsewhere.
    #[error(
        "its content store is not on this node's disk, where Wasm layers are read; use containerd's own content store, or an \
         image with the Wasm in its root file system"
    )]
    NoStore,
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Call(status.message().to_owned(), status.code())
    }
}

impl From<transport::Error> for Error {
    fn from(error: transport::Error) -> Self {
        // What the operating system said is the innermost; the rest says "transport error".
        let mut innermost: &dyn std::error::Error = &error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        Self::Connect(innermost.to_string())
    }
}

/// A connection, in one namespace.
#[derive(Debug)]
pub struct Containerd {
    channel: Channel,
    namespace: MetadataValue<Ascii>,
}

/// The image that a container was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The digest of its configuration, by which CRI knows images.
    pub config: Digest,
    /// The digest in the reference that the user gave, if it has one.
    pub reference: Option<Digest>,
}

impl Asked {
    /// Reads the CRI plugin's metadata of a container; `None` where it names no image.
    ///
    /// # Errors
    /// If it has another form than containerd's 1.7 to 2.4.
    pub fn parse(json: &[u8]) -> Result<Option<Self>, serde_json::Error> {
        let Versioned { metadata } = serde_json::from_slice(json)?;
        let reference = metadata.config.image.user_specified_image;
        let reference = reference.rsplit_once('@').and_then(|(_, digest)| digest.parse().ok());
        Ok(metadata.image_ref.parse().ok().map(|config| Self { config, reference }))
    }
}

/// See containerd's `internal/cri/store/container/metadata.go`.
#[derive(Debug, Deserialize)]
struct Versioned {
    #[serde(rename = "Metadata")]
    metadata: Metadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    #[serde(rename = "ImageRef")]
    image_ref: String,
    #[serde(rename = "Config")]
    config: ContainerConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerConfig {
    image: ImageSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ImageSpec {
    user_specified_image: String,
}

impl Containerd {
    /// Connects to containerd's gRPC socket.
    ///
    /// # Errors
    /// If nobody listens there.
    pub async fn connect(socket: &Path, namespace: &str) -> Result<Self, Error> {
        let namespace = namespace.parse().map_err(|_| Error::Namespace(namespace.into()))?;
        Ok(Self { channel: containerd_client::connect(socket).await?, namespace })
    }

    /// The image that a container was made from; `None` if it was not CRI that made the container.
    ///
    /// # Errors
    /// If there is no such container.
    pub async fn asked_image(&self, id: &str) -> Result<Option<Asked>, Error> {
        let request = self.request(GetContainerRequest { id: id.into() });
        let answer = ContainersClient::new(self.channel.clone()).get(request).await?.into_inner();
        let mut extensions = answer.container.unwrap_or_default().extensions;
        let Some(metadata) = extensions.remove(CRI_METADATA) else { return Ok(None) };
        Asked::parse(&metadata.value).map_err(Error::Metadata)
    }

    /// What an image's name leads to now; `None` if there is no such image.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn image(&self, name: &str) -> Result<Option<Digest>, Error> {
        let request = self.request(GetImageRequest { name: name.into() });
        match ImagesClient::new(self.channel.clone()).get(request).await {
            Ok(answer) => Ok(answer.into_inner().image.and_then(target)),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status.into()),
        }
    }

    /// What the names of all images lead to, each once.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn images(&self) -> Result<Vec<Digest>, Error> {
        let request = self.request(ListImagesRequest::default());
        let answer = ImagesClient::new(self.channel.clone()).list(request).await?.into_inner();
        let mut targets: Vec<_> = answer.images.into_iter().filter_map(target).collect();
        targets.sort_unstable_by_key(|digest| digest.0);
        targets.dedup();
        Ok(targets)
    }

    /// The folder of the content store.
    ///
    /// # Errors
    /// If the store is not containerd's own.
    pub async fn content_root(&self) -> Result<PathBuf, Error> {
        let filters = vec!["type==io.containerd.content.v1,id==content".to_owned()];
        let request = Request::new(PluginsRequest { filters });
        let answer = IntrospectionClient::new(self.channel.clone()).plugins(request).await?.into_inner();
        let root = answer.plugins.into_iter().find_map(|mut plugin| plugin.exports.remove("root"));
        root.map(PathBuf::from).filter(|root| root.is_dir()).ok_or(Error::NoStore)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("containerd-namespace", self.namespace.clone());
        request
    }
}

fn target(image: containerd_client::services::v1::Image) -> Option<Digest> {
    image.target?.digest.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cris_metadata_names_the_image_by_digest() {
        let (config, reference) = (Digest([1; 32]), Digest([2; 32]));
        let name = format!("registry.test/app@{reference}");
        let metadata = json!({"Version": "v1", "Metadata": {"ID": "x", "ImageRef": config, "Config":
            {"image": {"image": config, "user_specified_image": name}, "command": ["/app.wasm"]}}});
        let asked = Asked::parse(metadata.to_string().as_bytes()).unwrap();
        assert_eq!(asked, Some(Asked { config, reference: Some(reference) }));

        let by_tag =
            json!({"Metadata": {"ImageRef": config, "Config": {"image": {"user_specified_image": "app:1"}}}});
        assert_eq!(
            Asked::parse(by_tag.to_string().as_bytes()).unwrap(),
            Some(Asked { config, reference: None })
        );
    }

    #[test]
    fn metadata_without_an_image_is_none_and_other_bytes_are_an_error() {
        assert_eq!(Asked::parse(br#"{"Metadata":{"ImageRef":"app:1"}}"#).unwrap(), None);
        for bytes in [&b""[..], b"{}", b"[1]"] {
            Asked::parse(bytes).unwrap_err();
        }
    }
}
