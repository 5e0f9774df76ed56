//! The commands about registries.
//!
//! - [`options`]: how a registry is spoken to.
//! - [`transfer`]: images from a registry to the store, the other way, and from registry to registry.
//! - [`progress`]: what a person sees meanwhile.

mod options;
mod progress;
mod transfer;

use std::io::Write;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use oci_spec::distribution::Reference;
use oci_spec::image::Descriptor;
use wisp_images::contents::Platforms;
use wisp_images::name::reference;
use wisp_images::store::{Named, Store};
use wisp_registry::Package;

use crate::images::{Form, Node, source};
pub(crate) use options::Remote;
pub(crate) use progress::Progress;
pub(crate) use transfer::pull;

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Push an image to a registry: one of `wisp images`, an OCI layout or archive, or Wasm files
    #[command(
        after_help = "Examples:\n  wisp push registry.example/app:1\n  wisp push app.wasm registry.example/app:1\n  \
                      wisp push --artifact app.wasm registry.example/app:1\n  wisp push ./layout registry.example/app:1\n\n\
                      The last line of output is the digest"
    )]
    Push(PushArgs),
    /// Pull images from a registry
    #[command(
        after_help = "Examples:\n  wisp pull registry.example/app:1\n  wisp pull --containerd registry.example/app:1   (for this node's pods)\n\n\
                      The last line of output is the digest"
    )]
    Pull(PullArgs),
    /// Copy an image from one name to another, registry to registry, with all its platforms
    #[command(
        after_help = "Example:\n  wisp cp registry.example/app:1 other.example/app:1\n\nThe last line of output is the digest"
    )]
    Cp(CpArgs),
}

/// The command line of `wisp push`.
#[derive(Debug, clap::Args)]
pub(crate) struct PushArgs {
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    remote: Remote,
    /// What is pushed, if it is not the image of this name, and the name
    #[arg(required = true, value_name = "[SOURCE]... NAME", num_args = 1..)]
    names: Vec<String>,
}

/// The command line of `wisp pull`.
#[derive(Debug, clap::Args)]
pub(crate) struct PullArgs {
    /// Pull what an index has for other platforms too
    #[arg(long)]
    all_platforms: bool,
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    node: Node,
    /// The image's name
    name: String,
}

/// The command line of `wisp cp`.
#[derive(Debug, clap::Args)]
pub(crate) struct CpArgs {
    #[command(flatten)]
    remote: Remote,
    /// The image's name
    from: String,
    /// The name that it gets
    to: String,
}

/// Does what the command says.
///
/// # Errors
/// One sentence.
pub(crate) fn run(command: Command, out: &mut impl Write) -> Result<()> {
    let progress = Progress::new();
    let digest = match command {
        Command::Push(args) => push(&args, &progress)?,
        Command::Pull(args) => {
            let store = Store::personal()?;
            let platforms = if args.all_platforms { Platforms::All } else { Platforms::Here };
            let name = named(&args.name, &args.remote, &progress)?;
            let target = pull(&store, &name, platforms, &args.remote, &progress)?;
            let image = Named { name: name.whole(), target };
            args.node.import(&store, std::slice::from_ref(&image))?;
            image.target
        }
        Command::Cp(args) => {
            let [from, to] = [&args.from, &args.to].map(|text| named(text, &args.remote, &progress));
            transfer::copy(&from?, &to?, &args.remote, &progress)?
        }
    };
    progress.finish();
    writeln!(out, "{}", digest.digest())?;
    Ok(())
}

/// The image that a name is of, also where it is that of a package, as wkg has it.
fn named(text: &str, remote: &Remote, progress: &Progress) -> Result<Reference> {
    match Package::parse(text) {
        Some(package) => Ok(package.reference(&remote.options(progress.watch()))?),
        None => Ok(reference(text)?),
    }
}

fn push(args: &PushArgs, progress: &Progress) -> Result<Descriptor> {
    let (name, sources) = args.names.split_last().context("a name was expected")?;
    let name = named(name, &args.remote, progress)?;
    let store = Store::personal()?;
    let _hold = store.hold()?;
    let image = match sources {
        [] => source::Image::of_store(&store, &name.whole())?,
        files if files.iter().all(source::is_wasm) => {
            let files: Vec<_> = files.iter().map(Into::into).collect();
            source::Image::passing(|blobs| args.form.make(blobs, &files))?
        }
        [source] => source::Image::open(&store, source)?,
        several => bail!(
            "{} sources were given, and not all are Wasm files; several Wasm files make one image, of anything else one is pushed",
            several.len()
        ),
    };
    transfer::push(&image.blobs, &image.target, &name, &args.remote, progress)?;
    Ok(image.target)
}
