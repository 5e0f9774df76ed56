//! Writing a component without its detour.
//!
//! The shim's places among the modules and instances are kept by an empty module and by an instance without exports, which cost
//! nothing, so that all other indices but those of core functions stay as they are.

use wasm_encoder::reencode::{Reencode, ReencodeComponent, component_utils};
use wasm_encoder::{
    CanonicalFunctionSection, Component, ComponentAliasSection, InstanceSection, Module, ModuleSection,
    RawSection,
};
use wasmparser::{ComponentAlias, Export, ExternalKind, Instance, Payload};

use super::{Detour, Error, Result, Unknown, module};

/// The component whose sections these are, without its detour.
pub(super) fn rewrite(wasm: &[u8], sections: &[Payload<'_>], detour: &Detour) -> Result<Vec<u8>> {
    let mut component = Component::new();
    let mut modules = 0;
    for section in sections {
        match section {
            Payload::ModuleSection { unchecked_range, .. } if modules == detour.main_module => {
                component.section(&ModuleSection(&module::rewrite(&wasm[unchecked_range.clone()], detour)?));
            }
            Payload::ModuleSection { .. } if modules == detour.shim_module => {
                component.section(&ModuleSection(&Module::new()));
            }
            Payload::InstanceSection(section) => {
                let mut instances = InstanceSection::new();
                Without(detour).parse_instance_section(&mut instances, section.clone())?;
                component.section(&instances);
            }
            Payload::ComponentAliasSection(section) => {
                let mut aliases = ComponentAliasSection::new();
                Without(detour).parse_component_alias_section(&mut aliases, section.clone())?;
                component.section(&aliases);
            }
            Payload::ComponentCanonicalSection(section) => {
                let mut functions = CanonicalFunctionSection::new();
                Without(detour).parse_component_canonical_section(&mut functions, section.clone())?;
                component.section(&functions);
            }
            // What they say of names and tools is for people.
            Payload::CustomSection(_) => {}
            as_it_is => {
                if let Some((id, range)) = as_it_is.as_section() {
                    component.section(&RawSection { id, data: &wasm[range] });
                }
            }
        }
        modules += u32::from(matches!(section, Payload::ModuleSection { .. }));
    }
    Ok(component.finish())
}

struct Without<'a>(&'a Detour);

impl Reencode for Without<'_> {
    type Error = Unknown;

    /// Core functions move up to where the shim's were, which nothing but the program's module may use.
    fn function_index(&mut self, function: u32) -> Result<u32> {
        if self.0.functions.contains_key(&function) {
            return Err(Error::UserError(Unknown));
        }
        let gone = self.0.functions.range(..function).count();
        Ok(function - gone as u32)
    }
}

impl ReencodeComponent for Without<'_> {
    fn parse_component_alias_section(
        &mut self,
        aliases: &mut ComponentAliasSection,
        section: wasmparser::ComponentAliasSectionReader<'_>,
    ) -> Result<()> {
        for alias in section {
            let mut alias = alias?;
            if let ComponentAlias::CoreInstanceExport { kind, instance_index, .. } = &mut alias
                && *instance_index == self.0.shim_instance
            {
                if *kind == ExternalKind::Func {
                    continue;
                }
                *instance_index = self.0.main_instance;
            }
            aliases.alias(self.component_alias(alias)?);
        }
        Ok(())
    }

    fn parse_instance(&mut self, instances: &mut InstanceSection, mut instance: Instance<'_>) -> Result<()> {
        match &mut instance {
            Instance::Instantiate { module_index, .. } if *module_index == self.0.shim_module => {
                instance = Instance::FromExports([].into());
            }
            Instance::Instantiate { .. } => {}
            Instance::FromExports(exports) => {
                let is_gone = |export: &Export<'_>| {
                    export.kind == ExternalKind::Func && self.0.functions.contains_key(&export.index)
                };
                *exports = exports.iter().filter(|export| !is_gone(export)).copied().collect();
            }
        }
        component_utils::parse_instance(self, instances, instance)
    }
}
