//! A container's log as CRI writes it: `TIME STREAM TAG TEXT`, a line each.

use std::path::Path;

use anyhow::{Context, Result, ensure};

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// RFC 3339 with nanoseconds.
    pub time: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// Whether the text's own line goes on in the next one (`P`, not `F`).
    pub partial: bool,
    /// What was printed.
    pub text: String,
}

/// Reads a log, which must be in CRI's format to the letter.
///
/// # Errors
/// The first line that is not, or where there is no such file.
pub fn read(path: &Path) -> Result<Vec<Line>> {
    let log = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    log.lines().map(line).collect()
}

fn line(line: &str) -> Result<Line> {
    let whole = || format!("not in CRI's format: {line:?}");
    let mut parts = line.splitn(4, ' ');
    let mut next = || parts.next().with_context(whole);
    let (time, stream, tag, text) = (next()?, next()?, next()?, next()?);
    let stamp = time.len() >= 20 && time.as_bytes()[10] == b'T';
    ensure!(stamp && matches!(stream, "stdout" | "stderr") && matches!(tag, "P" | "F"), whole());
    Ok(Line { time: time.to_owned(), stream: stream.to_owned(), partial: tag == "P", text: text.to_owned() })
}

/// The text of one stream, or of both.
#[must_use]
pub fn text(lines: &[Line], stream: Option<&str>) -> String {
    let ours = lines.iter().filter(|line| stream.is_none_or(|stream| stream == line.stream));
    ours.map(|line| format!("{}{}", line.text, if line.partial { "" } else { "\n" })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_time_a_stream_a_tag_and_a_text_with_spaces() {
        let one = line("2026-01-02T03:04:05.123456789Z stderr F two  words ").unwrap();
        assert_eq!((one.stream.as_str(), one.partial, one.text.as_str()), ("stderr", false, "two  words "));
    }

    #[test]
    fn other_lines_are_refused_whole() {
        for other in ["", "hello", "2026-01-02T03:04:05Z stdin F x", "2026-01-02T03:04:05Z stdout X x"] {
            let said = line(other).unwrap_err().to_string();
            assert!(said.contains(&format!("{other:?}")), "{said}");
        }
    }

    #[test]
    fn the_parts_of_a_long_line_are_put_together() {
        let lines: Vec<_> = ["2026-01-02T03:04:05.1Z stdout P one ", "2026-01-02T03:04:05.2Z stdout F line"]
            .map(|text| line(text).unwrap())
            .into();
        assert_eq!(text(&lines, Some("stdout")), "one line\n");
        assert_eq!(text(&lines, Some("stderr")), "");
    }
}
