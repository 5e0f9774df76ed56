//! Facts about a program, written once by `wisp-compiler` beside its compiled code and read by everything else in place
//! of the Wasm itself.

use serde::{Deserialize, Serialize};

/// What a program is. All sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// What runs by default.
    pub kind: Kind,
    /// The engine profile that the code was compiled for, by name (`wisp-engine` knows them).
    pub profile: String,
    /// The version of Wasmtime that compiled the code.
    pub wasmtime: String,
    /// What the program asks of its host: `module::name` for a module, interface names for a component.
    pub imports: Vec<String>,
    /// What the program offers, each with its signature where it is a function.
    pub exports: Vec<Export>,
    /// The linear memories that one instance has.
    pub memories: Vec<Memory>,
    /// The elements of the largest table at its start.
    #[serde(default)]
    pub table_elements: u64,
    /// Core instances that one instance of the program makes; 1 for a module.
    #[serde(default)]
    pub core_instances: u32,
    /// The size of the Wasm.
    pub wasm_bytes: u64,
    /// The size of the compiled code.
    pub code_bytes: u64,
}

/// What runs when the entrypoint names a program and no export of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A core module that exports `_start` (WASI 0.1).
    Module,
    /// A component that exports `wasi:cli/run` of 0.2.
    Command02,
    /// A component that exports `wasi:cli/run` of 0.3.
    Command03,
    /// A component that exports `wasi:http/incoming-handler` (0.2).
    Http02,
    /// A component that exports `wasi:http/handler` (0.3).
    Http03,
    /// A core module with nothing to run by default: an export must be named.
    ModuleLibrary,
    /// A component with nothing to run by default: an export must be named.
    ComponentLibrary,
}

impl Kind {
    /// Whether the program is a core module (and not a component).
    #[must_use]
    pub fn is_module(self) -> bool {
        matches!(self, Self::Module | Self::ModuleLibrary)
    }

    /// Whether the program serves HTTP.
    #[must_use]
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http02 | Self::Http03)
    }
}

/// One export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {
    /// `name` of a module or component, or `ns:pkg/iface.func` of a component.
    pub name: String,
    /// The signature in WIT's words, for functions.
    #[serde(default)]
    pub signature: Option<String>,
}

/// One linear memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Its size at the start.
    pub minimum: u64,
    /// The size that it declares it will never exceed.
    pub maximum: Option<u64>,
}
