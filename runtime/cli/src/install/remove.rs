//! Taking everything back: the configuration to the byte, then the programs.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::file::Edit;
use super::record::Record;
use super::{Args, binaries, handler, place, restart_or_undo, watch};
use crate::node::config::{Effective, Source};
use crate::node::containerd::{Containerd, same_root};

/// Removes the handler from containerd's configuration, restarts it, and removes the programs.
///
/// # Errors
/// One sentence with what failed, or that pods still run.
pub(super) fn uninstall(args: &Args, out: &mut impl Write) -> Result<()> {
    let record = Record::load()?;
    let containerd = super::find(args)?;
    if !args.force {
        refuse_while_pods_run(&containerd)?;
    }
    let edits = edits(&containerd, &record)?;
    for edit in &edits {
        let watch = watch(args, &containerd)?;
        edit.apply()?;
        writeln!(out, "restored {}", edit.path.display())?;
        restart_or_undo(edit, watch.as_ref(), out)?;
    }
    remove_backups(&record, out)?;
    binaries::remove(&record)?;
    Record::remove();
    record.remove_folders();
    let done = if edits.is_empty() && record.files.is_empty() {
        "nothing was installed"
    } else {
        "Wisp is uninstalled"
    };
    writeln!(out, "{done}")?;
    Ok(())
}

/// The files that have the block, each without it; a file that held nothing else goes.
fn edits(containerd: &Containerd, record: &Record) -> Result<Vec<Edit>> {
    let main = Source::read(&containerd.config)?;
    let sources = main.map(Source::all).transpose()?.unwrap_or_default();
    let mut paths = place::candidates(&containerd.config, &sources);
    paths.extend(record.created.iter().chain(record.extended.iter().map(|(path, _)| path)).cloned());
    paths.sort();
    paths.dedup();
    let mut edits = Vec::new();
    for path in paths {
        let Some(text) = Edit::of(&path, None)?.before.filter(|text| handler::has_block(text)) else {
            continue;
        };
        let without = handler::without_block(&text);
        let goes = without.is_empty() && record.created.contains(&path);
        edits.push(Edit { path, before: Some(text), after: (!goes).then_some(without) });
    }
    Ok(edits)
}

/// A backup of what is there again goes; another stays for a person to look at.
fn remove_backups(record: &Record, out: &mut impl Write) -> Result<()> {
    for (path, backup) in &record.extended {
        match (fs::read(path), fs::read(backup)) {
            (Ok(now), Ok(then)) if now == then => {
                fs::remove_file(backup).with_context(|| format!("removing {}", backup.display()))?;
            }
            (_, Ok(_)) => {
                writeln!(
                    out,
                    "{} has other changes since the install; as it was then, it is in {}",
                    path.display(),
                    backup.display()
                )?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn refuse_while_pods_run(containerd: &Containerd) -> Result<()> {
    let address = match &containerd.address {
        Some(address) => address.clone(),
        None => Effective::of(containerd, &containerd.config)?.address(),
    };
    match shims(&address).len() {
        0 => Ok(()),
        1 => bail!("a pod runs under Wisp here; drain the node first, or leave it behind with --force"),
        n => bail!("{n} pods run under Wisp here; drain the node first, or leave them behind with --force"),
    }
}

/// The shims of this containerd.
fn shims(address: &Path) -> Vec<PathBuf> {
    let address = address.to_string_lossy();
    let is_shim = |proc: &Path| {
        let program = fs::read_link(proc.join("exe")).unwrap_or_default();
        let line = fs::read(proc.join("cmdline")).unwrap_or_default();
        program.to_string_lossy().trim_end_matches(" (deleted)").ends_with("containerd-shim-wisp-v1")
            && line.split(|byte| *byte == 0).any(|part| part == address.as_bytes())
            && same_root(proc)
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    processes.filter(|proc| is_shim(proc)).collect()
}
