//! `wisp images`: the images that there are.

use std::io::Write;

use anyhow::Result;
use bytesize::ByteSize;
use serde::Serialize;
use wisp_images::contents::Contents;
use wisp_images::image::Image;
use wisp_images::store::{Named, Store};

/// The command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print names only
    #[arg(short, long)]
    quiet: bool,
}

/// An image as it is listed.
#[derive(Debug, Serialize)]
struct Line {
    name: String,
    digest: String,
    /// `image`, or `artifact` for one that is Wasm alone.
    kind: &'static str,
    /// When it was made, where it says so.
    created: Option<String>,
    /// All its blobs that are here, in bytes.
    size: u64,
}

/// Lists them.
///
/// # Errors
/// One sentence.
pub(super) fn run(args: &Args, store: &Store, out: &mut impl Write) -> Result<()> {
    let lines = store.images()?.into_iter().map(|image| line(store, image)).collect::<Result<Vec<_>>>()?;
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&lines)?)?;
    } else if args.quiet {
        lines.iter().try_for_each(|line| writeln!(out, "{}", line.name))?;
    } else {
        let width = lines.iter().map(|line| line.name.len()).max().unwrap_or_default().max("NAME".len());
        writeln!(out, "{:width$}  {:12}  {:8}  {:20}  SIZE", "NAME", "DIGEST", "KIND", "CREATED")?;
        for line in lines {
            let digits =
                line.digest.strip_prefix("sha256:").and_then(|hex| hex.get(..12)).unwrap_or_default();
            let created = line.created.unwrap_or_else(|| "-".into());
            let size = ByteSize::b(line.size);
            writeln!(out, "{:width$}  {digits:12}  {:8}  {created:20}  {size}", line.name, line.kind)?;
        }
    }
    Ok(())
}

fn line(store: &Store, image: Named) -> Result<Line> {
    let contents = Contents::in_store(store.blobs(), &image.target)?;
    // One for other platforms only has no more to say.
    let opened = Image::open(store.blobs(), &image.target).ok();
    let is_artifact = opened.as_ref().is_some_and(|image| image.manifest.files.is_empty());
    Ok(Line {
        digest: image.target.digest().to_string(),
        kind: if is_artifact { "artifact" } else { "image" },
        created: opened
            .and_then(|image| image.created().map(str::to_owned))
            .filter(|time| !time.starts_with("1970")),
        size: contents.descriptors().map(oci_spec::image::Descriptor::size).sum(),
        name: image.name,
    })
}
