//! What Wisp's processes say to each other, and nothing else.
//!
//! - [`plan`]: what `wisp-runtime` tells the guest process to run, and what the guest process reports back.
//! - [`facts`]: what `wisp-compiler` found in a program; kept beside the compiled code.
//! - [`given`]: what of a program's imports there is for it.
//! - [`control`]: the requests that a running guest process answers on its socket.
//! - [`counters`]: the page of figures that a guest process keeps and that others read without waking it.
//! - [`artifact`]: which Wasm layers the image of a container has.
//! - [`digest`]: the SHA-256 of some bytes, as images name it.
//! - [`companion`]: where the binaries of one installation find each other.
//!
//! Every message is JSON in which unknown fields are ignored and new ones have defaults, so that a guest process of
//! the previous minor release still understands the runtime that replaced its own, and the other way round.

pub mod artifact;
pub mod companion;
pub mod control;
pub mod counters;
pub mod digest;
pub mod facts;
pub mod given;
pub mod plan;
