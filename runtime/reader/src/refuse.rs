//! Programs that are refused, each with one sentence: what was found, what was expected, what to do.

use wasmparser::{BinaryReaderError, WasmFeatures};

/// Why a program is refused, in one sentence.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(String);

const EXPECTED: &str = "a WebAssembly module or component (a .wasm file) was expected";

/// Refuses what does not begin as Wasm does, and says what it is instead.
///
/// # Errors
/// What was found and what was expected.
pub fn unless_wasm(bytes: &[u8]) -> Result<(), Refused> {
    if bytes.starts_with(b"\0asm") {
        return Ok(());
    }
    if is_precompiled(bytes) {
        return refuse(format!(
            "the program is code that Wasmtime compiled in advance (.cwasm), which is never run from an image; {EXPECTED}: \
             put the .wasm that it was compiled from into the image"
        ));
    }
    if is_text(bytes) {
        return refuse(format!(
            "the program is WebAssembly text (.wat); {EXPECTED}: convert it with `wasm-tools parse` and put the result \
             into the image"
        ));
    }
    let what = match bytes {
        [] => "empty",
        [0x7f, b'E', b'L', b'F', ..] => "a native ELF binary",
        [b'#', b'!', ..] => "a script",
        [0x1f, 0x8b, ..] => "gzip-compressed data",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd-compressed data",
        [b'P', b'K', ..] => "a zip archive",
        _ if bytes.get(257..262) == Some(b"ustar") => "a tar archive",
        _ if b"\0asm".starts_with(bytes) => "cut off in its first four bytes",
        _ => "not WebAssembly (its first bytes are not \"\\0asm\")",
    };
    refuse(format!("the program is {what}; {EXPECTED}: check what the image's entrypoint or layer holds"))
}

fn refuse(sentence: String) -> Result<(), Refused> {
    Err(Refused(sentence))
}

/// Whether this is Wasmtime's compiled code: an ELF file whose operating system is Wasmtime's own number.
fn is_precompiled(bytes: &[u8]) -> bool {
    const ELFOSABI_WASMTIME: u8 = 200;
    bytes.starts_with(b"\x7fELF") && bytes.get(7) == Some(&ELFOSABI_WASMTIME)
}

/// Whether this is the text format: white space and comments, then an opening parenthesis and a word of that format.
fn is_text(bytes: &[u8]) -> bool {
    let mut rest = bytes.trim_ascii_start();
    while let Some(comment) = rest.strip_prefix(b";;") {
        let end = comment.iter().position(|&byte| byte == b'\n').unwrap_or(comment.len());
        rest = comment[end..].trim_ascii_start();
    }
    rest.strip_prefix(b"(")
        .map(<[u8]>::trim_ascii_start)
        .is_some_and(|rest| rest.starts_with(b"module") || rest.starts_with(b"component"))
}

/// The sentence for a program that begins as Wasm and goes on as something else.
#[must_use]
pub fn invalid(wasm: &[u8], error: &BinaryReaderError) -> Refused {
    invalid_of(wasm.len() as u64, error)
}

/// The same for a program of so many bytes.
pub(crate) fn invalid_of(size: u64, error: &BinaryReaderError) -> Refused {
    if let Some(feature) = error.missing_wasm_feature() {
        return needs(feature);
    }
    let (message, offset) = (error.message(), error.offset());
    if message.contains("unexpected end") || message.contains("out of bounds of") {
        return Refused(format!(
            "the program is cut off: it has {size} bytes and more were expected at byte {offset}; build it again, or push \
             the image again"
        ));
    }
    if offset <= 8 && (message.contains("version") || message.contains("magic")) {
        return Refused(format!(
            "the program's header is not one of WebAssembly 1.0 or of the component model ({message}); {EXPECTED}: build \
             it with a current toolchain"
        ));
    }
    Refused(format!(
        "the program is not valid WebAssembly: {message} (at byte {offset} of {size}); {EXPECTED}: check it with \
         `wasm-tools validate` and build it again"
    ))
}

fn needs(feature: WasmFeatures) -> Refused {
    let names: Vec<_> =
        feature.iter_names().map(|(name, _)| name.to_ascii_lowercase().replace('_', "-")).collect();
    Refused(format!(
        "the program uses the WebAssembly feature {}, which is off here; what is on by default in Wasmtime 48 without \
         threads was expected: build the program without that feature",
        names.join(" and ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_wasm_is_named() {
        let cases: [(&[u8], &str); 9] = [
            (b"", "empty"),
            (b"\0as", "cut off"),
            (b"\x7fELF\x02\x01", "native ELF"),
            (b"\x7fELF\x02\x01\x01\xc8", "(.cwasm)"),
            (b"#!/bin/sh\n", "script"),
            (b"\x1f\x8b\x08", "gzip"),
            (b"hello", "not WebAssembly"),
            (b";; a comment\n ( module)", "(.wat)"),
            (b"(component)", "(.wat)"),
        ];
        for (bytes, word) in cases {
            let sentence = unless_wasm(bytes).unwrap_err().to_string();
            assert!(sentence.contains(word) && !sentence.contains('\n'), "{sentence}");
        }
        assert!(unless_wasm(b"\0asm\x01\0\0\0").is_ok());
    }
}
