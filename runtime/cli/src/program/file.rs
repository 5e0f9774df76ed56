//! Where the program comes from: a file or standard input, binary or text.

use std::fs::File;
use std::io::{self, Read, Seek, Write};

use anyhow::{Context, anyhow};

use super::Failure;

/// How the binary format begins.
const MAGIC: &[u8] = b"\0asm";
/// The longest text, in bytes: what a person writes.
const LONGEST_TEXT: u64 = 64 << 20;
/// The most that is taken from standard input, in bytes, many times more than the largest program has.
const LONGEST: u64 = 1 << 30;

/// The Wasm of a file or, with `-`, of standard input. Text (`.wat`) is made binary; the content decides which it is.
pub(crate) fn open(name: &str) -> Result<File, Failure> {
    let mut file = match name {
        "-" => spool(&mut io::stdin().lock()).context("standard input")?,
        name => File::open(name).map_err(|error| {
            let missing = error.kind() == io::ErrorKind::NotFound;
            let error = anyhow!("{name} cannot be opened ({error}); a Wasm module or component was expected");
            if missing { Failure::NotFound(error) } else { Failure::NotRunnable(error) }
        })?,
    };
    let mut start = Vec::new();
    (&file)
        .take(1024)
        .read_to_end(&mut start)
        .map_err(|error| Failure::NotRunnable(anyhow!("{name}: {error}")))?;
    file.rewind().context("a program that can be read again was expected")?;
    if is_text(&start) { assemble(name, &file) } else { Ok(file) }
}

/// Whether this is how a program in the text format begins: with a parenthesis or a comment.
fn is_text(start: &[u8]) -> bool {
    let start = start.trim_ascii_start();
    !start.starts_with(MAGIC) && (start.starts_with(b"(") || start.starts_with(b";;"))
}

fn assemble(name: &str, file: &File) -> Result<File, Failure> {
    let mut text = String::new();
    file.take(LONGEST_TEXT)
        .read_to_string(&mut text)
        .map_err(|error| Failure::NotRunnable(anyhow!("{name}: {error}")))?;
    let wasm = wat::parse_str(text).map_err(|mut error| {
        error.set_path(name);
        // What follows is a drawing of the place.
        let sentence = error.to_string().lines().take(2).map(str::trim).collect::<Vec<_>>().join(" ");
        Failure::NotRunnable(anyhow!("{name} is not well-formed WebAssembly text: {sentence}"))
    })?;
    Ok(spool(&mut wasm.as_slice()).context("a temporary file")?)
}

/// A nameless file with what there is to read.
fn spool(from: &mut impl Read) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    if io::copy(&mut from.take(LONGEST), &mut file)? == LONGEST {
        return Err(io::Error::other(format!("{LONGEST} bytes came and no end; a program was expected")));
    }
    file.flush()?;
    file.rewind()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_says_what_is_text() {
        assert!(is_text(b"\n  (module)") && is_text(b";; a comment\n(module)"));
        assert!(!is_text(b"\0asm\x01\0\0\0") && !is_text(b"#!/bin/sh") && !is_text(b""));
    }
}
