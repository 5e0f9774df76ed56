//! An image's entrypoint: any name finds a file of the image or nothing, and never one outside of it.
#![no_main]

use std::io::Read;
use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use wisp_entrypoint::{Files, find};

static IMAGE: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("rootfs");
    std::fs::create_dir_all(root.join("bin")).unwrap();
    std::fs::write(dir.path().join("secret.wasm"), b"\0asm outside").unwrap();
    std::fs::write(root.join("bin/app.wasm"), b"\0asm inside").unwrap();
    std::os::unix::fs::symlink("../..", root.join("up")).unwrap();
    std::os::unix::fs::symlink("loop", root.join("loop")).unwrap();
    dir
});

fuzz_target!(|texts: (&str, &str)| {
    let (name, path) = texts;
    let files = Files::with_binds(&IMAGE.path().join("rootfs"), Vec::new()).unwrap();
    if let Ok(found) = find(&files, name, Path::new("/bin"), &[format!("PATH={path}")]) {
        let mut bytes = Vec::new();
        { found.file }.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"\0asm inside");
    }
});
