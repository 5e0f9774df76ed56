//! An ordinary image whose root file system holds the programs: what every containerd, kubelet and Docker takes.
//!
//! It is an index of one image for each architecture of Linux that nodes have, which share their layer: a Wasm program is the same
//! on all of them, and kubelet takes no image that is for another platform than its node's.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use oci_spec::image::{Arch, Config, Descriptor, ImageConfiguration, ImageIndex, MediaType, RootFs};
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};
use wisp_contract::digest::Digest;

use super::{About, Program, put};
use crate::Error;
use crate::blobs::{Blobs, Ingest};
use crate::image::linux;

/// What an image says of its process, in a Dockerfile's words.
#[derive(Debug, Clone, Default)]
pub struct Process {
    /// `ENTRYPOINT`
    pub entrypoint: Vec<String>,
    /// `CMD`
    pub cmd: Vec<String>,
    /// `ENV`
    pub env: Vec<String>,
    /// `WORKDIR`
    pub workdir: Option<String>,
    /// `USER`
    pub user: Option<String>,
    /// `EXPOSE`
    pub ports: Vec<String>,
    /// `LABEL`
    pub labels: BTreeMap<String, String>,
}

/// Makes an image with these programs at its root; gives its index.
///
/// # Errors
/// If a file is no Wasm, or cannot be read or stored.
pub fn image(
    blobs: &Blobs,
    programs: &[Program],
    process: &Process,
    about: &About,
) -> Result<Descriptor, Error> {
    let mut files = Vec::new();
    for program in programs {
        program.read(io::sink())?;
        files.push((PathBuf::from(&program.name), program.file.clone()));
    }
    both(blobs, files, process, about)
}

/// Makes an image of what is in a folder, for this machine's architecture only; gives its manifest.
///
/// # Errors
/// If a file cannot be read or stored.
pub fn image_of(blobs: &Blobs, root: &Path, process: &Process, about: &About) -> Result<Descriptor, Error> {
    let layer = layer(blobs, below(root)?, about.created)?;
    let architecture = Arch::from(crate::image::architecture());
    manifest(blobs, &layer, architecture, process, about)
}

fn both(
    blobs: &Blobs,
    files: Vec<(PathBuf, PathBuf)>,
    process: &Process,
    about: &About,
) -> Result<Descriptor, Error> {
    let layer = layer(blobs, files, about.created)?;
    let mut manifests = Vec::new();
    for architecture in [Arch::Amd64, Arch::ARM64] {
        manifests.push(manifest(blobs, &layer, architecture, process, about)?);
    }
    let mut index = ImageIndex::default();
    index.set_schema_version(2);
    index.set_media_type(Some(MediaType::ImageIndex));
    index.set_manifests(manifests);
    index.set_annotations(annotations(about));
    put(blobs, &index, MediaType::ImageIndex)
}

fn annotations(about: &About) -> Option<HashMap<String, String>> {
    let annotations: HashMap<_, _> = about.annotations.clone().into_iter().collect();
    Some(annotations).filter(|annotations| !annotations.is_empty())
}

/// A layer that is stored, and the digest of its content without compression.
struct Layer {
    descriptor: Descriptor,
    diff_id: Digest,
}

fn manifest(
    blobs: &Blobs,
    layer: &Layer,
    architecture: Arch,
    process: &Process,
    about: &About,
) -> Result<Descriptor, Error> {
    let platform = linux(architecture.clone());
    let mut rootfs = RootFs::default();
    rootfs.set_typ("layers".into());
    rootfs.set_diff_ids(vec![layer.diff_id.to_string()]);
    let mut config = ImageConfiguration::default();
    config.set_created(Some(about.created()));
    config.set_os(platform.os().clone());
    config.set_architecture(architecture);
    config.set_config(Some(process.config()));
    config.set_rootfs(rootfs);
    let config = put(blobs, &config, MediaType::ImageConfig)?;
    let manifest = super::manifest(config, vec![layer.descriptor.clone()], &about.annotations)?;
    let mut descriptor = put(blobs, &manifest, MediaType::ImageManifest)?;
    descriptor.set_platform(Some(platform));
    Ok(descriptor)
}

impl Process {
    fn config(&self) -> Config {
        let list = |list: &[String]| Some(list.to_vec()).filter(|list| !list.is_empty());
        let mut config = Config::default();
        config.set_entrypoint(list(&self.entrypoint));
        config.set_cmd(list(&self.cmd));
        config.set_env(list(&self.env));
        config.set_working_dir(self.workdir.clone());
        config.set_user(self.user.clone());
        config.set_exposed_ports(list(&self.ports));
        let labels: HashMap<_, _> = self.labels.clone().into_iter().collect();
        config.set_labels(Some(labels).filter(|labels| !labels.is_empty()));
        config
    }
}

/// Every file below a folder, by its path there.
fn below(root: &Path) -> Result<Vec<(PathBuf, PathBuf)>, Error> {
    let (mut files, mut pending) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder).map_err(Error::at(&folder))? {
            let path = entry.map_err(Error::at(&folder))?.path();
            if path.is_dir() {
                pending.push(path);
            } else if let Ok(name) = path.strip_prefix(root) {
                files.push((name.to_path_buf(), path));
            }
        }
    }
    Ok(files)
}

/// Stores files, each executable and of this time, and the folders that they are in, as a compressed layer.
fn layer(blobs: &Blobs, mut files: Vec<(PathBuf, PathBuf)>, time: u64) -> Result<Layer, Error> {
    files.sort();
    let write = || -> io::Result<Layer> {
        // A header without a time and a name is the same each time.
        let gzip = GzBuilder::new().mtime(0).write(blobs.begin()?, Compression::default());
        let mut tar = tar::Builder::new(Hashed { to: gzip, hash: Sha256::new() });
        let mut folders = Vec::new();
        for (name, file) in &files {
            let above: Vec<_> =
                name.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()).collect();
            for folder in above.into_iter().rev() {
                if !folders.iter().any(|there| there == folder) {
                    tar.append_data(&mut header(EntryType::Directory, 0, time), folder, io::empty())?;
                    folders.push(folder.to_path_buf());
                }
            }
            let file = File::open(file)?;
            let size = file.metadata()?.len();
            tar.append_data(&mut header(EntryType::Regular, size, time), name, file)?;
        }
        let hashed = tar.into_inner()?;
        let diff_id = Digest(hashed.hash.finalize().into());
        let descriptor = hashed.to.finish()?.commit()?.descriptor(MediaType::ImageLayerGzip);
        Ok(Layer { descriptor, diff_id })
    };
    write().map_err(Error::at("the image's files"))
}

fn header(kind: EntryType, size: u64, time: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_size(size);
    header.set_mtime(time);
    header.set_uid(0);
    header.set_gid(0);
    header
}

struct Hashed {
    to: GzEncoder<Ingest>,
    hash: Sha256,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Image;
    use crate::make::artifact;

    const TIME: u64 = 1_700_000_000;

    struct Bed {
        dir: tempfile::TempDir,
        blobs: Blobs,
    }

    impl Bed {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let blobs = Blobs::at(dir.path().join("layout"));
            Self { dir, blobs }
        }

        fn program(&self, name: &str, text: &str) -> Program {
            let file = self.dir.path().join(name);
            fs::write(&file, wat::parse_str(text).unwrap()).unwrap();
            Program { name: name.into(), file }
        }
    }

    fn about() -> About {
        About {
            created: TIME,
            annotations: BTreeMap::from([("a".into(), "b".into()), ("c".into(), "d".into())]),
        }
    }

    fn process() -> Process {
        Process {
            entrypoint: vec!["/app.wasm".into()],
            env: vec!["A=1".into()],
            labels: (0..9).map(|n| (format!("label{n}"), "x".into())).collect(),
            ..Process::default()
        }
    }

    #[test]
    fn an_image_and_an_artifact_are_the_same_bytes_each_time() {
        let make = || {
            let bed = Bed::new();
            let (app, other) = (bed.program("app.wasm", "(module)"), bed.program("b.wasm", "(component)"));
            let image = image(&bed.blobs, &[app.clone(), other], &process(), &about()).unwrap();
            (image.digest().clone(), artifact(&bed.blobs, &app, &about()).unwrap().digest().clone())
        };
        assert_eq!(make(), make());
    }

    #[test]
    fn an_image_unpacks_to_its_programs_and_runs_the_entrypoint() {
        let bed = Bed::new();
        let app = bed.program("app.wasm", "(module)");
        let target = image(&bed.blobs, std::slice::from_ref(&app), &process(), &about()).unwrap();
        let image = Image::open(&bed.blobs, &target).unwrap();
        let config = image.config().unwrap();
        assert_eq!(config.entrypoint().as_deref().unwrap(), ["/app.wasm"]);
        assert_eq!(image.created(), Some("2023-11-14T22:13:20Z"));
        let root = bed.dir.path().join("root");
        fs::create_dir(&root).unwrap();
        image.unpack(&bed.blobs, &root).unwrap();
        assert_eq!(fs::read(root.join("app.wasm")).unwrap(), fs::read(&app.file).unwrap());
        let modified = fs::metadata(root.join("app.wasm")).unwrap().modified().unwrap();
        assert_eq!(modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(), TIME);
    }

    #[test]
    fn a_folder_becomes_an_image_with_its_folders() {
        let bed = Bed::new();
        let from = bed.dir.path().join("from");
        fs::create_dir_all(from.join("usr/local/bin")).unwrap();
        fs::write(from.join("usr/local/bin/wisp"), "a program").unwrap();
        let target = image_of(&bed.blobs, &from, &process(), &about()).unwrap();
        let root = bed.dir.path().join("root");
        fs::create_dir(&root).unwrap();
        Image::open(&bed.blobs, &target).unwrap().unpack(&bed.blobs, &root).unwrap();
        assert_eq!(fs::read(root.join("usr/local/bin/wisp")).unwrap(), b"a program");
    }

    #[test]
    fn an_artifact_says_what_its_component_asks_for() {
        let bed = Bed::new();
        let app = bed.program(
            "app.wasm",
            r#"(component (import "wasi:cli/stdout@0.2.6" (instance $out)) (export "wasi:cli/run@0.2.6" (instance $out)))"#,
        );
        let target = artifact(&bed.blobs, &app, &about()).unwrap();
        let image = Image::open(&bed.blobs, &target).unwrap();
        assert_eq!(image.manifest.wasm[0].title.as_deref(), Some("app.wasm"));
        let config = crate::document::digest(&image.manifest.config).unwrap();
        let config: serde_json::Value =
            serde_json::from_slice(&bed.blobs.read(&config).unwrap().unwrap()).unwrap();
        assert_eq!(config["os"], "wasip2");
        assert_eq!(config["component"]["imports"][0], "wasi:cli/stdout@0.2.6");
        assert_eq!(config["component"]["target"], "wasi:cli/run@0.2.6");
        assert_eq!(config["layerDigests"][0], image.manifest.wasm[0].digest.to_string());
    }

    #[test]
    fn what_could_not_be_compiled_becomes_no_image_and_is_not_read_to_its_end() {
        let bed = Bed::new();
        let large = bed.dir.path().join("large.wasm");
        File::create(&large).unwrap().set_len(crate::make::LARGEST + 1).unwrap();
        let program = Program { name: "app.wasm".into(), file: large };
        let error = image(&bed.blobs, std::slice::from_ref(&program), &process(), &about()).unwrap_err();
        let why = std::error::Error::source(&error).unwrap().to_string();
        assert!(why.contains("larger than 1 GiB"), "{error}: {why}");
        artifact(&bed.blobs, &program, &about()).unwrap_err();
    }

    #[test]
    fn what_is_no_wasm_becomes_no_image() {
        let bed = Bed::new();
        let file = bed.dir.path().join("app");
        fs::write(&file, "#!/bin/sh").unwrap();
        let program = Program { name: "app".into(), file };
        let error = image(&bed.blobs, std::slice::from_ref(&program), &process(), &about()).unwrap_err();
        assert!(error.to_string().contains("is a script"), "{error}");
        artifact(&bed.blobs, &program, &about()).unwrap_err();
    }
}
