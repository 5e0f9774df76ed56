//! Which kind of program a container runs, told by the first bytes of its entrypoint.

use std::path::Path;

pub(crate) use wisp_entrypoint::Kind;
use wisp_entrypoint::{Error, Files, find};

use crate::spec::Spec;

/// Looks at the entrypoint of the container in `bundle`, whose root file system is mounted; `None` if there is no such file.
///
/// What is no program counts as Wasm: `wisp-runtime` has the better sentence about it.
pub(crate) fn kind(bundle: &Path, spec: &Spec) -> Option<Kind> {
    let binds = spec.mounts.iter().filter(|mount| mount.is_bind());
    let binds = binds.map(|mount| (mount.destination.clone(), bundle.join(&mount.source))).collect();
    let name = spec.process.args.first().map_or("", String::as_str);
    let cwd = Path::new("/").join(&spec.process.cwd);
    let Ok(files) = Files::with_binds(&bundle.join(&spec.root.path), binds) else { return Some(Kind::Wasm) };
    match find(&files, name, &cwd, &spec.process.env) {
        Ok(found) => Some(found.kind),
        Err(Error::NotFound { .. }) => None,
        Err(_) => Some(Kind::Wasm),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_decide_and_what_is_no_program_is_left_to_our_own_runtime() {
        let bundle = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(bundle.path().join("rootfs/bin")).unwrap();
        std::fs::write(bundle.path().join("rootfs/bin/tool.wasm"), b"\x7fELF").unwrap();
        std::fs::write(bundle.path().join("rootfs/bin/app"), b"\0asm").unwrap();
        std::fs::write(bundle.path().join("rootfs/bin/text"), b"text").unwrap();
        let wasm = Some(Kind::Wasm);
        for (name, expected) in
            [("tool.wasm", Some(Kind::Native)), ("app", wasm), ("text", wasm), ("/none", None)]
        {
            let config = format!(
                "{{\"process\":{{\"args\":[{name:?}],\"cwd\":\"/\"}},\"root\":{{\"path\":\"rootfs\"}}}}"
            );
            assert_eq!(kind(bundle.path(), &serde_json::from_str(&config).unwrap()), expected, "{name}");
        }
    }
}
