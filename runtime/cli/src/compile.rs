//! `wisp compile`: programs into the cache of compiled code, before the first pod that runs them.

use std::io::Write;

use anyhow::{Context, Result};
use bytesize::ByteSize;
use wisp_cache::Cache;
use wisp_config::Config;

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
    /// Wasm modules or components, binary or text; `-` reads one from standard input. Or images: by name, or the folders or
    /// archives of OCI layouts
    #[arg(required = true, value_name = "FILE|IMAGE")]
    programs: Vec<String>,
}

/// Compiles what the cache does not have yet.
///
/// # Errors
/// One sentence on the first program that cannot be had or compiled.
pub(crate) fn run(args: &Args, out: &mut impl Write) -> Result<()> {
    let cache = Cache::of(&Config::load()?)?;
    for name in &args.programs {
        for mut program in Program::all(name, &args.origin, &args.node)? {
            let title = if program.name == *name { name.clone() } else { format!("{name} {}", program.name) };
            let facts = cache.program(&mut program.wasm).with_context(|| title.clone())?.facts;
            let size = ByteSize::b(facts.code_bytes);
            writeln!(out, "{title}: {}, {size} compiled", inspect::kind(facts.kind))?;
        }
    }
    Ok(())
}
