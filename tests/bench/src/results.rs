//! `target/bench/results.json`: the figures of the last run of each subject; `results-previous.json` beside it has those before.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use wisp_tests::site;

use crate::figure::Figure;
use crate::machine::Machine;

/// What one run of a subject gave.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Taken {
    /// When, in UTC.
    pub at: String,
    /// Where.
    pub machine: Machine,
    /// What was measured.
    pub figures: Vec<Figure>,
}

impl Taken {
    /// Figures that were measured just now.
    pub(crate) fn now(machine: Machine, figures: Vec<Figure>) -> Self {
        Self { at: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(), machine, figures }
    }
}

/// By subject.
type Subjects = BTreeMap<String, Taken>;

/// What is kept.
#[derive(Debug, Default)]
pub(crate) struct Results {
    now: Subjects,
    before: Subjects,
}

impl Results {
    /// What earlier runs have kept.
    ///
    /// # Errors
    /// Where a file is there and cannot be read.
    pub(crate) fn read() -> Result<Self> {
        Ok(Self { now: read(&path())?, before: read(&previous())? })
    }

    /// The last run of a subject.
    pub(crate) fn last(&self, subject: &str) -> Option<&Taken> {
        self.now.get(subject)
    }

    /// A new run of a subject; the last one becomes the one before.
    pub(crate) fn put(&mut self, subject: &str, taken: Taken) {
        if let Some(last) = self.now.insert(subject.to_owned(), taken) {
            self.before.insert(subject.to_owned(), last);
        }
    }

    /// Each subject's last run, and the one before.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &Taken, Option<&Taken>)> {
        self.now.iter().map(|(subject, taken)| (subject.as_str(), taken, self.before.get(subject)))
    }

    /// Writes both files.
    ///
    /// # Errors
    /// Those of writing.
    pub(crate) fn write(&self) -> Result<()> {
        fs::create_dir_all(folder())?;
        for (path, subjects) in [(path(), &self.now), (previous(), &self.before)] {
            let text = serde_json::to_string_pretty(subjects)?;
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<Subjects> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
            format!("{} is not what this bench writes; remove it and run again", path.display())
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Subjects::new()),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// Where everything is written.
pub(crate) fn folder() -> PathBuf {
    site::target().join("bench")
}

/// Where the last figures are.
pub(crate) fn path() -> PathBuf {
    folder().join("results.json")
}

fn previous() -> PathBuf {
    folder().join("results-previous.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_run_becomes_the_one_before_of_its_subject_alone() {
        let machine = Machine {
            processor: String::new(),
            processors: 2,
            memory: 1.0,
            kernel: String::new(),
            busy: 0.0,
            load: 0.0,
            stolen: 0.0,
        };
        let taken = |at: &str| Taken { at: at.to_owned(), machine: machine.clone(), figures: Vec::new() };
        let mut results = Results::default();
        results.put("start", taken("1"));
        results.put("memory", taken("2"));
        results.put("start", taken("3"));
        let all: Vec<_> =
            results.all().map(|(name, now, before)| (name, &*now.at, before.map(|b| &*b.at))).collect();
        assert_eq!(all, [("memory", "2", None), ("start", "3", Some("1"))]);
    }
}
