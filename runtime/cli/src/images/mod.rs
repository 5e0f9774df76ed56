//! The commands about images: a person's own, in the store of `wisp-images`, and those of archives and nodes.
//!
//! - [`make`]: images of Wasm files, for `wisp build` and `wisp push`.
//! - [`project`], [`watch`]: what `wisp build` builds, once or again and again.
//! - [`list`]: `wisp images`.
//! - [`archive`]: `wisp save` and `wisp load`.
//! - [`source`]: what a person means by an image.
//! - [`node`]: `--containerd`, which brings images into a node's containerd, or finds them there.

mod archive;
mod list;
mod make;
mod node;
pub(crate) mod project;
pub(crate) mod source;
mod watch;

use std::io::Write;

use anyhow::Result;
use clap::Subcommand;
use wisp_images::name::reference;
use wisp_images::store::Store;

pub(crate) use make::{Form, source_date};
pub(crate) use node::{Node, takes};

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make an image of a project, or of Wasm files
    #[command(
        after_help = "Examples:\n  wisp build -t registry.example/app:1   (the Cargo project here, or what wisp.toml says)\n  wisp build -t app:dev --watch . -- -p 9000\n  wisp build -t registry.example/app:1 app.wasm\n  wisp build -t registry.example/app:1 --artifact app.wasm\n  \
                      wisp build -t app:dev --containerd=k8s.io app.wasm   (for a node's pods, without a registry)\n\n\
                      The image is the same to the byte for the same files; SOURCE_DATE_EPOCH sets the time that it says (1970)"
    )]
    Build(Box<make::Args>),
    /// List the images that there are
    #[command(after_help = "Examples:\n  wisp images\n  wisp images --json | jq '.[].name'")]
    Images(list::Args),
    /// Give an image a further name
    #[command(after_help = "Example:\n  wisp tag app:dev registry.example/app:1")]
    Tag {
        /// An image, by name or digest
        image: String,
        /// The name that it gets
        name: String,
    },
    /// Remove images by name, and what no other image needs
    #[command(after_help = "Example:\n  wisp rmi registry.example/app:1")]
    Rmi {
        /// Images, by name or digest
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// Write images to an archive that `wisp load`, `docker load` and `ctr images import` read
    #[command(
        after_help = "Examples:\n  wisp save -o app.tar registry.example/app:1\n  wisp save app:1 | ctr -n k8s.io images import -"
    )]
    Save(archive::SaveArgs),
    /// Read images from an archive of `wisp save`, `docker save`, buildx or `ctr images export`
    #[command(after_help = "Examples:\n  wisp load -i app.tar\n  docker save app:1 | wisp load")]
    Load(archive::LoadArgs),
}

/// Does what the command says.
///
/// # Errors
/// One sentence.
pub(crate) fn run(command: Command, out: &mut impl Write) -> Result<()> {
    let store = Store::personal()?;
    match command {
        Command::Build(args) => make::run(&args, &store, out),
        Command::Images(args) => list::run(&args, &store, out),
        Command::Tag { image, name } => Ok(store.tag(&reference(&name)?, &store.find(&image)?.target)?),
        Command::Rmi { images } => {
            for image in images {
                let image = store.find(&image)?;
                let freed = store.remove(&image.name)?;
                writeln!(out, "{} removed, {} freed", image.name, bytesize::ByteSize::b(freed))?;
            }
            Ok(())
        }
        Command::Save(args) => archive::save(&args, &store, out),
        Command::Load(args) => archive::load(&args, &store, out),
    }
}
