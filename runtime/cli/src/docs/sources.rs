//! The product's source, to be searched for what it prints.

use std::fs;
use std::path::PathBuf;

/// All Rust below these folders but the tests of documentation, with texts that go over several lines in one.
pub(super) fn text(folders: &[PathBuf]) -> String {
    let (mut text, mut pending) = (String::new(), folders.to_vec());
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("cli/src/docs") {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text.push_str(&fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut whole = String::with_capacity(text.len());
    for line in text.lines() {
        match line.strip_suffix('\\') {
            Some(begun) => whole.push_str(if whole.ends_with('\n') { begun } else { begun.trim_start() }),
            None if whole.ends_with('\n') || whole.is_empty() => whole.push_str(&format!("{line}\n")),
            None => whole.push_str(&format!("{}\n", line.trim_start())),
        }
    }
    whole
}
