//! What was installed, so that it can be removed: `/var/lib/wisp/install.json` on the node.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::file;

/// Where the record is.
const PATH: &str = "/var/lib/wisp/install.json";

/// What `wisp install` has put on the node.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    /// The version of Wisp.
    pub(crate) version: String,
    /// Files that are Wisp's.
    pub(crate) files: Vec<PathBuf>,
    /// Folders that were made, an outer one before those in it.
    pub(crate) folders: Vec<PathBuf>,
    /// Configuration files that were made.
    pub(crate) created: Vec<PathBuf>,
    /// Configuration files that were extended, each with its backup.
    pub(crate) extended: Vec<(PathBuf, PathBuf)>,
}

impl Record {
    /// Reads the node's record; without one, nothing is installed.
    ///
    /// # Errors
    /// Where it is damaged.
    pub(crate) fn load() -> Result<Self> {
        match fs::read(PATH) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .with_context(|| format!("{PATH} is damaged; remove it, and install Wisp again")),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("reading {PATH}")),
        }
    }

    /// Writes the node's record, where it says something new.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn save(&mut self) -> Result<()> {
        if *self == Self::load().unwrap_or_default() {
            return Ok(());
        }
        let path = Path::new(PATH);
        self.made(file::make_folder(path.parent().unwrap_or(Path::new("/")))?);
        let text = serde_json::to_string_pretty(self)? + "\n";
        file::replace(path, text.as_bytes(), None).with_context(|| format!("writing {PATH}"))
    }

    /// Notes a file of Wisp's.
    pub(crate) fn has(&mut self, path: PathBuf) {
        if !self.files.contains(&path) {
            self.files.push(path);
        }
    }

    /// Notes a configuration file that is made.
    pub(crate) fn creates(&mut self, path: &Path) {
        if !self.created.iter().any(|known| known == path) {
            self.created.push(path.into());
        }
    }

    /// Notes a configuration file that is extended.
    pub(crate) fn extends(&mut self, path: &Path, backup: &Path) {
        self.extended.retain(|(known, _)| known != path);
        self.extended.push((path.into(), backup.into()));
    }

    /// Notes folders that were made.
    pub(crate) fn made(&mut self, folders: Vec<PathBuf>) {
        self.folders.extend(folders);
    }

    /// Removes the folders that were made, those that are empty.
    pub(crate) fn remove_folders(&self) {
        // From the inside; one that somebody else uses by now stays.
        for folder in self.folders.iter().rev() {
            let _ = fs::remove_dir(folder);
        }
    }

    /// Removes the node's record.
    pub(crate) fn remove() {
        let _ = fs::remove_file(PATH);
    }
}
