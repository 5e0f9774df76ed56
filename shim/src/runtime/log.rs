//! The JSON log of an OCI runtime, from which errors and warnings are told (`--log`, `--log-format json`).

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

    /// What was logged since.
    pub(super) fn read(&self) -> Since {
        let mut text = Vec::new();
        if let Ok(mut log) = File::open(&self.path)
            && log.seek(SeekFrom::Start(self.from)).is_ok()
        {
            // What could be read is better than nothing.
            let _ = log.take(MAX_BYTES).read_to_end(&mut text);
        }
        Since::parse(&String::from_utf8_lossy(&text))
    }
}

/// What a command logged.
#[derive(Debug, Default)]
pub(super) struct Since {
    /// The last error.
    pub error: Option<String>,
    /// All warnings, in their order.
    pub warnings: Vec<String>,
}

impl Since {
    fn parse(log: &str) -> Self {
        let mut since = Self::default();
        for line in log.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok()) {
            let message = line.msg.trim().to_owned();
            match line.level.as_str() {
                _ if message.is_empty() => {}
                "error" | "fatal" => since.error = Some(message),
                "warning" => since.warnings.push(message),
                _ => {}
            }
        }
        since
    }
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
        assert_eq!(tail.read().error, None);
        let more = "{\"level\":\"error\",\"msg\":\"one\"}\n{\"level\":\"error\",\"msg\":\"two\\n\"}\n{\"level\":\"warning\",\"msg\":\"x\"}\nnot json\n";
        let before = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, before + more).unwrap();
        assert_eq!(tail.read().error.as_deref(), Some("two"));
        assert_eq!(tail.read().warnings, ["x"]);
    }

    #[test]
    fn a_log_that_is_not_there_says_nothing() {
        assert_eq!(Tail::of(Path::new("/nonexistent/log")).read().error, None);
    }
}
