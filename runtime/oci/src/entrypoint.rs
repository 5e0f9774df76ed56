//! What a process is for: a file of the container, or a Wasm layer of the image that the container was made from.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use oci_spec::runtime::Process;
use wisp_contract::artifact::{Artifact, Layer};
use wisp_entrypoint::{Error, Files, Kind, split};

/// A program.
#[derive(Debug)]
pub enum Program {
    /// A native one, by its path in the container.
    Native(PathBuf),
    /// A Wasm one.
    Wasm(Wasm),
}

/// A Wasm program, whose bytes may not have to be read at all.
#[derive(Debug)]
pub struct Wasm {
    /// Its path in the container, or the name by which a layer was asked for.
    pub path: String,
    /// What of it is called, if one export is named.
    pub export: Option<String>,
    /// Where its bytes are.
    pub bytes: Bytes,
}

/// Where the bytes of a Wasm program are.
#[derive(Debug)]
pub enum Bytes {
    /// In a file of the container.
    File(File),
    /// In a layer that nobody unpacked.
    Layer(Layer),
}

/// The program that `process` is for, in a container that was made for `own` from the bundle in `bundle`.
///
/// A file of the container comes first; layers are looked at only where there is none.
///
/// # Errors
/// One sentence: what was asked for, what is there, what to do.
pub fn find(files: &Files, process: &Process, bundle: &Path, own: &Process) -> Result<Program> {
    let asked = first(process);
    let env = process.env().as_deref().unwrap_or_default();
    let missing = match wisp_entrypoint::find(files, asked, process.cwd(), env) {
        Ok(found) if found.kind == Kind::Native => return Ok(Program::Native(found.path)),
        Ok(found) => {
            let path = found.path.display().to_string();
            return Ok(Program::Wasm(Wasm { path, export: found.export, bytes: Bytes::File(found.file) }));
        }
        Err(missing @ Error::NotFound { .. }) => missing,
        Err(error) => return Err(error.into()),
    };
    let artifact = Artifact::read(bundle)
        .with_context(|| format!("the record of the image's Wasm layers in {}", bundle.display()))?;
    let Some(artifact) = artifact else { return Err(missing.into()) };
    let (name, export) = split(asked);
    let layer = artifact.layer(name, name == split(first(own)).0)?;
    Ok(Program::Wasm(Wasm {
        path: name.to_owned(),
        export: export.map(str::to_owned),
        bytes: Bytes::Layer(layer.clone()),
    }))
}

fn first(process: &Process) -> &str {
    process.args().as_ref().and_then(|args| args.first()).map_or("", String::as_str)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use wisp_contract::digest::Digest;

    use super::*;

    fn process(program: &str) -> Process {
        serde_json::from_value(
            serde_json::json!({"cwd": "/", "args": [program], "user": {"uid": 0, "gid": 0}}),
        )
        .unwrap()
    }

    struct Bed(tempfile::TempDir);

    impl Bed {
        fn new(titles: &[&str]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("rootfs")).unwrap();
            let layer = |title: &&str| Layer {
                title: Some((*title).to_owned()),
                digest: Digest([1; 32]),
                blob: dir.path().join(title),
            };
            if !titles.is_empty() {
                let layers = titles.iter().map(layer).collect();
                Artifact { layers, has_files: false }.write(dir.path()).unwrap();
            }
            Self(dir)
        }

        fn find(&self, program: &str, own: &str) -> Result<Program> {
            let files = Files::with_binds(&self.0.path().join("rootfs"), Vec::new()).unwrap();
            find(&files, &process(program), self.0.path(), &process(own))
        }
    }

    #[test]
    fn a_layer_is_found_with_its_export_where_the_container_has_no_such_file() {
        let bed = Bed::new(&["app.wasm"]);
        let Program::Wasm(wasm) = bed.find("/start#run", "/start#run").unwrap() else { panic!("native") };
        assert_eq!((wasm.path.as_str(), wasm.export.as_deref()), ("/start", Some("run")));
        assert!(matches!(wasm.bytes, Bytes::Layer(layer) if layer.blob.ends_with("app.wasm")));
    }

    #[test]
    fn a_file_of_the_container_comes_before_any_layer() {
        let bed = Bed::new(&["app.wasm"]);
        fs::write(bed.0.path().join("rootfs/app.wasm"), b"\0asm").unwrap();
        let Program::Wasm(wasm) = bed.find("/app.wasm", "/app.wasm").unwrap() else { panic!("native") };
        assert!(matches!(wasm.bytes, Bytes::File(_)));
    }

    #[test]
    fn a_further_process_is_a_layer_by_title_or_the_containers_own() {
        let bed = Bed::new(&["app.wasm"]);
        for program in ["app.wasm", "/start", "/start#other"] {
            assert!(matches!(bed.find(program, "/start#run"), Ok(Program::Wasm(_))), "{program}");
        }
        let error = bed.find("ls", "/start").unwrap_err().to_string();
        assert!(error.contains("\"ls\"") && error.contains("app.wasm"), "{error}");
    }

    #[test]
    fn without_a_record_a_missing_file_is_what_it_was() {
        let error = Bed::new(&[]).find("/app.wasm", "/app.wasm").unwrap_err().to_string();
        assert!(error.contains("was not found in the container"), "{error}");
    }
}
