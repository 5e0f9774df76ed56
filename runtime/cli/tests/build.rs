//! `wisp build` as it is typed: what its options make of Wasm files.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder with two programs.
fn programs() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("one.wasm", "(module)"), ("two.wasm", "(component)")] {
        fs::write(folder.path().join(name), wat::parse_str(text).unwrap()).unwrap();
    }
    folder
}

/// The last line of what `wisp build` prints, which is the image's digest; its store is the folder `data`.
fn build(folder: &Path, data: &str, args: &[&str]) -> String {
    let built = Command::new(env!("CARGO_BIN_EXE_wisp"))
        .arg("build")
        .args(args)
        .current_dir(folder)
        .env_clear()
        .env("XDG_DATA_HOME", folder.join(data))
        .env("SOURCE_DATE_EPOCH", "1700000000")
        .output()
        .unwrap();
    let said = String::from_utf8(built.stdout).unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    said.lines().last().unwrap().to_owned()
}

/// A document of the store `data`.
fn document(folder: &Path, data: &str, digest: &str) -> Value {
    let hex = digest.strip_prefix("sha256:").unwrap();
    let path = folder.join(data).join("wisp/images/blobs/sha256").join(hex);
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn named<'a>(of: &'a Value, pointer: &str) -> &'a str {
    of.pointer(pointer).and_then(Value::as_str).unwrap()
}

#[test]
fn an_image_says_what_the_options_say() {
    let folder = programs();
    let args = [
        "--tag=wisp.test/app:1",
        "--entrypoint=/two.wasm",
        "--cmd=--verbose",
        "--env=A=1",
        "--workdir=/data",
        "--user=65532:65532",
        "--expose=8080",
        "--label=team=a",
        "--annotation=org.opencontainers.image.title=app",
        "one.wasm",
        "two.wasm",
    ];
    let digest = build(folder.path(), "data", &args);
    let index = document(folder.path(), "data", &digest);
    for (at, architecture) in ["amd64", "arm64"].into_iter().enumerate() {
        assert_eq!(named(&index, &format!("/manifests/{at}/platform/architecture")), architecture);
        let manifest = document(folder.path(), "data", named(&index, &format!("/manifests/{at}/digest")));
        assert_eq!(manifest["annotations"], json!({"org.opencontainers.image.title": "app"}));
        let config = document(folder.path(), "data", named(&manifest, "/config/digest"));
        assert_eq!(config["created"], "2023-11-14T22:13:20Z");
        assert_eq!(
            config["config"],
            json!({
                "Entrypoint": ["/two.wasm"],
                "Cmd": ["--verbose"],
                "Env": ["A=1"],
                "WorkingDir": "/data",
                "User": "65532:65532",
                "ExposedPorts": {"8080/tcp": {}},
                "Labels": {"team": "a"},
            })
        );
    }
    // Elsewhere and from other files of the same bytes it is the same image.
    assert_eq!(build(folder.path(), "elsewhere", &args), digest);
    assert_eq!(build(programs().path(), "data", &args), digest);
}

#[test]
fn an_artifact_says_what_its_program_is_and_takes_no_options_of_a_process() {
    let folder = programs();
    let digest = build(folder.path(), "data", &["-t", "wisp.test/app:1", "--artifact", "two.wasm"]);
    let manifest = document(folder.path(), "data", &digest);
    assert_eq!(manifest["layers"][0]["mediaType"], "application/wasm");
    let config = document(folder.path(), "data", named(&manifest, "/config/digest"));
    assert_eq!((&config["os"], &config["architecture"]), (&json!("wasip2"), &json!("wasm")));
    let refused = Command::new(env!("CARGO_BIN_EXE_wisp"))
        .args(["build", "-t", "wisp.test/app:1", "--artifact", "--label", "a=b", "two.wasm"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
}

#[test]
fn a_file_that_is_not_there_is_told_with_what_was_expected() {
    let folder = programs();
    let refused = Command::new(env!("CARGO_BIN_EXE_wisp"))
        .args(["build", "-t", "wisp.test/app:1", "three.wasm"])
        .current_dir(folder.path())
        .env("XDG_DATA_HOME", folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(said, "wisp: three.wasm is not there; the folder of a project or a Wasm file was expected\n");
    assert_eq!(refused.status.code(), Some(1));
}
