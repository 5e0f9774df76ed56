//! `wisp save` and `wisp load`.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use wisp_images::archive;
use wisp_images::store::{Named, Store};

use super::node::Node;

/// The command line of `wisp save`.
#[derive(Debug, clap::Args)]
pub(crate) struct SaveArgs {
    /// The archive to write, in place of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Images, by name or digest
    #[arg(required = true)]
    images: Vec<String>,
}

/// The command line of `wisp load`.
#[derive(Debug, clap::Args)]
pub(crate) struct LoadArgs {
    /// The archive to read, in place of standard input; compressed with gzip or not
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// The name of an image for which the archive has none
    #[arg(short, long, value_name = "NAME")]
    tag: Option<String>,
    #[command(flatten)]
    node: Node,
}

/// Writes the archive.
///
/// # Errors
/// One sentence.
pub(super) fn save(args: &SaveArgs, store: &Store, out: &mut impl Write) -> Result<()> {
    let images = args.images.iter().map(|image| store.find(image)).collect::<Result<Vec<Named>, _>>()?;
    let _hold = store.hold()?;
    match &args.output {
        Some(path) => {
            let file = File::create(path).with_context(|| path.display().to_string())?;
            Ok(archive::save(store, &images, io::BufWriter::new(file))?)
        }
        None => {
            ensure!(
                !io::stdout().is_terminal(),
                "an archive is not written to a terminal; say --output FILE, or redirect standard output"
            );
            Ok(archive::save(store, &images, out)?)
        }
    }
}

/// Reads the archive.
///
/// # Errors
/// One sentence.
pub(super) fn load(args: &LoadArgs, store: &Store, out: &mut impl Write) -> Result<()> {
    let name = args.tag.as_deref();
    let images = match &args.input {
        Some(path) => {
            let file = File::open(path).with_context(|| path.display().to_string())?;
            archive::load(store, file, name).with_context(|| path.display().to_string())?
        }
        None => {
            ensure!(
                !io::stdin().is_terminal(),
                "an archive is not read from a terminal; say --input FILE, or redirect standard input"
            );
            archive::load(store, io::stdin().lock(), name)?
        }
    };
    args.node.import(store, &images)?;
    for image in images {
        writeln!(out, "{}\n{}", image.name, image.target.digest())?;
    }
    Ok(())
}
