//! `docker-credential-NAME`: programs that keep logins elsewhere, and speak JSON ([protocol]).
//!
//! [protocol]: https://github.com/docker/docker-credential-helpers

use std::io::{ErrorKind, Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use serde::Deserialize;

use super::Credential;
use crate::error::clean;

/// A helper may ask a person or a cloud.
const PATIENCE: Duration = Duration::from_secs(30);
/// More than any login has.
const MOST_ANSWER: u64 = 1 << 20;
/// What a helper says on standard output where it has nothing.
const NOTHING: &str = "credentials not found";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Found {
    username: String,
    secret: String,
}

/// The login that a helper has for a server.
pub(super) fn get(helper: &str, server: &str) -> Result<Option<Credential>, String> {
    let program = format!("docker-credential-{helper}");
    let (success, answer) = ask(&program, "get", server, PATIENCE)?;
    if !success {
        let said = clean(&String::from_utf8_lossy(&answer));
        return if said.contains(NOTHING) { Ok(None) } else { Err(format!("{program} failed: {said}")) };
    }
    let found: Found = serde_json::from_slice(&answer)
        .map_err(|_| format!("{program} answered something else than JSON with Username and Secret"))?;
    Ok(Some(if found.username == "<token>" {
        Credential::Identity(found.secret)
    } else {
        Credential::Login { user: found.username, password: found.secret }
    }))
}

/// Has a helper keep a login.
pub(super) fn store(helper: &str, server: &str, user: &str, password: &str) -> Result<(), String> {
    let kept = serde_json::json!({"ServerURL": server, "Username": user, "Secret": password});
    tell(helper, "store", &kept.to_string())
}

/// Has a helper forget a login; false where it has none.
pub(super) fn erase(helper: &str, server: &str) -> Result<bool, String> {
    let there = get(helper, server)?.is_some();
    if there {
        tell(helper, "erase", server)?;
    }
    Ok(there)
}

fn tell(helper: &str, verb: &str, input: &str) -> Result<(), String> {
    let program = format!("docker-credential-{helper}");
    let (success, answer) = ask(&program, verb, input, PATIENCE)?;
    let said = clean(&String::from_utf8_lossy(&answer));
    if success { Ok(()) } else { Err(format!("{program} {verb} failed: {said}")) }
}

/// Runs a helper; true where it succeeded, and what it wrote.
fn ask(program: &str, verb: &str, input: &str, patience: Duration) -> Result<(bool, Vec<u8>), String> {
    let mut command = Command::new(program);
    command.arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            format!("{program}, which docker's config.json names, is not on the PATH: install it, or take it out there")
        }
        _ => format!("{program} cannot be run: {error}"),
    })?;
    let (mut stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let input = input.to_owned();
    let (done, answers) = mpsc::channel();
    thread::spawn(move || {
        // A helper that does not read its input may still answer.
        stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()).ok());
        let mut answer = Vec::new();
        let read = stdout.map(|stdout| stdout.take(MOST_ANSWER).read_to_end(&mut answer));
        done.send(read.transpose().map(|_| answer)).ok();
    });
    let answer = answers.recv_timeout(patience);
    if answer.is_err() {
        child.kill().ok();
    }
    let status = child.wait().map_err(|error| format!("{program}: {error}"))?;
    match answer {
        Ok(answer) => Ok((status.success(), answer.map_err(|error| format!("{program}: {error}"))?)),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            Err(format!("{program} gave no answer in {} s", patience.as_secs()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    fn helper(folder: &tempfile::TempDir, script: &str) -> PathBuf {
        let path = folder.path().join("docker-credential-test");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn a_helper_that_is_missing_or_hangs_gives_a_sentence() {
        let error = get("that-nobody-has", "r.example").unwrap_err();
        assert!(
            error.contains("docker-credential-that-nobody-has") && error.contains("not on the PATH"),
            "{error}"
        );
        let folder = tempfile::tempdir().unwrap();
        let path = helper(&folder, "exec sleep 1000");
        let error = ask(path.to_str().unwrap(), "get", "r", Duration::from_millis(50)).unwrap_err();
        assert!(error.contains("gave no answer"), "{error}");
    }

    #[test]
    fn a_helper_hears_the_server_and_its_answer_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = helper(&folder, "read server; echo \"$1 $server\"; exit 3");
        let (success, answer) = ask(path.to_str().unwrap(), "get", "r.example\n", PATIENCE).unwrap();
        assert_eq!((success, &*answer), (false, &b"get r.example\n"[..]));
    }
}
