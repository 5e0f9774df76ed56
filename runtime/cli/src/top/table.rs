//! Tasks as a table.

use bytesize::ByteSize;

use super::Task;
use crate::inspect::kind;

/// The columns' names.
const HEAD: [&str; 10] =
    ["NAMESPACE", "NAME", "KIND", "CPU %", "MEMORY", "GUEST", "REQUESTS", "NOW", "INSTANCES", "RESTARTS"];
/// Those that hold figures, and are to the right.
const FIRST_FIGURE: usize = 3;

/// The tasks, one a line, and the image at each line's end, because it is as long as it likes.
pub(super) fn text(tasks: &[Task]) -> String {
    let rows: Vec<_> = tasks.iter().map(row).collect();
    let widths: Vec<_> = (0..HEAD.len())
        .map(|column| {
            let longest = rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
            longest.max(HEAD[column].len())
        })
        .collect();
    let mut text = line(&HEAD.map(str::to_owned), &widths, "IMAGE");
    for (task, row) in tasks.iter().zip(&rows) {
        text.push_str(&line(row, &widths, &task.image));
    }
    text
}

fn line(cells: &[String; HEAD.len()], widths: &[usize], image: &str) -> String {
    let mut line = String::new();
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let width = *width;
        line.push_str(&if column < FIRST_FIGURE {
            format!("{cell:width$}  ")
        } else {
            format!("{cell:>width$}  ")
        });
    }
    format!("{line}{image}\n")
}

fn row(task: &Task) -> [String; HEAD.len()] {
    let counters = &task.counters;
    let serves = task.kind.is_none_or(|kind| kind.is_http());
    let requests = |count: u64| if serves { count.to_string() } else { "-".into() };
    let restarts = task.pod.as_ref().and_then(|pod| pod.restarts);
    [
        task.namespace.clone(),
        task.name(),
        match (task.status, task.kind) {
            ("running", Some(of)) => kind(of).to_owned(),
            ("running", None) => "-".into(),
            (status, _) => status.to_owned(),
        },
        shown(task.cpu_percent.map(|percent| format!("{percent:.1}"))),
        shown(task.memory_bytes.map(size)),
        size(counters.memory_bytes),
        requests(counters.requests),
        requests(counters.requests_in_flight),
        counters.instances.to_string(),
        shown(restarts.map(|restarts| restarts.to_string())),
    ]
}

fn shown(value: Option<String>) -> String {
    value.unwrap_or_else(|| "-".into())
}

fn size(bytes: u64) -> String {
    ByteSize::b(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::tests::task;

    #[test]
    fn figures_stand_below_their_names() {
        let text = text(&[task("a-long-name-of-a-container", 5 << 20, 1234567)]);
        let lines: Vec<_> = text.lines().collect();
        for (name, value) in [("MEMORY", "5.0 MiB"), ("REQUESTS", "1234567"), ("CPU %", "1.5")] {
            let ends = |line: &str, word: &str| line.find(word).map(|at| at + word.len());
            assert_eq!(ends(lines[0], name), ends(lines[1], value), "{text}");
        }
    }

    #[test]
    fn no_tasks_are_a_line_of_names() {
        assert_eq!(text(&[]).lines().count(), 1);
    }
}
