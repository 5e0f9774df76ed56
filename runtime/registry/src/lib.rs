//! A client of OCI registries ([the distribution specification][spec]): it resolves names, and pulls and pushes manifests and
//! blobs. It knows nothing of a local store, and prints nothing.
//!
//! Whatever a registry sends is bounded and checked: a manifest to [`MAX_MANIFEST`] bytes, a blob to the size and digest of its
//! descriptor. Whatever a network does is tried again a bounded number of times ([`Patience`]), and told ([`Watch`]).
//!
//! [spec]: https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md

mod auth;
mod challenge;
mod client;
mod credentials;
mod endpoint;
mod error;
mod file;
mod hosts;
mod options;
mod package;
mod pull;
mod push;
mod registry;
mod retry;
mod tls;
mod verify;

pub use challenge::Challenge;
pub use credentials::{Credential, Credentials, Kept};
pub use error::{Detail, Error};
pub use options::{Options, Patience, Silent, Watch};
pub use package::Package;
pub use pull::{MAX_MANIFEST, Manifest};
pub use registry::Registry;
