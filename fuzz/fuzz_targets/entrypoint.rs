//! An image's entrypoint: any name finds a file of the image or nothing, and never one outside of it.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use oci_spec::runtime::{ProcessBuilder, Spec, UserBuilder};
use wisp_runtime::entrypoint::{Files, find};

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
    let mut spec = Spec::default();
    spec.set_mounts(None);
    let process = ProcessBuilder::default()
        .user(UserBuilder::default().uid(0u32).gid(0u32).build().unwrap())
        .cwd("/bin")
        .args(vec![name.to_owned()])
        .env(vec![format!("PATH={path}")])
        .build()
        .unwrap();
    let files = Files::of_bundle(&IMAGE.path().join("rootfs"), &spec).unwrap();
    if let Ok(found) = find(&files, &process) {
        use std::io::Read;
        let mut bytes = Vec::new();
        { found.file }.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"\0asm inside");
    }
});
