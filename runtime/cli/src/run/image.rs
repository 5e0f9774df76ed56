//! `wisp run IMAGE`: what an image says of its process, and its files in a folder of their own.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use sha2::{Digest as _, Sha256};
use wisp_contract::digest::Digest;
use wisp_entrypoint::{Files, Kind};
use wisp_images::blobs::Blobs;
use wisp_images::contents::Platforms;
use wisp_images::document::Wasm;
use wisp_images::image::Image;
use wisp_images::store::{Store, reference};

use super::options::Pull;
use super::{Args, Failure, Program};
use crate::images::source;
use crate::registry::{Progress, pull};

/// The program of an image, which is a name of the store, an OCI layout or an archive; one that is not in the store is pulled.
pub(super) fn open(name: &str, args: &Args) -> Result<Program, Failure> {
    let store = Store::personal().context("the images")?;
    // What is used is not removed meanwhile.
    let _hold = store.hold().context("the images")?;
    let found = find(&store, name, args)?;
    let image = Image::open(&found.blobs, &found.target)
        .map_err(|error| Failure::NotRunnable(anyhow::Error::from(error).context(name.to_owned())))?;
    if image.manifest.files.is_empty() {
        return artifact(&found.blobs, &image.manifest.wasm, name, args);
    }
    files(&found.blobs, &image, name, args)
}

fn find(store: &Store, name: &str, args: &Args) -> Result<source::Image, Failure> {
    let missing = |error: anyhow::Error| Failure::NotFound(error);
    let wanted = match args.pull {
        Pull::Missing => store.find(name).is_err(),
        Pull::Always => true,
        Pull::Never => false,
    };
    if wanted && !source::is_path(name) {
        let progress = Progress::new();
        let name = reference(name).map_err(|error| missing(error.into()))?;
        let pulled = pull(store, &name, Platforms::Here, &args.remote, &progress);
        progress.finish();
        pulled?;
    }
    source::Image::open(store, name).map_err(missing)
}

/// The only layer of an artifact, or the one whose title the entrypoint is.
fn artifact(blobs: &Blobs, layers: &[Wasm], name: &str, args: &Args) -> Result<Program, Failure> {
    let entrypoint = args.entrypoint.as_deref().map(wisp_entrypoint::split);
    let titles: Vec<_> = layers.iter().filter_map(|layer| layer.title.as_deref()).collect();
    let layer = match (layers, entrypoint) {
        ([layer], _) => Some(layer),
        (_, Some((asked, _))) => {
            layers.iter().find(|layer| layer.title.as_deref() == Some(asked.trim_start_matches('/')))
        }
        _ => None,
    };
    let layer = layer.ok_or_else(|| {
        Failure::NotFound(anyhow!(
            "{name} has the Wasm layers {}; say which with --entrypoint",
            if titles.is_empty() { "(none)".into() } else { titles.join(", ") }
        ))
    })?;
    let path = blobs.path(&layer.digest);
    let wasm = verified(&path, &layer.digest)
        .map_err(|error| Failure::NotRunnable(error.context(path.display().to_string())))?;
    Ok(Program {
        wasm,
        name: layer.title.clone().unwrap_or_else(|| name.to_owned()),
        export: args.export().or_else(|| entrypoint.and_then(|(_, export)| export.map(str::to_owned))),
        args: args.args.clone(),
        env: Vec::new(),
        workdir: None,
        root: None,
    })
}

/// A blob that is what its digest says.
fn verified(path: &Path, digest: &Digest) -> Result<File> {
    let mut file = File::open(path)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => hash.update(&buffer[..read]),
        }
    }
    if <[u8; 32]>::from(hash.finalize()) != digest.0 {
        bail!("it is not what its digest says; remove the image and pull it again");
    }
    file.rewind()?;
    Ok(file)
}

/// The program that an ordinary image's entrypoint is.
fn files(blobs: &Blobs, image: &Image, name: &str, args: &Args) -> Result<Program, Failure> {
    let refused = |error: anyhow::Error| Failure::NotRunnable(error.context(name.to_owned()));
    let root = tempfile::tempdir().context("a temporary folder")?;
    image.unpack(blobs, root.path()).map_err(|error| refused(error.into()))?;
    let config = image.config().cloned().unwrap_or_default();
    let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    // As docker has it: an entrypoint that is given takes the image's command away too.
    let mut words = match &args.entrypoint {
        Some(entrypoint) => vec![entrypoint.clone()],
        None => list(config.entrypoint()),
    };
    if args.args.is_empty() && args.entrypoint.is_none() {
        words.extend(list(config.cmd()));
    }
    words.extend(args.args.iter().cloned());
    let mut words = words.into_iter();
    let Some(first) = words.next() else {
        return Err(Failure::NotFound(anyhow!(
            "{name} says neither an entrypoint nor a command; say one, or --entrypoint"
        )));
    };
    let workdir = config.working_dir().clone().filter(|dir| dir.starts_with('/'));
    let env = list(config.env());
    let here = Files::with_binds(root.path(), Vec::new()).context("the image's files")?;
    let cwd = args.workdir.as_deref().or(workdir.as_deref()).unwrap_or("/");
    let found = wisp_entrypoint::find(&here, &first, Path::new(cwd), &env)
        .map_err(|error| entrypoint(error, name))?;
    if found.kind == Kind::Native {
        return Err(refused(anyhow!(
            "the entrypoint {} is a native program; wisp run runs WebAssembly only",
            found.path.display()
        )));
    }
    Ok(Program {
        wasm: found.file,
        name: first,
        export: args.export().or(found.export),
        args: words.collect(),
        env,
        workdir,
        root: Some(root),
    })
}

fn entrypoint(error: wisp_entrypoint::Error, name: &str) -> Failure {
    let is_missing = matches!(error, wisp_entrypoint::Error::NotFound { .. });
    let error = anyhow::Error::from(error).context(name.to_owned());
    if is_missing { Failure::NotFound(error) } else { Failure::NotRunnable(error) }
}

/// Whether a name is meant as one of an image: no file of that name, or a layout or archive.
pub(super) fn is_meant(name: &str) -> io::Result<bool> {
    let path = Path::new(name);
    if path.is_dir() || (!path.exists() && source::is_path(name)) {
        return Ok(true);
    }
    let mut start = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(512).read_to_end(&mut start)?,
        // A name that looks like a file's is a file's.
        Err(_) => {
            let looks = ["/", "./", "../"].iter().any(|start| name.starts_with(start));
            let ends = [".wasm", ".wat"].iter().any(|end| name.ends_with(end));
            return Ok(!looks && !ends && reference(name).is_ok());
        }
    };
    Ok(start.starts_with(&[0x1f, 0x8b]) || start.get(257..262) == Some(b"ustar"))
}
