//! Components without the detour that `wit-component` gives to calls of the host.
//!
//! A call that passes more than numbers needs the program's memory, which there is only once the program's module has an instance; and
//! an instance needs its imports first. `wit-component` therefore makes three modules of one:
//!
//! - the *shim* exports a function for each such import, which calls what is in a slot of the shim's table;
//! - the program's module imports these;
//! - the *fixup* fills the table, when there is a memory and so the functions of the host.
//!
//! Each instance costs the time to make it and a reference to each function that it exports, which a service pays with each request.
//! [`without`] gives the program's module the shim's table, and functions that call through it in place of the imports: the shim is gone,
//! and the fixup fills the other table. What the program can do and see stays the same.

mod component;
mod module;
mod shape;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use wasm_encoder::reencode;
use wasmparser::{Chunk, Parser, Payload, TableType};

/// A component is not of the form that is known here; it is compiled as it is, so nobody is told.
#[derive(Debug)]
struct Unknown;

type Error = reencode::Error<Unknown>;
type Result<T> = std::result::Result<T, Error>;

/// The component without its shim; `None` where it is not exactly of the form that is known here.
pub(crate) fn without(wasm: &[u8]) -> Option<Vec<u8>> {
    let sections = sections(wasm)?;
    let detour = shape::find(wasm, &sections)?;
    component::rewrite(wasm, &sections, &detour).ok()
}

/// What is to be taken out of a component; indices are those of the outermost component.
#[derive(Debug)]
struct Detour {
    shim_module: u32,
    shim_instance: u32,
    /// The name by which the shim exports its table.
    table_name: String,
    table: TableType,
    main_module: u32,
    main_instance: u32,
    /// Core functions that are exports of the shim, each with its slot in the table.
    functions: BTreeMap<u32, u32>,
    /// The imports of the program's module that are such functions, each with its slot.
    imports: BTreeMap<(String, String), u32>,
}

/// The sections of the outermost component; what is nested in it is one section each.
fn sections(wasm: &[u8]) -> Option<Vec<Payload<'_>>> {
    let mut parser = Parser::new(0);
    let (mut sections, mut rest) = (Vec::new(), wasm);
    while !rest.is_empty() {
        let Chunk::Parsed { consumed, payload } = parser.parse(rest, true).ok()? else { return None };
        rest = &rest[consumed..];
        if let Payload::ModuleSection { unchecked_range, .. }
        | Payload::ComponentSection { unchecked_range, .. } = &payload
        {
            rest = rest.get(unchecked_range.len()..)?;
        }
        sections.push(payload);
    }
    Some(sections)
}
