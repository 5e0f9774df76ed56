//! Reads a program piece by piece: no more of it is held than the largest section, or of a code section the largest function.

use std::io::{self, Read};

use wasmparser::{BinaryReaderError, Chunk, Parser, Payload, WasmFeatures};

use crate::facts::Reading;
use crate::refuse::invalid_of;
use crate::{Program, Refused, unless_wasm};

/// The least that is read at once, in bytes.
const PIECE: u64 = 256 << 10;

/// Why nothing is known of a program.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// It cannot be read.
    #[error("the program cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is none.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// Reads a program to its end, as [`read`](crate::read) reads one that is in memory.
///
/// # Errors
/// Those of reading, and where it is not valid WebAssembly of these features.
pub fn read_from(from: &mut impl Read, features: WasmFeatures) -> Result<Program, Unread> {
    let mut pieces = Pieces { from, held: Vec::new(), done: 0, ended: false, read: 0 };
    pieces.more(PIECE)?;
    unless_wasm(&pieces.held)?;
    let mut reading = Reading::new(features);
    match pieces.each(&mut |payload| reading.take(payload)) {
        Ok(()) => Ok(reading.end(pieces.read)),
        Err(Stop::Io(error)) => Err(error.into()),
        Err(Stop::Invalid(error)) => {
            // The sentence says how large the program is.
            let rest = io::copy(pieces.from, &mut io::sink())?;
            Err(invalid_of(pieces.read + rest, &error).into())
        }
    }
}

/// What ends the reading of a program before its end.
enum Stop {
    Io(io::Error),
    Invalid(BinaryReaderError),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<BinaryReaderError> for Stop {
    fn from(error: BinaryReaderError) -> Self {
        Self::Invalid(error)
    }
}

/// What is held of a program.
struct Pieces<'a, R> {
    from: &'a mut R,
    held: Vec<u8>,
    /// How much of what is held has been parsed.
    done: usize,
    ended: bool,
    /// How many bytes there were so far.
    read: u64,
}

impl<R: Read> Pieces<'_, R> {
    /// Reads that much more, or to the end, in place of what has been parsed.
    fn more(&mut self, bytes: u64) -> io::Result<()> {
        self.held.drain(..self.done);
        self.done = 0;
        let read = self.from.by_ref().take(bytes).read_to_end(&mut self.held)? as u64;
        self.ended = read < bytes;
        self.read += read;
        Ok(())
    }

    /// Hands over every payload, in the order of [`Parser::parse_all`].
    fn each(
        &mut self,
        take: &mut impl FnMut(&Payload<'_>) -> Result<(), BinaryReaderError>,
    ) -> Result<(), Stop> {
        let mut parser = Parser::new(0);
        let mut around = Vec::new();
        loop {
            match parser.parse(&self.held[self.done..], self.ended)? {
                Chunk::NeedMoreData(hint) => self.more(hint.max(PIECE))?,
                Chunk::Parsed { consumed, payload } => {
                    self.done += consumed;
                    take(&payload)?;
                    match payload {
                        Payload::ModuleSection { parser: inner, .. }
                        | Payload::ComponentSection { parser: inner, .. } => {
                            around.push(std::mem::replace(&mut parser, inner));
                        }
                        Payload::End(_) => match around.pop() {
                            Some(outer) => parser = outer,
                            None => return Ok(()),
                        },
                        _ => {}
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a byte at a time.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let few = buffer.len().min(1);
            self.0.read(&mut buffer[..few])
        }
    }

    fn component(data: usize) -> Vec<u8> {
        let text = format!(
            r#"(component
                (core module $m (memory 9) (func (export "f") (result i32) (i32.const 1)) (data (i32.const 0) "{}"))
                (core instance $i (instantiate $m))
                (component $inner (core module (func)))
                (func (export "run") (result u32) (canon lift (core func $i "f"))))"#,
            "x".repeat(data)
        );
        wat::parse_str(text).unwrap()
    }

    #[test]
    fn a_program_that_comes_in_pieces_is_what_it_is_as_a_whole() {
        for data in [1, PIECE as usize, 2 * PIECE as usize + 7] {
            let wasm = component(data);
            let whole = crate::read(&wasm, crate::features()).unwrap();
            let pieces = read_from(&mut Slow(&wasm), crate::features()).unwrap();
            assert_eq!(format!("{whole:?}"), format!("{pieces:?}"));
        }
    }

    #[test]
    fn what_is_wrong_is_told_as_of_the_whole() {
        let wasm = component(2 * PIECE as usize);
        for end in [0, 3, 7, 100, PIECE as usize, wasm.len() - 1] {
            let cut = &wasm[..end];
            let whole = match unless_wasm(cut) {
                Err(refused) => refused.to_string(),
                Ok(()) => crate::invalid(cut, &crate::read(cut, crate::features()).unwrap_err()).to_string(),
            };
            let pieces = read_from(&mut &*cut, crate::features()).unwrap_err().to_string();
            assert_eq!(whole, pieces, "cut at {end}");
        }
    }

    #[test]
    fn functions_are_held_one_by_one() {
        let body = "(func (drop (i32.const 1)))".repeat(2 * PIECE as usize / 4);
        let wasm = wat::parse_str(format!("(module {body})")).unwrap();
        let mut pieces =
            Pieces { from: &mut wasm.as_slice(), held: Vec::new(), done: 0, ended: false, read: 0 };
        let (mut functions, mut most) = (0, 0);
        pieces
            .each(&mut |payload| {
                functions += usize::from(matches!(payload, Payload::CodeSectionEntry(_)));
                if let Payload::CodeSectionEntry(body) = payload {
                    most = most.max(body.as_bytes().len());
                }
                Ok(())
            })
            .ok()
            .unwrap();
        assert_eq!(functions, 2 * PIECE as usize / 4);
        assert!(
            pieces.held.capacity() < 2 * PIECE as usize + most,
            "{} bytes are held",
            pieces.held.capacity()
        );
    }
}
