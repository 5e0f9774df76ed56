//! A program's facts as a person reads them.

use std::fmt::Write;

use bytesize::ByteSize;
use wisp_contract::facts::{Facts, Kind, Memory};

/// What a program is, in words.
pub(crate) fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Module => "WASI 0.1 command",
        Kind::Command02 => "WASI 0.2 command",
        Kind::Command03 => "WASI 0.3 command",
        Kind::Http02 => "HTTP service (wasi:http 0.2)",
        Kind::Http03 => "HTTP service (wasi:http 0.3)",
        Kind::ModuleLibrary => "module without an entry",
        Kind::ComponentLibrary => "component without an entry",
    }
}

/// The facts as text.
pub(crate) fn text(facts: &Facts) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut text, facts);
    text
}

fn write(text: &mut String, facts: &Facts) -> std::fmt::Result {
    writeln!(text, "kind      {}", kind(facts.kind))?;
    writeln!(
        text,
        "size      {}, compiled {}",
        ByteSize::b(facts.wasm_bytes),
        ByteSize::b(facts.code_bytes)
    )?;
    writeln!(text, "compiled  by Wasmtime {}, profile {}", facts.wasmtime, facts.profile)?;
    writeln!(text, "memory    {}", facts.memories.iter().map(memory).collect::<Vec<_>>().join("; "))?;
    writeln!(text, "imports   {}", facts.imports.join("\n          "))?;
    let exports = facts.exports.iter().map(|export| match &export.signature {
        Some(signature) => format!("{}: {signature}", export.name),
        None => export.name.clone(),
    });
    writeln!(text, "exports   {}", exports.collect::<Vec<_>>().join("\n          "))
}

fn memory(memory: &Memory) -> String {
    let minimum = ByteSize::b(memory.minimum);
    match memory.maximum {
        Some(maximum) => format!("{minimum}, at most {}", ByteSize::b(maximum)),
        None => minimum.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_readable() {
        let facts: Facts = serde_json::from_str(
            r#"{"kind":"command02","profile":"fast","wasmtime":"48","imports":["wasi:cli/stdout@0.2.6"],
                "exports":[{"name":"wasi:cli/run@0.2.6"}],"memories":[{"minimum":65536,"maximum":null}],
                "wasm_bytes":1024,"code_bytes":2048}"#,
        )
        .unwrap();
        let text = text(&facts);
        assert!(
            text.contains("kind      WASI 0.2 command\n") && text.contains("memory    64.0 KiB\n"),
            "{text}"
        );
    }
}
