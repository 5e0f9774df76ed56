//! `wisp build`: an image of a project, or of Wasm files.

use std::collections::BTreeMap;
use std::env;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use oci_spec::image::Descriptor;
use wisp_images::blobs::Blobs;
use wisp_images::make::{self, About, Process, Program};
use wisp_images::name::reference;
use wisp_images::store::{Named, Store};

use super::node::Node;
use super::project::Project;
use super::watch;

/// The command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The image's name, if no wisp.toml says it
    #[arg(short, long, value_name = "NAME")]
    tag: Option<String>,
    /// Build again and run it again, whenever a file of the project changes
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    node: Node,
    /// A project's folder; or Wasm modules or components, of which the first is what runs
    #[arg(value_name = "DIR|FILE.wasm", default_value = ".")]
    sources: Vec<PathBuf>,
    /// With --watch, options of `wisp run`
    #[arg(last = true, value_name = "OPTION", requires = "watch")]
    options: Vec<String>,
}

/// What an image is made as, in a Dockerfile's words.
#[derive(Debug, clap::Args)]
pub(crate) struct Form {
    /// An ordinary image with the files at its root, for linux/amd64 and linux/arm64, so that every kubelet takes it (the default)
    #[arg(long, conflicts_with = "artifact")]
    rootfs: bool,
    /// The CNCF's Wasm artifact: the file alone, as `wkg` has it; a pod of it must say `command:`
    #[arg(long, conflicts_with_all = ["entrypoint", "cmd", "env", "workdir", "user", "expose", "label"])]
    artifact: bool,
    /// What runs in place of the first file, for instance /app.wasm or /app.wasm#export
    #[arg(long, value_name = "PATH")]
    entrypoint: Option<String>,
    /// Arguments of the entrypoint unless others are given
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    cmd: Vec<String>,
    /// Set a variable
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// The working directory
    #[arg(short, long, value_name = "PATH")]
    workdir: Option<String>,
    /// The user, for instance 65532:65532
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// A port that the service has, for those who read the image
    #[arg(long, value_name = "PORT")]
    expose: Vec<String>,
    /// Set a label
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// Set an annotation of the manifest
    #[arg(long, value_name = "NAME=VALUE")]
    annotation: Vec<String>,
}

/// Makes the image and gives it its name.
///
/// # Errors
/// One sentence.
pub(super) fn run(args: &Args, store: &Store, out: &mut impl Write) -> Result<()> {
    if let ([folder], true) = (args.sources.as_slice(), args.watch) {
        ensure!(folder.is_dir(), "--watch {}: the folder of a project was expected", folder.display());
        return watch::run(folder, &args.options, || Ok(image(args, store)?.name));
    }
    ensure!(!args.watch, "--watch takes one folder of a project");
    let image = image(args, store)?;
    args.node.import(store, std::slice::from_ref(&image))?;
    writeln!(out, "{}\n{}", image.name, image.target.digest())?;
    Ok(())
}

fn image(args: &Args, store: &Store) -> Result<Named> {
    let (files, tag) = match args.sources.as_slice() {
        [folder] if folder.is_dir() => {
            let project = Project::open(folder)?;
            (project.build()?, project.tag)
        }
        files => (files.to_vec(), None),
    };
    if let Some(absent) = files.iter().find(|file| !file.exists()) {
        bail!("{} is not there; the folder of a project or a Wasm file was expected", absent.display());
    }
    let name = args.tag.clone().or(tag);
    let name = reference(&name.context("the image has no name; say --tag NAME, or tag in wisp.toml")?)?;
    let hold = store.hold()?;
    let target = args.form.make(store.blobs(), &files)?;
    store.tag(&name, &target)?;
    drop(hold);
    // What the name led to before.
    store.collect()?;
    Ok(Named { name: name.whole(), target })
}

impl Form {
    /// Makes the image; its blobs have no name yet.
    pub(crate) fn make(&self, blobs: &Blobs, files: &[PathBuf]) -> Result<Descriptor> {
        let programs = files.iter().map(|file| program(file)).collect::<Result<Vec<_>>>()?;
        let about = About { created: source_date()?, annotations: pairs(&self.annotation, "--annotation")? };
        match (self.artifact, programs.as_slice()) {
            (true, [program]) => Ok(make::artifact(blobs, program, &about)?),
            (true, several) => bail!(
                "--artifact takes one file, which is its only layer, and {} were given; put several components into one image \
                 with --rootfs",
                several.len()
            ),
            (false, programs) => Ok(make::image(blobs, programs, &self.process(programs)?, &about)?),
        }
    }

    fn process(&self, programs: &[Program]) -> Result<Process> {
        for variable in &self.env {
            ensure!(variable.contains('='), "--env {variable}: NAME=VALUE was expected");
        }
        let first = programs.first().map(|program| format!("/{}", program.name));
        Ok(Process {
            entrypoint: self.entrypoint.clone().or(first).into_iter().collect(),
            cmd: self.cmd.clone(),
            env: self.env.clone(),
            workdir: Some(self.workdir.clone().unwrap_or_else(|| "/".into())),
            user: self.user.clone(),
            ports: self.expose.iter().map(|port| ports(port)).collect(),
            labels: pairs(&self.label, "--label")?,
        })
    }
}

fn program(file: &Path) -> Result<Program> {
    let name = file.file_name().and_then(|name| name.to_str());
    let name = name.with_context(|| format!("{} has no name that an image can have", file.display()))?;
    Ok(Program { name: name.to_owned(), file: file.to_path_buf() })
}

/// A port as images write it: with its protocol.
fn ports(port: &str) -> String {
    if port.contains('/') { port.to_owned() } else { format!("{port}/tcp") }
}

fn pairs(texts: &[String], flag: &str) -> Result<BTreeMap<String, String>> {
    let pair = |text: &String| {
        let (name, value) =
            text.split_once('=').with_context(|| format!("{flag} {text}: NAME=VALUE was expected"))?;
        Ok((name.to_owned(), value.to_owned()))
    };
    texts.iter().map(pair).collect()
}

/// The time that everything in an image has, in seconds since 1970 (<https://reproducible-builds.org/specs/source-date-epoch/>).
pub(crate) fn source_date() -> Result<u64> {
    match env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text
            .parse()
            .with_context(|| format!("SOURCE_DATE_EPOCH is {text:?}, expected seconds since 1970")),
        Err(_) => Ok(0),
    }
}
