//! `wisp install`: puts Wisp's programs where containerd finds them, gives containerd the handler and restarts it, or takes all of
//! that back. What fails is rolled back, and what is there already is left alone.

mod binaries;
mod file;
pub(crate) mod handler;
mod label;
mod place;
mod record;
mod remove;
mod restart;
mod stay;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use self::binaries::Binaries;
use self::file::Edit;
use self::handler::{Handler, RUNTIME_TYPE, Sandboxer};
use self::place::Place;
use self::record::Record;
use self::restart::{Restart, Watch};
use crate::node;
use crate::node::config::{Effective, Source};
use crate::node::containerd::{Containerd, Version};

/// The oldest containerd that Wisp runs under.
pub(crate) const OLDEST: Version = Version(1, 6, 0);

/// What a person says to `wisp install`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The main file of containerd's configuration; by default that of the containerd that runs
    #[arg(long, value_name = "FILE")]
    containerd_config: Option<PathBuf>,
    /// The node's root directory, where this runs in a container: /proc/1/root with the host's processes in sight
    #[arg(long, value_name = "FOLDER", default_value = "/")]
    root: PathBuf,
    /// The folder for the shim, one of containerd's PATH; by default /usr/local/bin, or one that can be written
    #[arg(long, value_name = "FOLDER")]
    bin_dir: Option<PathBuf>,
    /// The handler's name, as a RuntimeClass gives it
    #[arg(long, value_name = "NAME", default_value = "wisp", value_parser = handler_name)]
    handler: String,
    /// Who holds a pod's namespaces; by default the shim where containerd bears it, 2.3 and later
    #[arg(long, value_enum)]
    sandboxer: Option<Sandboxer>,
    /// How containerd is restarted; by default by systemd, as the unit that it runs in
    #[arg(long, value_name = "COMMAND")]
    restart_command: Option<String>,
    /// Leave containerd alone: the handler is there after its next start
    #[arg(long, conflicts_with = "restart_command")]
    no_restart: bool,
    /// How many seconds containerd may take to be well again before everything is rolled back
    #[arg(long, value_name = "SECONDS", default_value = "120")]
    timeout: u64,
    /// Label this pod's node wisp.dev/installed=true when all is done
    #[arg(long)]
    label_node: bool,
    /// Take everything back
    #[arg(long)]
    uninstall: bool,
    /// Uninstall also while Wasm pods run, which then cannot be cleaned up
    #[arg(long, requires = "uninstall")]
    force: bool,
    /// Stay when all is done, until SIGTERM, as the container of a DaemonSet does
    #[arg(long)]
    stay: bool,
}

fn handler_name(name: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > 63 || !name.chars().all(fits) {
        return Err("expected small letters, digits and hyphens, as in the name of a RuntimeClass".into());
    }
    Ok(name.into())
}

/// Does what the arguments say, and tells each step on `out`.
///
/// # Errors
/// One sentence with what failed; what was done until then is rolled back.
pub(crate) fn run(args: &Args, out: &mut impl Write) -> Result<()> {
    let signals = args.stay.then(stay::block).transpose()?;
    // What lies in this container is opened before the root directory is the node's.
    let node = args.label_node.then(label::Node::of_this_pod).transpose()?;
    let binaries = if args.uninstall { None } else { Some(Binaries::open()?) };
    node::enter(&args.root)?;

    match (binaries, &node) {
        (Some(binaries), node) => {
            install(args, binaries, out)?;
            node.as_ref().map_or(Ok(()), |node| node.label(true))?;
        }
        (None, node) => {
            node.as_ref().map_or(Ok(()), |node| node.label(false))?;
            remove::uninstall(args, out)?;
        }
    }
    if let Some(signals) = signals {
        writeln!(out, "done; staying until SIGTERM")?;
        out.flush()?;
        stay::wait(&signals)?;
    }
    Ok(())
}

fn install(args: &Args, mut binaries: Binaries, out: &mut impl Write) -> Result<()> {
    let containerd = find(args)?;
    let version = containerd.version()?;
    if version < OLDEST {
        bail!("containerd {version} ({containerd}) is too old; Wisp runs under {OLDEST} and later");
    }
    writeln!(out, "containerd {version}: {containerd}")?;
    let handler = Handler::new(&args.handler, args.sandboxer, version)?;
    let bin = args.bin_dir.clone().map_or_else(|| binaries::folder(&containerd), Ok)?;
    if !containerd.path.contains(&bin) {
        bail!(
            "{} is not on containerd's PATH, where it looks for the shim; leave --bin-dir out, or add it to that PATH",
            bin.display()
        );
    }
    // Everything that can be known to fail is known before anything changes.
    let edit = configuration(&containerd, version, &handler, out)?;
    let watch = edit.as_ref().map(|_| watch(args, &containerd)).transpose()?.flatten();

    let mut record = Record::load()?;
    let fresh = record == Record::default();
    record.version = env!("CARGO_PKG_VERSION").into();
    for path in binaries.install(&bin, &mut record)? {
        writeln!(out, "wrote {}", path.display())?;
    }
    record.save()?;
    if let Some(edit) = edit {
        if let Err(error) = go_live(&edit, watch.as_ref(), &mut record, out) {
            if fresh {
                binaries::remove(&record)?;
                Record::remove();
                record.remove_folders();
            }
            return Err(error);
        }
        record.save()?;
        if watch.is_some() {
            let now = Effective::of(&containerd, &containerd.config)?;
            if !now.handler(&handler.name).is_some_and(|found| handler.is(found)) {
                bail!(
                    "containerd was restarted, and its configuration has no handler {}; see {}",
                    handler.name,
                    edit.path.display()
                );
            }
        }
    }
    writeln!(
        out,
        "Wisp is installed: pods of a RuntimeClass with the handler {} run under it",
        handler.name
    )?;
    Ok(())
}

/// The containerd that runs, or the one that would.
fn find(args: &Args) -> Result<Containerd> {
    let config = args.containerd_config.as_deref();
    if let Some(containerd) = Containerd::running(config)? {
        return Ok(containerd);
    }
    if !args.no_restart {
        let with = config.map(|path| format!(" with {}", path.display())).unwrap_or_default();
        bail!("no containerd runs here{with}; start it first, or prepare its files with --no-restart");
    }
    Containerd::installed(config)
}

/// The change that gives containerd the handler, or none where it has it.
fn configuration(
    containerd: &Containerd,
    version: Version,
    handler: &Handler,
    out: &mut impl Write,
) -> Result<Option<Edit>> {
    let main = Source::read(&containerd.config)?;
    let sources = main.map(Source::all).transpose()?.unwrap_or_default();
    let before = Effective::of(containerd, &containerd.config)?;
    let ours = place::candidates(&containerd.config, &sources).iter().any(|path| place::is_ours(path));
    if let Some(found) = before.handler(&handler.name) {
        if handler.is(found) {
            writeln!(out, "containerd has the handler {} already", handler.name)?;
            return Ok(None);
        }
        let kind = found.get("runtime_type").and_then(toml::Value::as_str).unwrap_or_default();
        if !ours && kind != RUNTIME_TYPE {
            bail!(
                "containerd has a handler {} of another kind ({kind}); choose another name with --handler",
                handler.name
            );
        }
        if !ours {
            writeln!(
                out,
                "containerd has a handler {} that somebody else wrote; it is left as it is",
                handler.name
            )?;
            return Ok(None);
        }
    }
    let places = place::places(&containerd.config, &sources, version, &before, handler)?;
    choose(places, containerd, &before, handler).map(Some)
}

/// The first place where the handler works and nothing else changes.
fn choose(
    places: Vec<Place>,
    containerd: &Containerd,
    before: &Effective,
    handler: &Handler,
) -> Result<Edit> {
    let mut reasons = Vec::new();
    for place in places {
        match place.check(containerd, before, handler) {
            Ok(()) => return Ok(place.edit),
            Err(error) => reasons.push(format!("{}: {error:#}", place.edit.path.display())),
        }
    }
    bail!("containerd's configuration cannot be extended, and was left alone: {}", reasons.join("; "))
}

fn watch(args: &Args, containerd: &Containerd) -> Result<Option<Watch>> {
    if args.no_restart {
        return Ok(None);
    }
    let restart = Restart::of(containerd, args.restart_command.as_deref())?;
    let address = match &containerd.address {
        Some(address) => address.clone(),
        None => Effective::of(containerd, &containerd.config)?.address(),
    };
    Watch::begin(containerd, address, restart, Duration::from_secs(args.timeout)).map(Some)
}

/// Makes the change, with a backup, and restarts containerd; takes it back where containerd does not come back well.
fn go_live(edit: &Edit, watch: Option<&Watch>, record: &mut Record, out: &mut impl Write) -> Result<()> {
    let folder = edit.path.parent().unwrap_or(Path::new("/"));
    record.made(file::make_folder(folder)?);
    let backup = backup_of(&edit.path);
    match &edit.before {
        None => record.creates(&edit.path),
        // A block of an earlier install is no part of what is to be restored.
        Some(text) if !handler::has_block(text) => {
            file::replace(&backup, text.as_bytes(), mode_of(&edit.path))
                .with_context(|| format!("writing {}", backup.display()))?;
            record.extends(&edit.path, &backup);
        }
        Some(_) => {}
    }
    edit.apply()?;
    writeln!(out, "wrote {}", edit.path.display())?;
    let outcome = restart_or_undo(edit, watch, out);
    if outcome.is_err() && edit.before.as_ref().is_some_and(|text| !handler::has_block(text)) {
        let _ = fs::remove_file(backup); // of a file that is as it was
    }
    outcome
}

/// Restarts containerd with a change; takes the change back where containerd does not come back well.
fn restart_or_undo(edit: &Edit, watch: Option<&Watch>, out: &mut impl Write) -> Result<()> {
    let Some(watch) = watch else {
        writeln!(out, "containerd was not restarted: the change holds from its next start")?;
        return Ok(());
    };
    let Err(cause) = watch.restart() else {
        writeln!(out, "containerd was restarted and is well")?;
        return Ok(());
    };
    edit.undo()?;
    match watch.restart() {
        Ok(()) => Err(cause.context("the change was rolled back, and containerd runs as before")),
        Err(error) => Err(cause
            .context(format!("the change was rolled back, and containerd is still not well ({error:#})"))),
    }
}

/// Where a file's content from before the install is kept. Not `*.toml`: a folder of drop-ins may be beside it.
fn backup_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".before-wisp");
    path.with_file_name(name)
}

fn mode_of(path: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).ok().map(|data| data.permissions().mode() & 0o7777)
}
