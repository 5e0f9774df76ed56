//! Signatures of exported functions, in WIT's words.
//!
//! Types are written out in full where they are used (`record { x: u32 }`), because a program that a person calls by hand
//! wants the form of the arguments and not their names. Hostile programs nest types without end: the writer stops.

use std::fmt::Write;

use wasmparser::component_types::{ComponentDefinedType, ComponentFuncType, ComponentValType, VariantType};
use wasmparser::types::TypesRef;
use wasmparser::{FuncType, PrimitiveValType};

/// A signature longer than this ends in an ellipsis.
const MAX_LENGTH: usize = 2_000;
/// Types nested deeper than this are an ellipsis.
const MAX_DEPTH: usize = 16;

/// The signature of a component's function.
pub(crate) fn component_func(types: TypesRef<'_>, func: &ComponentFuncType) -> String {
    let mut writer = Writer { types, out: String::new() };
    writer.push(if func.async_ { "async func(" } else { "func(" });
    for (index, (name, ty)) in func.params.iter().enumerate() {
        writer.separate(index);
        writer.push(name);
        writer.push(": ");
        writer.value(ty, 0);
    }
    writer.push(")");
    if let Some(ty) = &func.result {
        writer.push(" -> ");
        writer.value(ty, 0);
    }
    writer.out
}

/// The signature of a core function.
pub(crate) fn core_func(func: &FuncType) -> String {
    let list =
        |types: &[wasmparser::ValType]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut out = format!("func({})", list(func.params()));
    match func.results() {
        [] => {}
        [one] => {
            let _ = write!(out, " -> {one}");
        }
        many => {
            let _ = write!(out, " -> ({})", list(many));
        }
    }
    out
}

struct Writer<'a> {
    types: TypesRef<'a>,
    out: String,
}

impl Writer<'_> {
    fn push(&mut self, text: &str) {
        if self.out.len() + text.len() <= MAX_LENGTH {
            self.out.push_str(text);
        } else if !self.is_full() {
            self.out.push('…');
        }
    }

    fn is_full(&self) -> bool {
        self.out.ends_with('…') && self.out.len() > MAX_LENGTH - 64
    }

    fn separate(&mut self, index: usize) {
        if index > 0 {
            self.push(", ");
        }
    }

    fn value(&mut self, ty: &ComponentValType, depth: usize) {
        if depth > MAX_DEPTH || self.is_full() {
            return self.push("…");
        }
        match ty {
            ComponentValType::Primitive(primitive) => self.push(primitive_name(*primitive)),
            ComponentValType::Type(id) => match self.types.get(*id) {
                Some(defined) => self.defined(defined, depth + 1),
                None => self.push("…"),
            },
        }
    }

    fn defined(&mut self, ty: &ComponentDefinedType, depth: usize) {
        match ty {
            ComponentDefinedType::Primitive(primitive) => self.push(primitive_name(*primitive)),
            ComponentDefinedType::Record(record) => {
                self.push("record { ");
                for (index, (name, ty)) in record.fields.iter().enumerate() {
                    self.separate(index);
                    self.push(name);
                    self.push(": ");
                    self.value(ty, depth);
                }
                self.push(" }");
            }
            ComponentDefinedType::Variant(variant) => self.variant(variant, depth),
            ComponentDefinedType::List { element, .. } => self.generic("list", &[Some(element)], depth),
            ComponentDefinedType::Map { key, value, .. } => {
                self.generic("map", &[Some(key), Some(value)], depth)
            }
            ComponentDefinedType::FixedLengthList { element, length, .. } => {
                self.push("list<");
                self.value(element, depth);
                self.push(&format!(", {length}>"));
            }
            ComponentDefinedType::Tuple(tuple) => {
                self.generic("tuple", &tuple.types.iter().map(Some).collect::<Vec<_>>(), depth);
            }
            ComponentDefinedType::Flags(names) => self.names("flags", names.iter().map(|name| name.as_str())),
            ComponentDefinedType::Enum(names) => self.names("enum", names.iter().map(|name| name.as_str())),
            ComponentDefinedType::Option { ty, .. } => self.generic("option", &[Some(ty)], depth),
            ComponentDefinedType::Result { ok, err, .. } => match (ok, err) {
                (None, None) => self.push("result"),
                (ok, None) => self.generic("result", &[ok.as_ref()], depth),
                (ok, err) => self.generic("result", &[ok.as_ref(), err.as_ref()], depth),
            },
            ComponentDefinedType::Own(_) => self.push("own<resource>"),
            ComponentDefinedType::Borrow(_) => self.push("borrow<resource>"),
            ComponentDefinedType::Future { ty, .. } => self.optional("future", ty.as_ref(), depth),
            ComponentDefinedType::Stream { ty, .. } => self.optional("stream", ty.as_ref(), depth),
        }
    }

    fn variant(&mut self, variant: &VariantType, depth: usize) {
        self.push("variant { ");
        for (index, (name, case)) in variant.cases.iter().enumerate() {
            self.separate(index);
            self.push(name);
            if let Some(ty) = &case.ty {
                self.push("(");
                self.value(ty, depth);
                self.push(")");
            }
        }
        self.push(" }");
    }

    fn generic(&mut self, name: &str, arguments: &[Option<&ComponentValType>], depth: usize) {
        self.push(name);
        self.push("<");
        for (index, argument) in arguments.iter().enumerate() {
            self.separate(index);
            match argument {
                Some(ty) => self.value(ty, depth),
                None => self.push("_"),
            }
        }
        self.push(">");
    }

    fn optional(&mut self, name: &str, argument: Option<&ComponentValType>, depth: usize) {
        match argument {
            Some(ty) => self.generic(name, &[Some(ty)], depth),
            None => self.push(name),
        }
    }

    fn names<'n>(&mut self, what: &str, names: impl Iterator<Item = &'n str>) {
        self.push(what);
        self.push(" { ");
        for (index, name) in names.enumerate() {
            self.separate(index);
            self.push(name);
        }
        self.push(" }");
    }
}

fn primitive_name(primitive: PrimitiveValType) -> &'static str {
    match primitive {
        PrimitiveValType::Bool => "bool",
        PrimitiveValType::S8 => "s8",
        PrimitiveValType::U8 => "u8",
        PrimitiveValType::S16 => "s16",
        PrimitiveValType::U16 => "u16",
        PrimitiveValType::S32 => "s32",
        PrimitiveValType::U32 => "u32",
        PrimitiveValType::S64 => "s64",
        PrimitiveValType::U64 => "u64",
        PrimitiveValType::F32 => "f32",
        PrimitiveValType::F64 => "f64",
        PrimitiveValType::Char => "char",
        PrimitiveValType::String => "string",
        PrimitiveValType::ErrorContext => "error-context",
    }
}
