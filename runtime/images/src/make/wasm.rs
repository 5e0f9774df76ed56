//! What of a Wasm file its image says.

use std::io::Read;

use wisp_contract::facts::Export;
use wisp_reader::Unread;

/// A program's outside.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outside {
    /// Whether it is a component.
    pub(super) component: bool,
    /// What it imports, by name.
    pub(super) imports: Vec<String>,
    /// What it exports, by name: of a component its interfaces, without their functions.
    pub(super) exports: Vec<String>,
}

impl Outside {
    /// Reads a program to its end.
    pub(super) fn of(wasm: &mut impl Read) -> Result<Self, Unread> {
        let facts = wisp_reader::read_from(wasm, wisp_reader::features())?.facts;
        let exports = facts.exports.iter().filter(|export| !is_of_another(&facts.exports, export));
        Ok(Self {
            component: !facts.kind.is_module(),
            exports: exports.map(|export| export.name.clone()).collect(),
            imports: facts.imports,
        })
    }

    /// The operating system in the words of the CNCF's layout.
    pub(super) fn os(&self) -> &'static str {
        if self.component { "wasip2" } else { "wasip1" }
    }
}

/// Whether an export is a function of an interface that is exported.
fn is_of_another(exports: &[Export], export: &Export) -> bool {
    exports
        .iter()
        .any(|other| export.name.strip_prefix(&other.name).is_some_and(|rest| rest.starts_with('.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_components_interfaces_are_named_and_not_their_functions() {
        let wasm = wat::parse_str(
            r#"(component
                (import "wasi:cli/stdout@0.2.6" (instance $out))
                (component $inner (import "f" (func $f)) (export "run" (func $f)))
                (core module $m (func (export "f")))
                (core instance $i (instantiate $m))
                (func $f (canon lift (core func $i "f")))
                (instance $run (instantiate $inner (with "f" (func $f))))
                (export "wasi:cli/run@0.2.6" (instance $run)))"#,
        )
        .unwrap();
        let outside = Outside::of(&mut wasm.as_slice()).unwrap();
        assert_eq!((outside.component, outside.os()), (true, "wasip2"));
        assert_eq!(outside.imports, ["wasi:cli/stdout@0.2.6"]);
        assert_eq!(outside.exports, ["wasi:cli/run@0.2.6"]);
        assert_eq!(Outside::of(&mut wat::parse_str("(module)").unwrap().as_slice()).unwrap().os(), "wasip1");
    }
}
