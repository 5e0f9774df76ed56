//! `wisp cp` and `wisp push` as they are typed, against a registry that lacks something or takes everything.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::json;
use sha2::{Digest, Sha256};

/// A registry on loopback that has one manifest, none of its blobs, and takes every upload.
struct Registry {
    name: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Registry {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (name, asked) = (listener.local_addr().unwrap().to_string(), Arc::new(Mutex::new(Vec::new())));
        let lines = asked.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map(Result::unwrap) {
                let lines = lines.clone();
                thread::spawn(move || answer(&stream, &lines));
            }
        });
        Self { name, asked }
    }

    /// The manifests that were put.
    fn put(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        asked
            .iter()
            .filter_map(|line| line.strip_prefix("PUT "))
            .filter(|path| path.contains("/manifests/"))
            .map(str::to_owned)
            .collect()
    }
}

fn answer(mut stream: &TcpStream, lines: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream);
    let head: Vec<_> =
        reader.by_ref().lines().map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
    let length =
        head.iter().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    reader.take(length.unwrap_or(0)).read_to_end(&mut Vec::new()).unwrap();
    let line = head[0].trim_end_matches(" HTTP/1.1");
    lines.lock().unwrap().push(line.to_owned());
    let (status, body) = match line.split_once(' ').unwrap() {
        ("GET", path) if path.contains("/manifests/") => ("200 OK", manifest()),
        ("GET" | "HEAD", _) => ("404 Not Found", String::new()),
        ("POST", _) => ("202 Accepted\r\nLocation: /upload", String::new()),
        _ => ("201 Created", String::new()),
    };
    let kind = "Content-Type: application/vnd.oci.image.manifest.v1+json";
    write!(
        stream,
        "HTTP/1.1 {status}\r\n{kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
}

fn digest(of: &str) -> String {
    Sha256::digest(of).iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

fn manifest() -> String {
    let blob = json!({"mediaType": "application/wasm", "digest": digest("x"), "size": 1});
    json!({"schemaVersion": 2, "config": blob, "layers": [blob]}).to_string()
}

fn wisp(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wisp"))
        .args(args)
        .env_clear()
        .env("XDG_DATA_HOME", folder)
        .output()
        .unwrap()
}

#[test]
fn a_copy_whose_source_lacks_a_blob_says_so() {
    let (folder, registry) = (tempfile::tempdir().unwrap(), Registry::start());
    let [from, to] = ["from", "to"].map(|name| format!("{}/{name}:1", registry.name));
    let copied = wisp(folder.path(), &["cp", &from, &to]);
    let said = String::from_utf8(copied.stderr).unwrap();
    let expected = format!("wisp: {} has no blob {} of from: check the name\n", registry.name, digest("x"));
    assert_eq!((copied.status.code(), said), (Some(1), expected));
    assert!(registry.put().is_empty());
}

#[test]
fn one_manifest_of_an_index_is_pushed_by_its_digest() {
    let (folder, registry) = (tempfile::tempdir().unwrap(), Registry::start());
    let wasm = folder.path().join("app.wasm");
    std::fs::write(&wasm, b"\0asm\x01\0\0\0").unwrap();
    let name = format!("{}/app", registry.name);
    let built = wisp(folder.path(), &["build", "-t", &name, wasm.to_str().unwrap()]);
    assert!(built.status.success(), "{built:?}");
    let built = String::from_utf8(built.stdout).unwrap();
    let index = built.lines().last().unwrap().strip_prefix("sha256:").unwrap();
    let blob = folder.path().join("wisp/images/blobs/sha256").join(index);
    let index: serde_json::Value = serde_json::from_slice(&std::fs::read(blob).unwrap()).unwrap();
    let one = index["manifests"][0]["digest"].as_str().unwrap();

    let pushed = wisp(folder.path(), &["push", &format!("{name}@{one}")]);
    assert_eq!(String::from_utf8(pushed.stdout).unwrap(), format!("{one}\n"));
    assert_eq!(registry.put(), [format!("/v2/app/manifests/{one}")]);
    // Under a tag of its own.
    let pushed = wisp(folder.path(), &["push", &format!("{name}@{one}"), &format!("{name}:amd64")]);
    assert!(pushed.status.success(), "{pushed:?}");
    assert_eq!(registry.put()[1], "/v2/app/manifests/amd64");
}
