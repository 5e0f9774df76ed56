//! Writing the program's module with the shim's table, and with functions of its own in place of the shim's.
//!
//! These functions follow the imports that are left, so that only imports change their indices: there are as many functions before
//! the program's first as there were.

use wasm_encoder::reencode::{Reencode, utils};
use wasm_encoder::{
    CodeSection, ExportKind, ExportSection, Function, FunctionSection, ImportSection, Module, TableSection,
};
use wasmparser::{KnownCustom, Parser, Payload, TypeRef};

use super::{Detour, Error, Result, Unknown};

/// The module without the imports that are the shim's.
pub(super) fn rewrite(wasm: &[u8], detour: &Detour) -> Result<Module> {
    let mut rewriter = Rewriter::new(wasm, detour)?;
    let mut module = Module::new();
    rewriter.parse_core_module(&mut module, Parser::new(0), wasm)?;
    Ok(module)
}

/// A function in place of an import.
struct Stub {
    ty: u32,
    parameters: u32,
    slot: u32,
}

struct Rewriter<'a> {
    detour: &'a Detour,
    /// What the imported functions become.
    functions: Vec<u32>,
    stubs: Vec<Stub>,
    /// The index of the shim's table.
    table: u32,
}

impl<'a> Rewriter<'a> {
    fn new(wasm: &[u8], detour: &'a Detour) -> Result<Self> {
        let (mut parameters, mut imports, mut table) = (Vec::new(), Vec::new(), 0);
        for payload in Parser::new(0).parse_all(wasm) {
            match payload? {
                Payload::TypeSection(types) => {
                    for ty in types.into_iter_err_on_gc_types() {
                        parameters.push(ty?.params().len() as u32);
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import?;
                        match import.ty {
                            TypeRef::Func(ty) => imports.push((ty, slot(detour, &import))),
                            TypeRef::Table(_) => table += 1,
                            TypeRef::FuncExact(ty) => imports.push((ty, None)),
                            _ => {}
                        }
                    }
                }
                Payload::TableSection(tables) => table += tables.count(),
                Payload::CodeSectionStart { .. } => break,
                _ => {}
            }
        }
        let kept = imports.iter().filter(|(_, slot)| slot.is_none()).count() as u32;
        let (mut next, mut functions, mut stubs) = (0, Vec::new(), Vec::new());
        for (ty, slot) in imports {
            let Some(slot) = slot else {
                functions.push(next);
                next += 1;
                continue;
            };
            functions.push(kept + stubs.len() as u32);
            let parameters = *parameters.get(ty as usize).ok_or(Error::UserError(Unknown))?;
            stubs.push(Stub { ty, parameters, slot });
        }
        Ok(Self { detour, functions, stubs, table })
    }
}

/// The slot that holds what an import is to be.
fn slot(detour: &Detour, import: &wasmparser::Import<'_>) -> Option<u32> {
    detour.imports.get(&(import.module.to_owned(), import.name.to_owned())).copied()
}

impl Stub {
    /// Its code: the function in the slot, called with its own arguments.
    fn body(&self, table: u32) -> Function {
        let mut body = Function::new([]);
        let mut code = body.instructions();
        for parameter in 0..self.parameters {
            code.local_get(parameter);
        }
        code.i32_const(self.slot.cast_signed()).call_indirect(table, self.ty).end();
        body
    }
}

impl Reencode for Rewriter<'_> {
    type Error = Unknown;

    fn function_index(&mut self, function: u32) -> Result<u32> {
        Ok(self.functions.get(function as usize).copied().unwrap_or(function))
    }

    fn parse_import_section(
        &mut self,
        imports: &mut ImportSection,
        section: wasmparser::ImportSectionReader<'_>,
    ) -> Result<()> {
        for import in section.into_imports() {
            let import = import?;
            if !matches!(import.ty, TypeRef::Func(_)) || slot(self.detour, &import).is_none() {
                self.parse_import(imports, import)?;
            }
        }
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: wasmparser::FunctionSectionReader<'_>,
    ) -> Result<()> {
        for stub in &self.stubs {
            functions.function(stub.ty);
        }
        utils::parse_function_section(self, functions, section)
    }

    fn parse_table_section(
        &mut self,
        tables: &mut TableSection,
        section: wasmparser::TableSectionReader<'_>,
    ) -> Result<()> {
        utils::parse_table_section(self, tables, section)?;
        tables.table(self.table_type(self.detour.table)?);
        Ok(())
    }

    fn parse_export_section(
        &mut self,
        exports: &mut ExportSection,
        section: wasmparser::ExportSectionReader<'_>,
    ) -> Result<()> {
        utils::parse_export_section(self, exports, section)?;
        exports.export(&self.detour.table_name, ExportKind::Table, self.table);
        Ok(())
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: wasmparser::CodeSectionReader<'_>,
    ) -> Result<()> {
        for stub in &self.stubs {
            code.function(&stub.body(self.table));
        }
        utils::parse_code_section(self, code, section)
    }

    /// Names are for backtraces; what other custom sections say of places in the code is no longer so.
    fn parse_custom_section(
        &mut self,
        module: &mut Module,
        section: wasmparser::CustomSectionReader<'_>,
    ) -> Result<()> {
        if let KnownCustom::Name(names) = section.as_known() {
            module.section(&self.custom_name_section(names)?);
        }
        Ok(())
    }
}
