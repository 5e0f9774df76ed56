//! The program that a person means: a file ([`file`]), or one of an image ([`image`]).

mod file;
mod image;

use std::fs::File;

use anyhow::Context;
use tempfile::TempDir;

use crate::images::Node;
use crate::registry::Remote;
use image::Meant;

/// Where images are looked for, and what of them is meant.
#[derive(Debug, clap::Args)]
pub(crate) struct Origin {
    /// What is meant in place of an image's own entrypoint
    #[arg(long, value_name = "PATH")]
    entrypoint: Option<String>,
    /// When an image is pulled
    #[arg(long, value_enum, default_value_t = Pull::Missing)]
    pull: Pull,
    #[command(flatten)]
    remote: Remote,
}

/// When an image is pulled, in docker's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Pull {
    /// If it is not here.
    Missing,
    /// Each time.
    Always,
    /// Not at all.
    Never,
}

/// Why a program is not to be had, told apart as docker's exit codes are.
pub(crate) enum Failure {
    /// Wisp or its options are at fault.
    Wisp(anyhow::Error),
    /// The program cannot be run.
    NotRunnable(anyhow::Error),
    /// There is no such program.
    NotFound(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Wisp(error)
    }
}

impl From<Failure> for anyhow::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Wisp(error) | Failure::NotRunnable(error) | Failure::NotFound(error) => error,
        }
    }
}

/// A program, wherever it comes from.
pub(crate) struct Program {
    /// Its Wasm.
    pub(crate) wasm: File,
    /// Its name in messages, and its first argument.
    pub(crate) name: String,
    /// The export that its image names.
    pub(crate) export: Option<String>,
    /// Its further arguments.
    pub(crate) args: Vec<String>,
    /// What its image sets, which options override.
    pub(crate) env: Vec<String>,
    /// Where its image wants it to be.
    pub(crate) workdir: Option<String>,
    /// The files of its image, which go with it.
    pub(crate) root: Option<TempDir>,
}

impl Program {
    /// A program that brings nothing but itself and what it is called with.
    fn alone(wasm: File, name: &str, args: &[String]) -> Self {
        let (name, args) = (name.to_owned(), args.to_vec());
        Self { wasm, name, export: None, args, env: Vec::new(), workdir: None, root: None }
    }

    /// The program of a file or an image, called with these arguments in this folder of the guest's, or in the image's own.
    pub(crate) fn open(
        name: &str,
        origin: &Origin,
        args: &[String],
        workdir: Option<&str>,
    ) -> Result<Self, Failure> {
        match is_image(name)? {
            true => Meant::here(name, origin)?.program(origin, args, workdir),
            false => Ok(Self::alone(file::open(name)?, name, args)),
        }
    }

    /// Every program that pods of this image may start without a word of their own: the entrypoint, or all layers of an artifact. Of
    /// a file it is the file.
    pub(crate) fn all(name: &str, origin: &Origin, node: &Node) -> Result<Vec<Self>, Failure> {
        if node.is_asked() {
            return Meant::of_node(name, node)?.programs(origin);
        }
        match is_image(name)? {
            true => Meant::here(name, origin)?.programs(origin),
            false => Ok(vec![Self::alone(file::open(name)?, name, &[])]),
        }
    }
}

fn is_image(name: &str) -> anyhow::Result<bool> {
    Ok(name != "-" && image::is_meant(name).with_context(|| name.to_owned())?)
}
