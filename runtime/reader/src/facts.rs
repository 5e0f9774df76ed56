//! What is found in a program: its kind, imports, exports and demands.

use serde::Serialize;
use wasmparser::component_types::ComponentEntityType;
use wasmparser::types::{EntityType, Types, TypesRef};
use wasmparser::{
    BinaryReaderError, CompositeInnerType, Encoding, Instance, MemoryType, Parser, Payload, ValidPayload,
    Validator, WasmFeatures,
};
use wisp_contract::facts::{Export, Facts, Kind, Memory};

use crate::signature;

type Result<T> = std::result::Result<T, BinaryReaderError>;

/// What is known of a program.
#[derive(Debug)]
pub struct Program {
    /// What is kept beside its code. What only a compile tells (profile, Wasmtime's version, size of the code) is empty.
    pub facts: Facts,
    /// What it asks of its host; for a module with types.
    pub imports: Vec<Import>,
    /// The tables that one instance has.
    pub tables: Vec<Table>,
}

/// One import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Import {
    /// `module::name` for a module, an interface's name for a component.
    pub name: String,
    /// Its type: a function's signature or what else it is; of a component's interfaces the WIT says more.
    pub signature: Option<String>,
}

/// One table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Table {
    /// Its elements at the start.
    pub minimum: u64,
    /// The elements that it declares it will never exceed.
    pub maximum: Option<u64>,
}

/// Reads everything but function bodies, which the compiler validates when it gets to them.
///
/// # Errors
/// Where the program is not valid WebAssembly of these features.
pub fn read(wasm: &[u8], features: WasmFeatures) -> Result<Program> {
    let mut reading = Reading::new(features);
    for payload in Parser::new(0).parse_all(wasm) {
        reading.take(&payload?)?;
    }
    Ok(reading.end(wasm.len() as u64))
}

/// A program of which payload after payload comes.
pub(crate) struct Reading {
    validator: Validator,
    found: Found,
}

impl Reading {
    pub(crate) fn new(features: WasmFeatures) -> Self {
        Self { validator: Validator::new_with_features(features), found: Found::default() }
    }

    pub(crate) fn take(&mut self, payload: &Payload<'_>) -> Result<()> {
        let valid = self.validator.payload(payload)?;
        self.found.take(payload)?;
        if let ValidPayload::End(types) = valid {
            self.found.end(&types.as_ref());
            self.found.types = Some(types);
        }
        Ok(())
    }

    pub(crate) fn end(self, wasm_bytes: u64) -> Program {
        self.found.into_program(wasm_bytes)
    }
}

#[derive(Default)]
struct Found {
    /// How many modules and components are open around the current payload.
    depth: u32,
    is_component: bool,
    /// Names of the outermost component's imports and exports, in their order.
    imports: Vec<Import>,
    exports: Vec<String>,
    memories: Vec<Memory>,
    tables: Vec<Table>,
    core_instances: u32,
    /// The types of what ended last: in the end, of the whole program.
    types: Option<Types>,
}

impl Found {
    fn take(&mut self, payload: &Payload<'_>) -> Result<()> {
        match payload {
            Payload::Version { encoding, .. } => {
                if self.depth == 0 {
                    self.is_component = *encoding == Encoding::Component;
                }
                self.depth += 1;
            }
            Payload::MemorySection(memories) => {
                for memory in memories.clone() {
                    self.memories.push(sizes(memory?));
                }
            }
            Payload::TableSection(tables) => {
                for table in tables.clone() {
                    let ty = table?.ty;
                    self.tables.push(Table { minimum: ty.initial, maximum: ty.maximum });
                }
            }
            Payload::InstanceSection(instances) => {
                for instance in instances.clone() {
                    self.core_instances += u32::from(matches!(instance?, Instance::Instantiate { .. }));
                }
            }
            Payload::ComponentImportSection(imports) if self.depth == 1 => {
                for import in imports.clone() {
                    self.imports.push(Import { name: import?.name.name.to_owned(), signature: None });
                }
            }
            Payload::ComponentExportSection(exports) if self.depth == 1 => {
                for export in exports.clone() {
                    self.exports.push(export?.name.name.to_owned());
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// At the end of a module or component, whose types these are.
    fn end(&mut self, types: &TypesRef<'_>) {
        self.depth -= 1;
        if self.depth == 0 && !self.is_component {
            self.core_instances = 1;
            let imports = types.core_imports().into_iter().flatten();
            let import = |(module, name, ty)| Import {
                name: format!("{module}::{name}"),
                signature: Some(core_type(types, &ty)),
            };
            self.imports = imports.map(import).collect();
        }
    }

    fn into_program(self, wasm_bytes: u64) -> Program {
        let exports = match &self.types {
            Some(types) if self.is_component => component_exports(types.as_ref(), &self.exports),
            Some(types) => module_exports(types.as_ref()),
            None => Vec::new(),
        };
        let facts = Facts {
            kind: if self.is_component { component_kind(&self.exports) } else { module_kind(&exports) },
            profile: String::new(),
            wasmtime: String::new(),
            imports: self.imports.iter().map(|import| import.name.clone()).collect(),
            exports,
            memories: self.memories,
            table_elements: self.tables.iter().map(|table| table.minimum).max().unwrap_or_default(),
            core_instances: self.core_instances,
            wasm_bytes,
            code_bytes: 0,
        };
        Program { facts, imports: self.imports, tables: self.tables }
    }
}

fn sizes(memory: MemoryType) -> Memory {
    let page = memory.page_size_log2.unwrap_or(16);
    let bytes = |pages: u64| pages.saturating_mul(1 << page);
    Memory { minimum: bytes(memory.initial), maximum: memory.maximum.map(bytes) }
}

fn module_exports(types: TypesRef<'_>) -> Vec<Export> {
    let exports = types.core_exports().into_iter().flatten();
    exports.map(|(name, ty)| Export { name: name.to_owned(), signature: core_func(&types, &ty) }).collect()
}

/// The signature of what is a function.
fn core_func(types: &TypesRef<'_>, ty: &EntityType) -> Option<String> {
    let (EntityType::Func(id) | EntityType::FuncExact(id)) = ty else { return None };
    match &types.get(*id)?.composite_type.inner {
        CompositeInnerType::Func(func) => Some(signature::core_func(func)),
        _ => None,
    }
}

/// A type in words.
fn core_type(types: &TypesRef<'_>, ty: &EntityType) -> String {
    let plain = match ty {
        EntityType::Func(_) | EntityType::FuncExact(_) => "func",
        EntityType::Table(_) => "table",
        EntityType::Memory(_) => "memory",
        EntityType::Global(_) => "global",
        EntityType::Tag(_) => "tag",
    };
    core_func(types, ty).unwrap_or_else(|| plain.to_owned())
}

fn component_exports(types: TypesRef<'_>, names: &[String]) -> Vec<Export> {
    let signature = |id| types.get(id).map(|func| signature::component_func(types, func));
    let mut exports = Vec::new();
    for name in names {
        match types.component_item_for_export(name).map(|item| item.ty) {
            Some(ComponentEntityType::Func(id)) => {
                exports.push(Export { name: name.clone(), signature: signature(id) });
            }
            Some(ComponentEntityType::Instance(id)) => {
                exports.push(Export { name: name.clone(), signature: None });
                let functions = types.get(id).into_iter().flat_map(|instance| &instance.exports);
                for (function, item) in functions {
                    if let ComponentEntityType::Func(id) = item.ty {
                        exports.push(Export { name: format!("{name}.{function}"), signature: signature(id) });
                    }
                }
            }
            _ => exports.push(Export { name: name.clone(), signature: None }),
        }
    }
    exports
}

fn module_kind(exports: &[Export]) -> Kind {
    let has_start = exports.iter().any(|export| export.name == "_start" && export.signature.is_some());
    if has_start { Kind::Module } else { Kind::ModuleLibrary }
}

/// The newest way to run that a component offers: a service before a command, 0.3 before 0.2.
fn component_kind(exports: &[String]) -> Kind {
    let offers = |interface: &str, version: &str| {
        exports.iter().any(|name| {
            name.split_once('@').is_some_and(|(offered, of)| offered == interface && of.starts_with(version))
        })
    };
    if offers("wasi:http/handler", "0.3.") {
        Kind::Http03
    } else if offers("wasi:http/incoming-handler", "0.2.") {
        Kind::Http02
    } else if offers("wasi:cli/run", "0.3.") {
        Kind::Command03
    } else if offers("wasi:cli/run", "0.2.") {
        Kind::Command02
    } else {
        Kind::ComponentLibrary
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_is_what_its_exports_say() {
        let kind =
            |names: &[&str]| component_kind(&names.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(kind(&["wasi:cli/run@0.2.3"]), Kind::Command02);
        assert_eq!(kind(&["wasi:cli/run@0.3.0"]), Kind::Command03);
        assert_eq!(kind(&["wasi:http/incoming-handler@0.2.0", "wasi:cli/run@0.2.0"]), Kind::Http02);
        assert_eq!(kind(&["wasi:http/handler@0.3.0"]), Kind::Http03);
        assert_eq!(kind(&["add", "wasi:cli/runner@0.2.0", "wasi:cli/run"]), Kind::ComponentLibrary);
    }

    #[test]
    fn a_module_without_anything_is_a_library() {
        let facts = read(b"\0asm\x01\0\0\0", crate::features()).unwrap().facts;
        assert_eq!((facts.kind, facts.core_instances, facts.wasm_bytes), (Kind::ModuleLibrary, 1, 8));
    }
}
