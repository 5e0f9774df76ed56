//! What is known of a program: what `--json` prints, and what the text is made from.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

use anyhow::Result;
use serde::Serialize;
use sha2::Digest as _;
use sha2::Sha256;
use wisp_cache::Cache;
use wisp_config::Config;
use wisp_contract::digest::Digest;
use wisp_contract::facts::{Export, Facts, Kind, Memory};
use wisp_contract::given;
use wisp_reader::{Part, Table};

use super::wit;

/// A program. All sizes are in bytes; fields are added and never taken away.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// What runs by default.
    pub(super) kind: Kind,
    /// `sha256:…` of the Wasm.
    pub(super) digest: String,
    /// The size of the Wasm.
    pub(super) wasm_bytes: u64,
    /// What it asks of its host.
    pub(super) imports: Vec<Import>,
    /// What it offers.
    pub(super) exports: Vec<Export>,
    /// The memories of one instance.
    pub(super) memories: Vec<Memory>,
    /// The tables of one instance.
    pub(super) tables: Vec<Table>,
    /// Core instances that one instance of it makes.
    pub(super) core_instances: u32,
    /// Names and versions of the tools that made it, under `language`, `processed-by` and `sdk`.
    pub(super) producers: BTreeMap<String, BTreeSet<String>>,
    /// Its sections, largest first.
    pub(super) sections: Vec<Part>,
    /// The interfaces of a component.
    pub(super) wit: Option<String>,
    /// Why there is no WIT of a component.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) wit_error: Option<String>,
    /// Its compiled code, if the cache has it.
    pub(super) compiled: Option<Compiled>,
    /// Why the cache could not be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cache_error: Option<String>,
}

/// One import.
#[derive(Debug, Serialize)]
pub(crate) struct Import {
    /// `module::name` of a module, an interface's name of a component.
    pub(super) name: String,
    /// The type of a module's import.
    pub(super) signature: Option<String>,
    /// Whether Wisp gives it.
    pub(super) given: bool,
}

/// Compiled code in the cache.
#[derive(Debug, Serialize)]
pub(crate) struct Compiled {
    /// Its size.
    pub(super) code_bytes: u64,
    /// The engine profile.
    pub(super) profile: String,
    /// The version of Wasmtime.
    pub(super) wasmtime: String,
}

impl Report {
    /// Reads a program, and asks the cache for what is in `file`.
    pub(super) fn of(wasm: &[u8], file: &mut File) -> Result<Self> {
        wisp_reader::unless_wasm(wasm)?;
        let refuse = |error| wisp_reader::invalid(wasm, &error);
        let program = wisp_reader::read(wasm, wisp_reader::features()).map_err(refuse)?;
        let parts = wisp_reader::parts(wasm).map_err(refuse)?;
        let facts = program.facts;
        let is_module = facts.kind.is_module();
        let is_given = if is_module { given::to_modules } else { given::to_components };
        let (wit, wit_error) = if is_module { (None, None) } else { split(wit::of(wasm).map(Some)) };
        let (compiled, cache_error) = split(compiled(file));
        Ok(Self {
            kind: facts.kind,
            digest: Digest(Sha256::digest(wasm).into()).to_string(),
            wasm_bytes: facts.wasm_bytes,
            imports: program
                .imports
                .into_iter()
                .map(|import| Import {
                    given: is_given(&import.name),
                    name: import.name,
                    signature: import.signature,
                })
                .collect(),
            exports: facts.exports,
            memories: facts.memories,
            tables: program.tables,
            core_instances: facts.core_instances,
            producers: parts.producers,
            sections: parts.sections,
            wit,
            wit_error,
            compiled,
            cache_error,
        })
    }
}

/// The code that the node's cache has of a program, or of one's own who is not root.
fn compiled(file: &mut File) -> Result<Option<Compiled>> {
    let known = Cache::of(&Config::load()?)?.known(file)?;
    Ok(known.map(|Facts { code_bytes, profile, wasmtime, .. }| Compiled { code_bytes, profile, wasmtime }))
}

/// What there is, and else the sentence why not.
fn split<T>(result: Result<Option<T>>) -> (Option<T>, Option<String>) {
    match result {
        Ok(found) => (found, None),
        Err(error) => (None, Some(format!("{error:#}"))),
    }
}
