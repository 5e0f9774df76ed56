//! `wisp inspect`: what a program is, what it asks for and what it offers.
//!
//! Nothing is compiled and nothing runs: the program's bytes are read ([`report`]), its interfaces as WIT by another process
//! ([`wit`]), and the cache is only asked.

mod report;
mod text;
mod wit;

use std::fs::File;
use std::io::{Read, Write};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use wisp_images::make::LARGEST;

use crate::images::{self, Node};
use crate::program::{Origin, Program};

pub(crate) use text::kind;
pub(crate) use wit::print as print_wit;

/// The command line.
#[derive(Debug, clap::Args)]
#[command(mut_arg("containerd", images::takes))]
pub(crate) struct Args {
    /// Print JSON (its fields are in docs/cli.md)
    #[arg(long)]
    json: bool,
    /// Print the component's interfaces as WIT, and nothing else
    #[arg(long, conflicts_with = "json")]
    wit: bool,
    #[command(flatten)]
    origin: Origin,
    #[command(flatten)]
    node: Node,
    /// A Wasm module or component, binary or text; `-` reads it from standard input. Or an image: by its name, or the folder or
    /// archive of an OCI layout
    #[arg(value_name = "FILE|IMAGE")]
    file: String,
}

/// Prints what is known of a program.
///
/// # Errors
/// One sentence where the file is no program; the output's own errors.
pub(crate) fn run(args: &Args, out: &mut impl Write) -> Result<ExitCode> {
    let mut file = program(args)?.wasm;
    let wasm = bytes(&file).with_context(|| args.file.clone())?;
    if args.wit {
        wisp_reader::unless_wasm(&wasm)?;
        let wit = wit::of(&wasm).with_context(|| args.file.clone())?;
        out.write_all(wit.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let report = report::Report::of(&wasm, &mut file).with_context(|| args.file.clone())?;
    let text = if args.json {
        serde_json::to_string_pretty(&report)? + "\n"
    } else {
        text::text(&report, &args.file)
    };
    out.write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// The one program that is meant.
fn program(args: &Args) -> Result<Program> {
    let mut programs = Program::all(&args.file, &args.origin, &args.node)?;
    match (programs.pop(), programs.as_slice()) {
        (Some(program), []) => Ok(program),
        (last, others) => {
            let names: Vec<_> = others.iter().chain(&last).map(|program| program.name.as_str()).collect();
            bail!("{} has the programs {}; say which with --entrypoint", args.file, names.join(", "))
        }
    }
}

fn bytes(file: &File) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    ensure!(
        bytes.len() as u64 <= LARGEST,
        "it is larger than {}; a program that can be compiled was expected",
        bytesize::ByteSize::b(LARGEST)
    );
    Ok(bytes)
}
