//! Which kind of program a container runs, told by the first bytes of its entrypoint.

use std::path::Path;

pub(crate) use wisp_entrypoint::Kind;
use wisp_entrypoint::{Files, find};

use crate::spec::Spec;

/// Looks at the entrypoint of the container in `bundle`, whose root file system is mounted.
///
/// What is no program, or not there, counts as Wasm: `wisp-runtime` has the better sentence about it.
pub(crate) fn kind(bundle: &Path, spec: &Spec) -> Kind {
    let binds = spec.mounts.iter().filter(|mount| mount.is_bind());
    let binds = binds.map(|mount| (mount.destination.clone(), bundle.join(&mount.source))).collect();
    let name = spec.process.args.first().map_or("", String::as_str);
    let cwd = Path::new("/").join(&spec.process.cwd);
    Files::with_binds(&bundle.join(&spec.root.path), binds)
        .ok()
        .and_then(|files| find(&files, name, &cwd, &spec.process.env).ok())
        .map_or(Kind::Wasm, |found| found.kind)
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
        for (name, expected) in [("tool.wasm", Kind::Native), ("app", Kind::Wasm), ("/none", Kind::Wasm)] {
            let config = format!(
                "{{\"process\":{{\"args\":[{name:?}],\"cwd\":\"/\"}},\"root\":{{\"path\":\"rootfs\"}}}}"
            );
            assert_eq!(kind(bundle.path(), &serde_json::from_str(&config).unwrap()), expected, "{name}");
        }
    }
}
