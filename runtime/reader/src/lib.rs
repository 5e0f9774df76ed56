//! What a Wasm program is, read from its bytes without compiling it.
//!
//! - [`read`] gives its kind, imports, exports and demands; `wisp-compiler` keeps them beside the code ([`Program::facts`]).
//!   [`read_from`] gives the same of a program that is not in memory.
//! - [`parts`] says what the program's bytes are spent on and which tools made it.
//! - [`unless_wasm`] and [`invalid`] say in one sentence why something is refused.
//!
//! Programs are hostile: what is kept of them is bounded, whatever they say of themselves.

mod facts;
mod parts;
mod refuse;
mod signature;
mod stream;

pub use facts::{Import, Program, Table, read};
pub use parts::{Part, Parts, parts};
pub use refuse::{Refused, invalid, unless_wasm};
pub use stream::{Unread, read_from};
pub use wasmparser::WasmFeatures;

/// The features of WebAssembly that programs may use here: those that every engine profile has on.
#[must_use]
pub fn features() -> WasmFeatures {
    WasmFeatures::default().difference(WasmFeatures::THREADS)
}
