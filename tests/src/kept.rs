//! What the programs of `examples/` are built to, kept beside the servers: to build some of them takes the processors longer than
//! all that is then done with them, and makes the same of the same files.

use std::fs::{self, DirEntry};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::bed::LIMIT;
use crate::image::digest_of;
use crate::{Outcome, process, site};

/// What one project is built to.
#[derive(Debug)]
pub struct Kept {
    project: PathBuf,
    built: &'static str,
    file: PathBuf,
}

impl Kept {
    /// That of a project which nothing has been built of yet: `built` is the path in it of what will be. It is known by all files
    /// of the project and by what they are built with.
    ///
    /// # Errors
    /// Where a file cannot be read, or a tool is missing.
    pub fn of(project: &Path, name: &str, built: &'static str) -> Result<Self> {
        let mut all = tools()?.into_bytes();
        add(project, &mut all)?;
        let (digest, _) = digest_of(&mut all.as_slice())?;
        let file = site::examples().join(name).join(digest.replace(':', "-")).with_extension("wasm");
        Ok(Self { project: project.to_owned(), built, file })
    }

    /// Has `wisp build` take what was built before, where that is there.
    ///
    /// # Errors
    /// Those of writing.
    pub fn spare_the_build(&self) -> Outcome {
        if !self.file.is_file() {
            return Ok(());
        }
        let copy = format!(
            "build = \"mkdir -p $(dirname {0}) && cp {1} {0}\"\nwasm = \"{0}\"\n",
            self.built,
            self.file.display()
        );
        fs::write(self.project.join("wisp.toml"), copy).context("writing wisp.toml")
    }

    /// Keeps what has been built, in place of what was kept of the project before.
    ///
    /// # Errors
    /// Those of copying.
    pub fn keep(&self) -> Outcome {
        if self.file.is_file() {
            return Ok(());
        }
        let folder = self.file.parent().context("a folder")?;
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
        let new = self.file.with_extension("new");
        fs::copy(self.project.join(self.built), &new).with_context(|| self.built.to_owned())?;
        Ok(fs::rename(new, &self.file)?)
    }
}

/// Adds the names and contents of all that is in a folder.
fn add(folder: &Path, all: &mut Vec<u8>) -> Outcome {
    let mut entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        all.extend(entry.file_name().as_encoded_bytes());
        if path.is_dir() {
            add(&path, all)?;
        } else {
            all.extend(fs::read(&path).with_context(|| path.display().to_string())?);
        }
    }
    Ok(())
}

/// The versions of what examples are built with.
fn tools() -> Result<String> {
    let stamp = site::languages()?.join("../stamp");
    let mut versions = fs::read_to_string(&stamp).with_context(|| stamp.display().to_string())?;
    for tool in ["node", "rustc"] {
        versions += &process::run(Command::new(tool).arg("--version"), LIMIT)?.success()?;
    }
    Ok(versions)
}
