//! A program of an image: what the image says of its process, and its files in a folder of their own.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use oci_spec::image::Config;
use sha2::{Digest as _, Sha256};
use wisp_contract::digest::Digest;
use wisp_entrypoint::{Files, Kind};
use wisp_images::blobs::Blobs;
use wisp_images::contents::Platforms;
use wisp_images::document::{self, Wasm};
use wisp_images::image::Image;
use wisp_images::name::reference;
use wisp_images::store::{Hold, Store};
use wisp_registry::Package;

use super::{Failure, Origin, Program, Pull};
use crate::images::{Node, source};
use crate::registry::{Progress, pull};

/// An image of which a program is meant.
pub(super) struct Meant<'a> {
    name: &'a str,
    image: Image,
    blobs: Blobs,
    /// What keeps the blobs from being removed meanwhile.
    _kept: (Option<Hold>, Option<source::Image>),
}

impl<'a> Meant<'a> {
    /// A name of the store, an OCI layout or an archive; what is not in the store is pulled.
    pub(super) fn here(name: &'a str, origin: &Origin) -> Result<Self, Failure> {
        let store = Store::personal().context("the images")?;
        let hold = store.hold().context("the images")?;
        let found = find(&store, name, origin)?;
        let target = document::digest(&found.target).map_err(|error| refused(name, error))?;
        Self::new(name, found.blobs.clone(), target, (Some(hold), Some(found)))
    }

    /// An image that this node's containerd has.
    pub(super) fn of_node(name: &'a str, node: &Node) -> Result<Self, Failure> {
        let (blobs, target) = node.find(name)?;
        Self::new(name, blobs, target, (None, None))
    }

    fn new(
        name: &'a str,
        blobs: Blobs,
        target: Digest,
        kept: (Option<Hold>, Option<source::Image>),
    ) -> Result<Self, Failure> {
        let image = Image::at(&blobs, target).map_err(|error| refused(name, error))?;
        Ok(Self { name, image, blobs, _kept: kept })
    }

    /// The program that the image's entrypoint is, or the one of an artifact.
    pub(super) fn program(
        &self,
        origin: &Origin,
        args: &[String],
        workdir: Option<&str>,
    ) -> Result<Program, Failure> {
        let entrypoint = origin.entrypoint.as_deref();
        if self.image.manifest.files.is_empty() {
            let (layer, export) = self.layer(entrypoint)?;
            return Ok(Program { export: export.map(str::to_owned), ..self.of_layer(layer, args)? });
        }
        self.file(entrypoint, args, workdir)
    }

    /// The same, or every program of an artifact of which none is chosen.
    pub(super) fn programs(&self, origin: &Origin) -> Result<Vec<Program>, Failure> {
        if self.image.manifest.files.is_empty() && origin.entrypoint.is_none() {
            let layers = &self.image.manifest.wasm;
            if layers.is_empty() {
                self.layer(None)?;
            }
            return layers.iter().map(|layer| self.of_layer(layer, &[])).collect();
        }
        Ok(vec![self.program(origin, &[], None)?])
    }

    /// The only layer of an artifact, or the one whose title the entrypoint is; and the export that this names.
    fn layer<'e>(&self, entrypoint: Option<&'e str>) -> Result<(&Wasm, Option<&'e str>), Failure> {
        let layers = self.image.manifest.wasm.as_slice();
        let entrypoint = entrypoint.map(wisp_entrypoint::split);
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
                "{} has the Wasm layers {}; say which with --entrypoint",
                self.name,
                if titles.is_empty() { "(none)".into() } else { titles.join(", ") }
            ))
        })?;
        Ok((layer, entrypoint.and_then(|(_, export)| export)))
    }

    fn of_layer(&self, layer: &Wasm, args: &[String]) -> Result<Program, Failure> {
        let path = self.blobs.path(&layer.digest);
        let wasm = verified(&path, &layer.digest)
            .map_err(|error| Failure::NotRunnable(error.context(path.display().to_string())))?;
        Ok(Program::alone(wasm, layer.title.as_deref().unwrap_or(self.name), args))
    }

    /// The program that an ordinary image's entrypoint is.
    fn file(
        &self,
        entrypoint: Option<&str>,
        args: &[String],
        workdir: Option<&str>,
    ) -> Result<Program, Failure> {
        let root = tempfile::tempdir().context("a temporary folder")?;
        self.image.unpack(&self.blobs, root.path()).map_err(|error| refused(self.name, error))?;
        let config = self.image.config().cloned().unwrap_or_default();
        let mut words = words(&config, entrypoint, args).into_iter();
        let Some(first) = words.next() else {
            return Err(Failure::NotFound(anyhow!(
                "{} says neither an entrypoint nor a command; say one, or --entrypoint",
                self.name
            )));
        };
        let own = config.working_dir().clone().filter(|dir| dir.starts_with('/'));
        let env = list(config.env());
        let here = Files::with_binds(root.path(), Vec::new()).context("the image's files")?;
        let cwd = workdir.or(own.as_deref()).unwrap_or("/");
        let found = wisp_entrypoint::find(&here, &first, Path::new(cwd), &env)
            .map_err(|error| missing(error, self.name))?;
        if found.kind == Kind::Native {
            let native = "is a native program; wisp runs WebAssembly only";
            return Err(refused(self.name, anyhow!("the entrypoint {} {native}", found.path.display())));
        }
        Ok(Program {
            wasm: found.file,
            name: first,
            export: found.export,
            args: words.collect(),
            env,
            workdir: own,
            root: Some(root),
        })
    }
}

fn find(store: &Store, name: &str, origin: &Origin) -> Result<source::Image, Failure> {
    let missing = |error: anyhow::Error| Failure::NotFound(error);
    if let Some(package) = package(name) {
        let image = package.reference(&origin.remote.options(Progress::new().watch()));
        return find(store, &image.map_err(|error| missing(error.into()))?.whole(), origin);
    }
    let wanted = match origin.pull {
        Pull::Missing => store.find(name).is_err(),
        Pull::Always => true,
        Pull::Never => false,
    };
    if wanted && !source::is_path(name) {
        let progress = Progress::new();
        let name = reference(name).map_err(|error| missing(error.into()))?;
        let pulled = pull(store, &name, Platforms::Here, &origin.remote, &progress);
        progress.finish();
        pulled?;
    }
    source::Image::open(store, name).map_err(missing)
}

/// The package that a name is of, as wkg has it, unless it is that of a file.
fn package(name: &str) -> Option<Package> {
    Package::parse(name).filter(|_| !source::is_path(name))
}

/// What an image starts. As docker has it: an entrypoint that is given takes the image's command away too.
fn words(config: &Config, entrypoint: Option<&str>, args: &[String]) -> Vec<String> {
    let mut words = match entrypoint {
        Some(entrypoint) => vec![entrypoint.to_owned()],
        None => list(config.entrypoint()),
    };
    if args.is_empty() && entrypoint.is_none() {
        words.extend(list(config.cmd()));
    }
    words.extend(args.iter().cloned());
    words
}

fn list(list: &Option<Vec<String>>) -> Vec<String> {
    list.clone().unwrap_or_default()
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

fn refused(name: &str, error: impl Into<anyhow::Error>) -> Failure {
    Failure::NotRunnable(error.into().context(name.to_owned()))
}

fn missing(error: wisp_entrypoint::Error, name: &str) -> Failure {
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
            return Ok(!looks && !ends && (reference(name).is_ok() || package(name).is_some()));
        }
    };
    Ok(start.starts_with(&[0x1f, 0x8b]) || start.get(257..262) == Some(b"ustar"))
}
