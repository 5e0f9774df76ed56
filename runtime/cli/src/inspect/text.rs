//! A program's report as a person reads it.

use std::fmt::{self, Write};

use bytesize::ByteSize;
use wisp_contract::facts::{Kind, Memory};
use wisp_contract::given;
use wisp_reader::Table;

use super::report::{Import, Report};

/// How many imports, exports and tools are listed; `--json` has all of them.
const LISTED: usize = 40;
/// How many sections are.
const SECTIONS: usize = 12;

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

/// The report as text; `file` is how the program was named.
pub(super) fn text(report: &Report, file: &str) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut text, report, file);
    text
}

fn write(text: &mut String, report: &Report, file: &str) -> fmt::Result {
    let form = if report.kind.is_module() { "a core module" } else { "a component" };
    row(text, "kind", [format!("{}, {form}", kind(report.kind))])?;
    row(text, "size", [size(report.wasm_bytes)])?;
    row(text, "digest", [report.digest.clone()])?;
    row(text, "compiled", [compiled(report, file)])?;
    row(text, "memory", report.memories.iter().map(memory))?;
    row(text, "tables", report.tables.iter().map(table))?;
    row(text, "made by", report.producers.values().flatten().map(|tool| clean(tool)))?;
    row(text, "imports", imports(report))?;
    if report.wit.is_none() {
        row(text, "exports", exports(report))?;
    }
    sections(text, report)?;
    advice(text, report, file)?;
    match (&report.wit, &report.wit_error) {
        (Some(wit), _) => write!(text, "\n{}", own_packages(wit)),
        (None, Some(error)) => writeln!(text, "\n{}", clean(error)),
        (None, None) => Ok(()),
    }
}

/// A name and what there is under it, one a line.
fn row(text: &mut String, name: &str, values: impl IntoIterator<Item = String>) -> fmt::Result {
    let mut values = values.into_iter();
    writeln!(text, "{name:9} {}", values.next().as_deref().unwrap_or("-"))?;
    let mut rest = 0;
    for (index, value) in values.enumerate() {
        if index + 1 < LISTED {
            writeln!(text, "{:9} {value}", "")?;
        } else {
            rest += 1;
        }
    }
    if rest > 0 { writeln!(text, "{:9} and {rest} more", "") } else { Ok(()) }
}

fn compiled(report: &Report, file: &str) -> String {
    match (&report.compiled, &report.cache_error) {
        (Some(code), _) => {
            format!(
                "{}, cached here (profile {}, Wasmtime {})",
                size(code.code_bytes),
                code.profile,
                code.wasmtime
            )
        }
        (None, Some(error)) => format!("not known: {}", clean(error)),
        (None, None) if file == "-" => "not cached here".to_owned(),
        (None, None) => format!("not cached here; `wisp compile {}` does that", clean(file)),
    }
}

fn memory(memory: &Memory) -> String {
    bounds(memory.minimum, memory.maximum, size)
}

fn table(table: &Table) -> String {
    bounds(table.minimum, table.maximum, |elements| format!("{elements} elements"))
}

fn bounds(minimum: u64, maximum: Option<u64>, shown: impl Fn(u64) -> String) -> String {
    let begins = shown(minimum);
    match maximum {
        None => begins,
        Some(maximum) if maximum == minimum => format!("{begins}, and never more"),
        Some(maximum) => format!("{begins}, at most {}", shown(maximum)),
    }
}

/// What is missing comes first; what is given is listed where the WIT does not do that.
fn imports(report: &Report) -> Vec<String> {
    let (given, missing): (Vec<_>, Vec<_>) = report.imports.iter().partition(|import| import.given);
    let named = |import: &Import| signed(&import.name, import.signature.as_deref());
    let mut lines: Vec<_> = missing.into_iter().map(|import| named(import) + "   NOT GIVEN").collect();
    match given.len() {
        0 => {}
        count if report.wit.is_some() => lines.push(format!("{count} that Wisp gives")),
        _ => lines.extend(given.into_iter().map(named)),
    }
    lines
}

fn exports(report: &Report) -> impl Iterator<Item = String> {
    report.exports.iter().map(|export| signed(&export.name, export.signature.as_deref()))
}

fn signed(name: &str, signature: Option<&str>) -> String {
    signature.map_or_else(|| clean(name), |signature| format!("{}: {}", clean(name), clean(signature)))
}

/// The largest sections, as a table.
fn sections(text: &mut String, report: &Report) -> fmt::Result {
    writeln!(text, "\n{:>10}  {:>4}  SECTION", "SIZE", "%")?;
    for part in report.sections.iter().take(SECTIONS) {
        let share = part.bytes * 100 / report.wasm_bytes.max(1);
        let custom = if part.custom { " (custom)" } else { "" };
        let module = match (&part.module_name, part.module.as_str()) {
            (_, "") => String::new(),
            (None, path) => format!(" of {path}"),
            (Some(name), path) => format!(" of {path}, {}", clean(name)),
        };
        writeln!(text, "{:>10}  {share:>4}  {}{custom}{module}", size(part.bytes), clean(&part.name))?;
    }
    let rest: Vec<_> = report.sections.iter().skip(SECTIONS).map(|part| part.bytes).collect();
    if rest.is_empty() {
        return Ok(());
    }
    writeln!(text, "{:>10}        in {} more", size(rest.iter().sum()), rest.len())
}

/// What would make the program run, or smaller.
fn advice(text: &mut String, report: &Report, file: &str) -> fmt::Result {
    let missing = report.imports.iter().filter(|import| !import.given).count();
    if missing > 0 {
        writeln!(
            text,
            "\n{missing} of its imports {} given by nobody; {} was expected: build it for those, or compose it with the \
             component that it needs",
            if missing == 1 { "is" } else { "are" },
            given::IN_WORDS
        )?;
    }
    let debug = report.sections.iter().filter(|part| part.custom && part.name.starts_with(".debug_"));
    let debug: u64 = debug.map(|part| part.bytes).sum();
    if debug > 0 {
        writeln!(
            text,
            "\n{} of it help only debuggers; `wasm-tools strip {} -o smaller.wasm` leaves them out, and keeps the names that \
             backtraces need",
            size(debug),
            clean(file)
        )?;
    }
    Ok(())
}

/// The world and the packages that are the program's own; `--wit` has WASI's too.
fn own_packages(wit: &str) -> String {
    let mut own = String::new();
    let mut is_wasi = false;
    for line in wit.lines() {
        if line.starts_with("package ") {
            is_wasi = line.starts_with("package wasi:");
        }
        if !is_wasi {
            own.push_str(line);
            own.push('\n');
        }
    }
    own.trim_end().to_owned() + "\n"
}

fn size(bytes: u64) -> String {
    ByteSize::b(bytes).to_string()
}

/// A name from the program, without what a terminal would obey.
fn clean(name: &str) -> String {
    name.chars()
        .flat_map(|letter| if letter.is_control() { letter.escape_default().collect() } else { vec![letter] })
        .collect()
}

#[cfg(test)]
mod tests {
    use wisp_reader::Part;

    use super::*;

    fn report() -> Report {
        let import = |name: &str, given| Import { name: name.into(), signature: None, given };
        Report {
            kind: Kind::Command02,
            digest: "sha256:00".into(),
            wasm_bytes: 1000,
            imports: vec![import("wasi:cli/stdout@0.2.6", true), import("acme:rockets/\x1b[31mpad@1.0.0", false)],
            exports: vec![],
            memories: vec![Memory { minimum: 65536, maximum: None }],
            tables: vec![Table { minimum: 7, maximum: Some(7) }],
            core_instances: 1,
            producers: [("language".to_owned(), ["Rust".to_owned()].into())].into(),
            sections: vec![Part {
                module: "0".into(),
                module_name: None,
                name: ".debug_info".into(),
                custom: true,
                bytes: 500,
            }],
            wit: Some("package root:component;\n\nworld root {\n}\npackage wasi:cli@0.2.6 {\n  interface stdout {\n  }\n}\n".into()),
            wit_error: None,
            compiled: None,
            cache_error: None,
        }
    }

    #[test]
    fn what_is_missing_comes_first_and_has_a_cure() {
        let text = text(&report(), "app.wasm");
        let imports =
            "imports   acme:rockets/\\u{1b}[31mpad@1.0.0   NOT GIVEN\n          1 that Wisp gives\n";
        assert!(text.contains(imports), "{text}");
        assert!(text.contains("1 of its imports is given by nobody"), "{text}");
        assert!(!text.contains('\x1b'), "{text}");
    }

    #[test]
    fn sizes_and_demands_are_told_with_what_would_make_it_smaller() {
        let text = text(&report(), "app.wasm");
        assert!(
            text.contains("memory    64.0 KiB\n") && text.contains("tables    7 elements, and never more\n"),
            "{text}"
        );
        assert!(text.contains("  50  .debug_info (custom) of 0\n"), "{text}");
        assert!(text.contains("`wasm-tools strip app.wasm -o smaller.wasm`"), "{text}");
    }

    #[test]
    fn of_the_wit_the_text_shows_what_is_not_wasis() {
        let text = text(&report(), "app.wasm");
        assert!(text.ends_with("world root {\n}\n"), "{text}");
    }
}
