//! `wisp login` and `wisp logout` as they are typed: against a registry with a password, with docker's file and helper.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;

/// `ada:right` in base64.
const RIGHT: &str = "YWRhOnJpZ2h0";

/// A registry on loopback that knows one user; `127.0.0.1:PORT`.
fn registry() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let name = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for mut stream in listener.incoming().map(Result::unwrap) {
            let lines = BufReader::new(&stream).lines().map(Result::unwrap);
            let head: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
            let knows = head.iter().any(|line| line.ends_with(&format!("Basic {RIGHT}")));
            let status = if knows { "200 OK" } else { "401 No\r\nWWW-Authenticate: Basic realm=\"r\"" };
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
        }
    });
    name
}

/// Runs `wisp` with a folder for docker's file and helpers.
fn wisp(folder: &Path, args: &[&str], input: &str) -> Output {
    let path = format!("{}:/usr/bin:/bin", folder.display());
    let mut child = Command::new(env!("CARGO_BIN_EXE_wisp"))
        .args(args)
        .env_clear()
        .env("DOCKER_CONFIG", folder)
        .env("PATH", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // What refuses to log in does not wait for the password.
    child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
    child.wait_with_output().unwrap()
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_login_that_the_registry_takes_is_kept_until_logout() {
    let folder = tempfile::tempdir().unwrap();
    let host = registry();
    let login = wisp(folder.path(), &["login", "-u", "ada", "--password-stdin", &host], "right\n");
    assert!(login.status.success(), "{}", words(&login));
    assert_eq!(login.stdout, b"Login Succeeded\n");
    let file = folder.path().join("config.json");
    assert!(words(&login).contains(&format!("unencrypted in {}", file.display())));
    assert!(fs::read_to_string(&file).unwrap().contains(RIGHT));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    let logout = |host: &str| words(&wisp(folder.path(), &["logout", host], ""));
    assert_eq!(logout(&host), format!("Removing login credentials for {host}\n"));
    assert!(!fs::read_to_string(&file).unwrap().contains(RIGHT));
    assert_eq!(logout(&host), format!("Not logged in to {host}\n"));
}

#[test]
fn a_login_that_the_registry_refuses_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let host = registry();
    for (args, input) in
        [(&["-u", "ada", "--password-stdin"][..], "wrong"), (&["-u", "bob", "--password-stdin"], "right")]
    {
        let login = wisp(folder.path(), &[&["login"], args, &[&*host]].concat(), input);
        assert_eq!(login.status.code(), Some(1));
        assert!(words(&login).contains("refuses this user and password"), "{}", words(&login));
    }
    assert!(!folder.path().join("config.json").exists());
}

#[test]
fn a_login_without_a_password_says_how_to_give_one() {
    let folder = tempfile::tempdir().unwrap();
    let host = registry();
    for (args, expected) in [
        (&["login", &host][..], "--password-stdin"),
        (&["login", "--password-stdin", &host], "-u USER"),
        (&["login", "-u", "ada", "--password-stdin", &host], "empty"),
    ] {
        let login = wisp(folder.path(), args, "");
        assert_eq!(login.status.code(), Some(1));
        assert!(words(&login).contains(expected), "{}", words(&login));
    }
}

#[test]
fn a_helper_that_dockers_file_names_keeps_the_login_and_forgets_it() {
    let folder = tempfile::tempdir().unwrap();
    let host = registry();
    let (helper, kept) = (folder.path().join("docker-credential-test"), folder.path().join("kept"));
    let script = format!(
        "#!/bin/sh\ncase $1 in\nstore) cat >{0};;\nerase) rm {0};;\n\
         get) cat {0} 2>/dev/null || {{ echo credentials not found in native keychain; exit 1; }};;\nesac\n",
        kept.display()
    );
    fs::write(&helper, script).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let file = folder.path().join("config.json");
    fs::write(&file, r#"{"credsStore": "test"}"#).unwrap();

    let login = wisp(folder.path(), &["login", "-u", "ada", "--password-stdin", &host], "right");
    assert_eq!(words(&login), "Login Succeeded\n");
    assert!(fs::read_to_string(&kept).unwrap().contains("right"));
    assert!(!fs::read_to_string(&file).unwrap().contains(RIGHT));
    let logout = wisp(folder.path(), &["logout", &host], "");
    assert!(words(&logout).contains("Removing"), "{}", words(&logout));
    assert!(!kept.exists());
}
