//! What people read, and what of it they type.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::site;

/// A page of Markdown.
#[derive(Debug)]
pub struct Page {
    /// Its path from the checkout's root.
    pub path: String,
    /// All of it.
    pub text: String,
}

impl Page {
    /// The page at a path from the checkout's root.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn read(path: &str) -> Result<Self> {
        let text = fs::read_to_string(site::checkout().join(path)).with_context(|| path.to_owned())?;
        Ok(Self { path: path.to_owned(), text })
    }

    /// The blocks of code in a language.
    pub fn blocks<'a>(&'a self, language: &'a str) -> impl Iterator<Item = &'a str> {
        blocks(&self.text).filter(move |(of, _)| *of == language).map(|(_, text)| text)
    }

    /// The lines that a person types, with the remarks beside them: those of `sh`, and of `console` those behind a prompt.
    pub fn typed(&self) -> impl Iterator<Item = &str> {
        let sh =
            self.blocks("sh").flat_map(str::lines).filter(|line| !line.starts_with('#') && !line.is_empty());
        sh.chain(self.blocks("console").flat_map(str::lines).filter_map(|line| line.strip_prefix("$ ")))
    }
}

/// The blocks of code of a text: the language of each, or nothing, and what is in it.
pub fn blocks(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split("```").skip(1).step_by(2).filter_map(|block| block.split_once('\n'))
}

/// A line without the remark beside it.
#[must_use]
pub fn command(line: &str) -> &str {
    line.split("  #").next().unwrap_or_default().trim()
}

/// Every page that has something to type: README, CONTRIBUTING, docs/ and examples/.
///
/// # Errors
/// Where one cannot be read.
pub fn all() -> Result<Vec<Page>> {
    let root = site::checkout();
    let mut paths = vec![root.join("README.md"), root.join("CONTRIBUTING.md")];
    let mut folders = vec![root.join("docs"), root.join("examples")];
    for entry in fs::read_dir(root.join("examples"))? {
        folders.push(entry?.path());
    }
    for folder in folders.iter().filter(|folder| folder.is_dir()) {
        let entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
        let found = entries.iter().map(fs::DirEntry::path);
        paths.extend(found.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    paths.sort();
    paths.into_iter().map(|path| Page::read(&relative(path)?)).collect()
}

fn relative(path: PathBuf) -> Result<String> {
    Ok(path.strip_prefix(site::checkout())?.display().to_string())
}
