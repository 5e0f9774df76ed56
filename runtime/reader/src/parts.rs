//! What a program's bytes are spent on, and which tools made it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use wasmparser::{
    BinaryReaderError, ComponentName, CustomSectionReader, KnownCustom, Name, Parser, Payload,
    ProducersSectionReader,
};

/// How many parts, and how many names of tools, are told apart; programs of people have far fewer.
const MOST: usize = 10_000;
/// What there is beyond that many.
const OTHERS: &str = "everything else";

/// The sections of a program, over all modules and components that it holds, and who made them.
#[derive(Debug, Default)]
pub struct Parts {
    /// The sections, largest first; those of one name in one module are one part.
    pub sections: Vec<Part>,
    /// `language`, `processed-by` and `sdk` of the producers sections, each with names and versions.
    pub producers: BTreeMap<String, BTreeSet<String>>,
}

/// The sections of one name in one module or component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Which module or component: a path of numbers such as `2` or `0.1`, by their order; empty for the program itself.
    pub module: String,
    /// The name that the module gives itself.
    pub module_name: Option<String>,
    /// The section: `code`, `data` and so on, or the name of a custom section.
    pub name: String,
    /// Whether it is a custom section, which nothing needs to run.
    pub custom: bool,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Adds up the sections of a program.
///
/// # Errors
/// Where it is not well-formed.
pub fn parts(wasm: &[u8]) -> Result<Parts, BinaryReaderError> {
    let mut walk = Walk::default();
    for payload in Parser::new(0).parse_all(wasm) {
        walk.take(&payload?);
    }
    Ok(walk.into_parts())
}

/// Module, whether custom, section.
type Key = (String, bool, String);

#[derive(Default)]
struct Walk {
    /// The modules and components that are open, each with how many were opened in it.
    open: Vec<(String, usize)>,
    sizes: BTreeMap<Key, u64>,
    names: BTreeMap<String, String>,
    producers: BTreeMap<String, BTreeSet<String>>,
}

impl Walk {
    fn take(&mut self, payload: &Payload<'_>) {
        match payload {
            Payload::Version { .. } => self.enter(),
            Payload::End(_) => {
                self.open.pop();
            }
            // What is in it comes next, section by section.
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {}
            Payload::CustomSection(section) => {
                self.add(true, section.name(), section.data().len());
                self.known(section);
            }
            payload => {
                if let Some((_, range)) = payload.as_section() {
                    self.add(false, name(payload), range.len());
                }
            }
        }
    }

    fn enter(&mut self) {
        let label = match self.open.last_mut() {
            None => String::new(),
            Some((parent, count)) => {
                *count += 1;
                let index = *count - 1;
                if parent.is_empty() { index.to_string() } else { format!("{parent}.{index}") }
            }
        };
        self.open.push((label, 0));
    }

    fn module(&self) -> String {
        self.open.last().map(|(label, _)| label.clone()).unwrap_or_default()
    }

    fn add(&mut self, custom: bool, name: &str, bytes: usize) {
        let mut key = (self.module(), custom, name.to_owned());
        if self.sizes.len() >= MOST && !self.sizes.contains_key(&key) {
            key = (String::new(), false, OTHERS.to_owned());
        }
        *self.sizes.entry(key).or_default() += bytes as u64;
    }

    /// What is of use in custom sections; one that is malformed is as good as none.
    fn known(&mut self, section: &CustomSectionReader<'_>) {
        match section.as_known() {
            KnownCustom::Producers(fields) => self.producers(fields),
            KnownCustom::Name(names) => {
                for name in names.into_iter().flatten() {
                    if let Name::Module { name, .. } = name {
                        self.name(name);
                    }
                }
            }
            KnownCustom::ComponentName(names) => {
                for name in names.into_iter().flatten() {
                    if let ComponentName::Component { name, .. } = name {
                        self.name(name);
                    }
                }
            }
            _ => {}
        }
    }

    fn name(&mut self, name: &str) {
        if self.names.len() < MOST {
            self.names.insert(self.module(), name.to_owned());
        }
    }

    fn producers(&mut self, fields: ProducersSectionReader<'_>) {
        for field in fields.into_iter().flatten() {
            let made = self.producers.entry(field.name.to_owned()).or_default();
            for value in field.values.into_iter().flatten().take(MOST.saturating_sub(made.len())) {
                made.insert(format!("{} {}", value.name, value.version).trim_end().to_owned());
            }
        }
    }

    fn into_parts(self) -> Parts {
        let part = |((module, custom, name), bytes): (Key, u64)| Part {
            module_name: self.names.get(&module).cloned(),
            module,
            name,
            custom,
            bytes,
        };
        let mut sections: Vec<_> = self.sizes.into_iter().map(part).collect();
        sections.sort_by_key(|part| std::cmp::Reverse(part.bytes));
        Parts { sections, producers: self.producers }
    }
}

fn name(payload: &Payload<'_>) -> &'static str {
    match payload {
        Payload::TypeSection(_) => "types",
        Payload::ImportSection(_) => "imports",
        Payload::FunctionSection(_) => "functions",
        Payload::TableSection(_) => "tables",
        Payload::MemorySection(_) => "memories",
        Payload::TagSection(_) => "tags",
        Payload::GlobalSection(_) => "globals",
        Payload::ExportSection(_) => "exports",
        Payload::StartSection { .. } => "start",
        Payload::ElementSection(_) => "elements",
        Payload::DataCountSection { .. } => "data count",
        Payload::DataSection(_) => "data",
        Payload::CodeSectionStart { .. } => "code",
        Payload::InstanceSection(_) => "core instances",
        Payload::CoreTypeSection(_) => "core types",
        Payload::ComponentInstanceSection(_) => "instances",
        Payload::ComponentAliasSection(_) => "aliases",
        Payload::ComponentTypeSection(_) => "component types",
        Payload::ComponentCanonicalSection(_) => "canonical functions",
        Payload::ComponentStartSection { .. } => "component start",
        Payload::ComponentImportSection(_) => "component imports",
        Payload::ComponentExportSection(_) => "component exports",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_told_by_the_module_that_they_are_in() {
        let wasm = wat::parse_str(
            r#"(component
                 (core module (data "0123456789") (memory 1))
                 (core module $second (func nop) (@custom "notes" "0123456789012345678901234567890123456789")))"#,
        )
        .unwrap();
        let parts = parts(&wasm).unwrap();
        let largest = &parts.sections[0];
        assert_eq!((largest.module.as_str(), largest.name.as_str(), largest.custom), ("1", "notes", true));
        assert_eq!((largest.bytes, largest.module_name.as_deref()), (40, Some("second")));
        assert!(parts.sections.iter().any(|part| part.module == "0" && part.name == "data"));
    }

    #[test]
    fn the_tools_that_made_a_program_are_named() {
        let wasm = wat::parse_str(
            r#"(module (@producers (language "Rust" "") (processed-by "rustc" "1.95") (processed-by "clang" "20")))"#,
        )
        .unwrap();
        let producers = parts(&wasm).unwrap().producers;
        assert_eq!(producers["language"], ["Rust".to_owned()].into());
        assert_eq!(producers["processed-by"], ["clang 20".to_owned(), "rustc 1.95".to_owned()].into());
    }

    #[test]
    fn more_sections_than_anybody_reads_are_one_part() {
        let mut wasm = b"\0asm\x01\0\0\0".to_vec();
        for index in 0..20_000_u32 {
            let name = format!("{index:05}");
            wasm.extend([0, 6, 5]);
            wasm.extend(name.as_bytes());
        }
        let parts = parts(&wasm).unwrap();
        assert_eq!(parts.sections.len(), MOST + 1);
        assert!(parts.sections.iter().any(|part| part.name == OTHERS));
    }
}
