//! containerd's `hosts.toml`: any text is either addresses of a registry or a sentence with the file's name.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use wisp_registry::{Options, Registry};

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a folder"));

fuzz_target!(|text: &str| {
    // A file that it names may be one without an end.
    if text.contains("/dev") || text.contains("/proc") {
        return;
    }
    let folder: PathBuf = FOLDER.path().join("_default");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("hosts.toml"), text).expect("a file");
    let options = Options { certs_d: Some(FOLDER.path().to_path_buf()), ..Options::default() };
    if let Err(error) = Registry::at("registry.example", &options) {
        assert!(!error.to_string().contains('\n'), "not one sentence: {error}");
    }
});
