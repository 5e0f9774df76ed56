//! Recognising the detour.

use std::collections::BTreeMap;

use wasmparser::{
    CanonicalFunction, ComponentAlias, ComponentExternalKind, ComponentOuterAliasKind, ComponentType,
    ComponentTypeRef, Export, ExternalKind, Instance, Operator, Parser, Payload, TableInit, TableType,
};

use super::Detour;

/// The detour of a component; `None` where it has none, or anything about it is not as expected.
pub(super) fn find(wasm: &[u8], sections: &[Payload<'_>]) -> Option<Detour> {
    let mut found = Found::default();
    for section in sections {
        found.take(wasm, section)?;
    }
    found.into_detour()
}

/// The module that calls are led through.
#[derive(Debug)]
struct Shim {
    table_name: String,
    table: TableType,
    /// The slot that each exported function calls.
    slots: BTreeMap<String, u32>,
}

impl Shim {
    /// The shim that these bytes are.
    fn read(module: &[u8]) -> Option<Self> {
        let (mut table, mut table_name, mut exports) = (None, None, Vec::new());
        let (mut types, mut slots) = (Vec::new(), Vec::new());
        for payload in Parser::new(0).parse_all(module) {
            match payload.ok()? {
                Payload::TableSection(tables) => {
                    let mut tables = tables.into_iter();
                    let first = tables.next()?.ok()?;
                    let is_empty = matches!(first.init, TableInit::RefNull);
                    (is_empty && tables.next().is_none()).then_some(())?;
                    table = Some(first.ty);
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let Export { name, kind, index } = export.ok()?;
                        match kind {
                            ExternalKind::Func => exports.push((name.to_owned(), index as usize)),
                            ExternalKind::Table if table_name.is_none() => table_name = Some(name.to_owned()),
                            _ => return None,
                        }
                    }
                }
                Payload::FunctionSection(section) => {
                    types = section.into_iter().collect::<Result<_, _>>().ok()?;
                }
                Payload::CodeSectionEntry(body) => {
                    let code: Vec<_> =
                        body.get_operators_reader().ok()?.into_iter().collect::<Result<_, _>>().ok()?;
                    slots.push(slot(&code, *types.get(slots.len())?)?);
                }
                Payload::Version { .. }
                | Payload::TypeSection(_)
                | Payload::CodeSectionStart { .. }
                | Payload::CustomSection(_)
                | Payload::End(_) => {}
                _ => return None,
            }
        }
        let slots = exports
            .into_iter()
            .map(|(name, function)| Some((name, *slots.get(function)?)))
            .collect::<Option<_>>()?;
        Some(Self { table_name: table_name?, table: table?, slots })
    }
}

/// The slot whose function this code of a function of type `ty` calls with its own arguments, in their order.
fn slot(code: &[Operator<'_>], ty: u32) -> Option<u32> {
    let (arguments, [Operator::I32Const { value }, call, Operator::End]) = code.split_last_chunk()? else {
        return None;
    };
    let is_passed_on = |(at, argument): (usize, &Operator<'_>)| matches!(argument, Operator::LocalGet { local_index } if *local_index as usize == at);
    let is_call = matches!(call, Operator::CallIndirect { type_index, table_index: 0 } if *type_index == ty);
    (is_call && arguments.iter().enumerate().all(is_passed_on)).then_some(u32::try_from(*value).ok()?)
}

/// What has been seen of a component so far.
#[derive(Default)]
struct Found<'a> {
    modules: u32,
    core_functions: u32,
    shim: Option<(u32, Shim)>,
    shim_instance: Option<u32>,
    /// Core functions that are the shim's, each with its slot.
    functions: BTreeMap<u32, u32>,
    instances: Vec<Instance<'a>>,
    main: Option<Main>,
}

struct Main {
    module: u32,
    instance: u32,
    imports: BTreeMap<(String, String), u32>,
}

impl<'a> Found<'a> {
    fn take(&mut self, wasm: &[u8], section: &Payload<'a>) -> Option<()> {
        match section {
            Payload::ModuleSection { unchecked_range, .. } => {
                if let (None, Some(shim)) = (&self.shim, Shim::read(wasm.get(unchecked_range.clone())?)) {
                    self.shim = Some((self.modules, shim));
                }
                self.modules += 1;
            }
            Payload::InstanceSection(instances) => {
                for instance in instances.clone() {
                    self.instance(instance.ok()?)?;
                }
            }
            Payload::ComponentAliasSection(aliases) => {
                for alias in aliases.clone() {
                    self.alias(&alias.ok()?)?;
                }
            }
            Payload::ComponentCanonicalSection(functions) => {
                for function in functions.clone() {
                    // All others are functions for modules.
                    let is_for_components = matches!(function.ok()?, CanonicalFunction::Lift { .. });
                    self.core_functions += u32::from(!is_for_components);
                }
            }
            Payload::ComponentTypeSection(types) => {
                for ty in types.clone() {
                    // It has a core function to end its resources with.
                    if let ComponentType::Resource { dtor: Some(_), .. } = ty.ok()? {
                        return None;
                    }
                }
            }
            Payload::ComponentImportSection(imports) => {
                for import in imports.clone() {
                    if let ComponentTypeRef::Module(_) = import.ok()?.ty {
                        return None;
                    }
                }
            }
            Payload::Version { .. }
            | Payload::End(_)
            | Payload::CoreTypeSection(_)
            | Payload::ComponentSection { .. }
            | Payload::ComponentInstanceSection(_)
            | Payload::ComponentExportSection(_)
            | Payload::CustomSection(_) => {}
            _ => return None,
        }
        Some(())
    }

    fn instance(&mut self, instance: Instance<'a>) -> Option<()> {
        let index = u32::try_from(self.instances.len()).ok()?;
        if let Instance::Instantiate { module_index, args } = &instance {
            let imports = self.imports(args)?;
            if self.shim.as_ref().is_some_and(|(shim, _)| shim == module_index) {
                args.is_empty().then_some(())?;
                self.shim_instance = Some(index);
            } else if !imports.is_empty() {
                let main = Main { module: *module_index, instance: index, imports };
                // What else calls through the shim would have to find its functions in the program's module.
                self.main.replace(main).is_none().then_some(())?;
            }
        }
        self.instances.push(instance);
        Some(())
    }

    /// The imports that such an instantiation satisfies with functions of the shim.
    fn imports(&self, args: &[wasmparser::InstantiationArg<'_>]) -> Option<BTreeMap<(String, String), u32>> {
        let mut imports = BTreeMap::new();
        for arg in args {
            if self.shim_instance == Some(arg.index) {
                return None;
            }
            let Instance::FromExports(exports) = self.instances.get(arg.index as usize)? else { continue };
            let of_shim =
                exports.iter().filter(|export| export.kind == ExternalKind::Func).filter_map(|export| {
                    let slot = self.functions.get(&export.index)?;
                    Some(((arg.name.to_owned(), export.name.to_owned()), *slot))
                });
            imports.extend(of_shim);
        }
        Some(imports)
    }

    fn alias(&mut self, alias: &ComponentAlias<'_>) -> Option<()> {
        match alias {
            ComponentAlias::CoreInstanceExport { kind, instance_index, name } => {
                let is_shims = self.shim_instance == Some(*instance_index);
                match kind {
                    ExternalKind::Func => {
                        if is_shims {
                            let slot = self.shim.as_ref()?.1.slots.get(*name)?;
                            self.functions.insert(self.core_functions, *slot);
                        }
                        self.core_functions += 1;
                    }
                    // It will be the program's, of which there must be an instance.
                    ExternalKind::Table if is_shims && self.main.is_none() => return None,
                    _ => {}
                }
                Some(())
            }
            ComponentAlias::InstanceExport { kind: ComponentExternalKind::Module, .. }
            | ComponentAlias::Outer { kind: ComponentOuterAliasKind::CoreModule, .. } => None,
            _ => Some(()),
        }
    }

    fn into_detour(self) -> Option<Detour> {
        let (shim_module, Shim { table_name, table, .. }) = self.shim?;
        let Main { module, instance, imports } = self.main?;
        let instances_of = |module: u32| {
            let is_its = |instance: &&Instance<'_>| matches!(instance, Instance::Instantiate { module_index, .. } if *module_index == module);
            self.instances.iter().filter(is_its).count()
        };
        if instances_of(shim_module) != 1 || instances_of(module) != 1 {
            return None;
        }
        Some(Detour {
            shim_module,
            shim_instance: self.shim_instance?,
            table_name,
            table,
            main_module: module,
            main_instance: instance,
            functions: self.functions,
            imports,
        })
    }
}
