//! Programs that are refused, each with one sentence: what was found, what was expected, what to do.

use anyhow::{Error, anyhow, bail};
use wasmparser::{BinaryReaderError, Validator, WasmFeatures};

const EXPECTED: &str = "a WebAssembly module or component (a .wasm file) was expected";

/// Refuses what does not begin as Wasm does, and says what it is instead.
pub(crate) fn unless_wasm(bytes: &[u8]) -> anyhow::Result<()> {
    if bytes.starts_with(b"\0asm") {
        return Ok(());
    }
    if is_precompiled(bytes) {
        bail!(
            "the program is code that Wasmtime compiled in advance (.cwasm), which is never run from an image; {EXPECTED}: \
             put the .wasm that it was compiled from into the image"
        );
    }
    if is_text(bytes) {
        bail!(
            "the program is WebAssembly text (.wat); {EXPECTED}: convert it with `wasm-tools parse` and put the result \
             into the image"
        );
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
    bail!("the program is {what}; {EXPECTED}: check what the image's entrypoint or layer holds");
}

fn is_precompiled(bytes: &[u8]) -> bool {
    wisp_engine::Engine::detect_precompiled(bytes).is_some()
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
pub(crate) fn invalid(wasm: &[u8], error: &BinaryReaderError) -> Error {
    if let Some(feature) = error.missing_wasm_feature() {
        return needs(feature);
    }
    let (message, offset, size) = (error.message(), error.offset(), wasm.len());
    if message.contains("unexpected end") || message.contains("out of bounds of") {
        return anyhow!(
            "the program is cut off: it has {size} bytes and more were expected at byte {offset}; build it again, or push \
             the image again"
        );
    }
    if offset <= 8 && (message.contains("version") || message.contains("magic")) {
        return anyhow!(
            "the program's header is not one of WebAssembly 1.0 or of the component model ({message}); {EXPECTED}: build \
             it with a current toolchain"
        );
    }
    anyhow!(
        "the program is not valid WebAssembly: {message} (at byte {offset} of {size}); {EXPECTED}: check it with \
         `wasm-tools validate` and build it again"
    )
}

/// The sentence for a program that the compiler gave up on: most often an invalid function body.
pub(crate) fn uncompilable(wasm: &[u8], features: WasmFeatures, error: &wisp_engine::Error) -> Error {
    match Validator::new_with_features(features).validate_all(wasm) {
        Err(invalid_at) => invalid(wasm, &invalid_at),
        Ok(_) => anyhow!(
            "the program is valid WebAssembly that cannot be compiled here ({}); make it smaller or simpler, or report \
             it with the program",
            one_line(error)
        ),
    }
}

fn needs(feature: WasmFeatures) -> Error {
    let names: Vec<_> =
        feature.iter_names().map(|(name, _)| name.to_ascii_lowercase().replace('_', "-")).collect();
    anyhow!(
        "the program uses the WebAssembly feature {}, which is off here; what is on by default in Wasmtime 48 without \
         threads was expected: build the program without that feature",
        names.join(" and ")
    )
}

/// An error and its causes, without line breaks.
fn one_line(error: &wisp_engine::Error) -> String {
    format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_wasm_is_named() {
        let cases: [(&[u8], &str); 8] = [
            (b"", "empty"),
            (b"\0as", "cut off"),
            (b"\x7fELF\x02\x01", "native ELF"),
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
