//! The JSON log of an OCI runtime, from which errors are told (`--log`, `--log-format json`).

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// More than one command ever logs.
const MAX_BYTES: u64 = 4 << 20;

/// What is written to a log from now on.
#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    from: u64,
}

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    level: String,
    #[serde(default)]
    msg: String,
}

impl Tail {
    /// Begins at the log's present end.
    pub(super) fn of(path: &Path) -> Self {
        Self { path: path.to_owned(), from: std::fs::metadata(path).map_or(0, |log| log.len()) }
    }

    /// The last error that was logged since.
    pub(super) fn last_error(&self) -> Option<String> {
        let mut log = File::open(&self.path).ok()?;
        log.seek(SeekFrom::Start(self.from)).ok()?;
        let mut text = Vec::new();
        log.take(MAX_BYTES).read_to_end(&mut text).ok()?;
        last_error(&String::from_utf8_lossy(&text))
    }
}

fn last_error(log: &str) -> Option<String> {
    let lines = log.lines().rev().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    let errors = lines.filter(|line| matches!(line.level.as_str(), "error" | "fatal"));
    errors.map(|line| line.msg.trim().to_owned()).find(|message| !message.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_of_this_command_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.json");
        std::fs::write(&path, "{\"level\":\"error\",\"msg\":\"of an earlier command\"}\n").unwrap();
        let tail = Tail::of(&path);
        assert_eq!(tail.last_error(), None);
        let more = "{\"level\":\"error\",\"msg\":\"one\"}\n{\"level\":\"error\",\"msg\":\"two\\n\"}\n{\"level\":\"info\",\"msg\":\"x\"}\nnot json\n";
        let before = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, before + more).unwrap();
        assert_eq!(tail.last_error().as_deref(), Some("two"));
    }

    #[test]
    fn a_log_that_is_not_there_says_nothing() {
        assert_eq!(Tail::of(Path::new("/nonexistent/log")).last_error(), None);
    }
}
