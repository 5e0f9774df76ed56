//! Commands in the documentation, held against the command line's own definition.

use clap::error::ErrorKind;

use crate::command_line;

/// The commands of `wisp` in a line of shell, each in words.
pub(super) fn of_wisp(line: &str) -> Vec<Vec<String>> {
    if !line.contains("wisp ") {
        return Vec::new();
    }
    // The comment and what comes after a pipe or another command are words of their own in shlex's eyes.
    let words = shlex::split(line).unwrap_or_else(|| panic!("{line}: its quotes do not match"));
    let commands = words.split(|word| matches!(word.as_str(), "|" | "&&" | "||" | ";"));
    commands
        .filter_map(|words| {
            let is_before = |word: &String| word == "sudo" || word.contains('=');
            let words: Vec<_> = words.iter().skip_while(|word| is_before(word)).cloned().collect();
            let ends = |word: &String| word.starts_with(['>', '<']) || word.starts_with("2>") || word == "…";
            let words: Vec<_> = words.into_iter().take_while(|word| !ends(word)).collect();
            (words.first()? == "wisp" && words.len() > 1).then_some(words)
        })
        .collect()
}

/// Whether a command line would be taken; capitals stand for what a person puts there. Where it is only spoken of, in a
/// sentence, what it needs besides may be missing.
pub(super) fn check(words: &[String], is_spoken_of: bool) -> Result<(), String> {
    if words[1] == "COMMAND" {
        return Ok(());
    }
    match command_line().try_get_matches_from(words) {
        Err(error)
            if is_spoken_of
                && matches!(error.kind(), ErrorKind::MissingRequiredArgument | ErrorKind::InvalidValue) =>
        {
            Ok(())
        }
        Err(error) if error.use_stderr() => Err(error.to_string()),
        _ => Ok(()),
    }
}

#[test]
fn commands_are_found_behind_and_before_others() {
    let line = "FOO=1 sudo wisp doctor --json | jq '.a | .b' && wisp inspect a.wasm > out # wisp nothing";
    assert_eq!(of_wisp(line), [&["wisp", "doctor", "--json"][..], &["wisp", "inspect", "a.wasm"]]);
}

#[test]
fn what_is_no_command_is_found_out() {
    let check = |line: &str| check(&of_wisp(line)[0], true);
    assert!(
        check("wisp run -p 9000 a.wasm").is_ok()
            && check("wisp inspect").is_ok()
            && check("wisp --help").is_ok()
    );
    assert!(check("wisp fly").is_err() && check("wisp inspect --no-such a.wasm").is_err());
}
