//! `wisp compile`: programs into the cache of compiled code, before the first pod that runs them.

use std::io::Write;

use anyhow::{Context, Result};
use bytesize::ByteSize;
use serde::Serialize;
use wisp_cache::Cache;
use wisp_config::Config;
use wisp_contract::facts::{Facts, Kind};

use crate::images::{self, Node};
use crate::inspect;
use crate::program::{Origin, Program};

/// The command line.
#[derive(Debug, clap::Args)]
#[command(mut_arg("containerd", images::takes))]
pub(crate) struct Args {
    #[command(flatten)]
    origin: Origin,
    #[command(flatten)]
    node: Node,
    /// Print JSON (its fields are in docs/cli.md)
    #[arg(long)]
    json: bool,
    /// Wasm modules or components, binary or text; `-` reads one from standard input. Or images: by name, or the folders or
    /// archives of OCI layouts
    #[arg(required = true, value_name = "FILE|IMAGE")]
    programs: Vec<String>,
}

/// A program that the cache has the code of. Fields are added and never taken away.
#[derive(Debug, Serialize)]
struct Compiled {
    /// As it was named; of an image with the program's own name.
    program: String,
    /// What it is.
    kind: Kind,
    /// The size of the code.
    code_bytes: u64,
    /// The engine profile.
    profile: String,
    /// The version of Wasmtime.
    wasmtime: String,
}

/// Compiles what the cache does not have yet.
///
/// # Errors
/// One sentence on the first program that cannot be had or compiled.
pub(crate) fn run(args: &Args, out: &mut impl Write) -> Result<()> {
    let cache = Cache::of(&Config::load()?)?;
    let mut all = Vec::new();
    for name in &args.programs {
        for mut program in Program::all(name, &args.origin, &args.node)? {
            let title = if program.name == *name { name.clone() } else { format!("{name} {}", program.name) };
            let facts = cache.program(&mut program.wasm).with_context(|| title.clone())?.facts;
            if !args.json {
                let size = ByteSize::b(facts.code_bytes);
                writeln!(out, "{title}: {}, {size} compiled", inspect::kind(facts.kind))?;
            }
            let Facts { kind, code_bytes, profile, wasmtime, .. } = facts;
            all.push(Compiled { program: title, kind, code_bytes, profile, wasmtime });
        }
    }
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
    }
    Ok(())
}
