//! Wisp's programs: where they come from, and where containerd finds them.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek};
use std::path::{Path, PathBuf};
use std::{env, io};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::file;
use super::record::Record;
use crate::node::containerd::Containerd;

/// What goes into the folder on containerd's `PATH`.
const BIN: &[&str] = &["containerd-shim-wisp-v1", "wisp-runtime", "wisp"];
/// What goes into `libexec/wisp` beside that folder.
const LIBEXEC: &[&str] = &["wisp-guest", "wisp-compiler", "wisp-artifact"];
/// The folder that is taken where containerd has it on its `PATH`.
const USUAL: &str = "/usr/local/bin";

/// The programs to install, open: afterwards the root directory may be another.
#[derive(Debug)]
pub(crate) struct Binaries(Vec<(&'static str, bool, File)>);

impl Binaries {
    /// Those beside this program, as `make install` lays them out, or all in one folder.
    ///
    /// # Errors
    /// One sentence with the one that is missing.
    pub(crate) fn open() -> Result<Self> {
        let own = env::current_exe().context("finding this program")?;
        let bin = own.parent().unwrap_or(Path::new("/"));
        let names = BIN.iter().map(|name| (*name, false)).chain(LIBEXEC.iter().map(|name| (*name, true)));
        let open = |(name, libexec): (&'static str, bool)| {
            let beside = bin.join("../libexec/wisp").join(name);
            let path = if libexec && beside.is_file() { beside } else { bin.join(name) };
            let file = File::open(&path).with_context(|| {
                format!(
                    "{} is not there; put Wisp's programs beside this one, or run the one of `make install`",
                    path.display()
                )
            })?;
            Ok((name, libexec, file))
        };
        names.map(open).collect::<Result<_>>().map(Self)
    }

    /// Puts them into `bin` and `libexec/wisp` beside it, those that are not there already; answers which were written. What
    /// somebody else has put there stays theirs.
    ///
    /// # Errors
    /// Those of the file system. Files are replaced one by one: what runs keeps the file that it began with.
    pub(crate) fn install(&mut self, bin: &Path, record: &mut Record) -> Result<Vec<PathBuf>> {
        let libexec = libexec(bin);
        for folder in [bin, &libexec] {
            record.made(file::make_folder(folder)?);
        }
        let mut written = Vec::new();
        // The shim last: it is what containerd looks for, and then everything that it needs is there.
        for (name, in_libexec, source) in self.0.iter_mut().rev() {
            let path = if *in_libexec { libexec.join(name) } else { bin.join(name) };
            if !same(source, &path)? {
                source.rewind()?;
                file::replace(&path, &*source, Some(0o755))
                    .with_context(|| format!("writing {}", path.display()))?;
                record.has(path.clone());
                written.push(path);
            }
        }
        Ok(written)
    }
}

/// The folder for what no person calls.
pub(crate) fn libexec(bin: &Path) -> PathBuf {
    bin.parent().unwrap_or(Path::new("/")).join("libexec/wisp")
}

/// The folder of containerd's `PATH` to install into.
///
/// # Errors
/// One sentence where none can be written.
pub(crate) fn folder(containerd: &Containerd) -> Result<PathBuf> {
    let usual = containerd.path.iter().filter(|folder| *folder == Path::new(USUAL));
    // k3s unpacks its programs into folders that the next version leaves.
    let rest =
        containerd.path.iter().filter(|folder| *folder != Path::new(USUAL) && !folder.ends_with("bin/aux"));
    let rest = rest.filter(|folder| !folder.to_string_lossy().contains("/data/"));
    let writable = |folder: &&PathBuf| {
        tempfile::tempfile_in(folder).is_ok() || !folder.exists() && file::make_folder(folder).is_ok()
    };
    if let Some(folder) = usual.chain(rest).find(writable) {
        return Ok(folder.clone());
    }
    let list: Vec<_> = containerd.path.iter().map(|folder| folder.display().to_string()).collect();
    bail!(
        "no folder of containerd's PATH ({}) can be written; add one that can to it (systemd: `Environment=PATH=…` in a drop-in of its unit), restart it, and run this again",
        list.join(":")
    )
}

fn same(source: &mut File, path: &Path) -> Result<bool> {
    let old = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    if old.metadata()?.len() != source.metadata()?.len() {
        return Ok(false);
    }
    source.rewind()?;
    Ok(digest(old)? == digest(source)?)
}

fn digest(mut file: impl Read) -> io::Result<[u8; 32]> {
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 64 << 10]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().into()),
            n => hasher.update(&buffer[..n]),
        }
    }
}

/// Removes what was installed, and the folders that were made for it where nothing else is in them.
///
/// # Errors
/// Those of the file system.
pub(crate) fn remove(record: &Record) -> Result<()> {
    for path in &record.files {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing {}", path.display()));
            }
            _ => {}
        }
    }
    record.remove_folders();
    Ok(())
}
