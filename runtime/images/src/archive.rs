//! Images as one file: an OCI layout in a tar archive, which `docker load` and `ctr images import` read too; and what `docker save`
//! writes.
//!
//! An archive is read as a stream, once: blobs go to the store as they come, and a name is given only when all is there.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead, BufReader, Read, Write};

use flate2::bufread::MultiGzDecoder;
use oci_spec::image::{Descriptor, MediaType};
use serde::{Deserialize, Serialize};
use tar::{Entry, EntryType, Header};

use crate::blobs::{Blobs, Ingest, MAX_DOCUMENT, Stored};
use crate::contents::Contents;
use crate::image::Image;
use crate::name::reference;
use crate::store::{self, Named, Store, stable};
use crate::{Error, document, make};

/// How many entries an archive may have.
const MOST_ENTRIES: usize = 1 << 16;
/// Docker's list of what its own archives have.
const DOCKER: &str = "manifest.json";

/// An entry of Docker's list.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Docker {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Writes images with all their blobs.
///
/// # Errors
/// If a blob is not there, or those of writing.
pub fn save(store: &Store, images: &[Named], to: impl Write) -> Result<(), Error> {
    let mut digests = Vec::new();
    for image in images {
        let contents = Contents::in_store(store.blobs(), &image.target)?;
        digests.extend(contents.digests().filter(|digest| !digests.contains(digest)).collect::<Vec<_>>());
    }
    let docker =
        stable(&images.iter().filter_map(|image| for_docker(store.blobs(), image)).collect::<Vec<_>>())?;
    let index = store::index(images)?;
    let write = || -> io::Result<()> {
        let mut tar = tar::Builder::new(to);
        let mut put =
            |name: &str, bytes: &[u8]| tar.append_data(&mut header(bytes.len() as u64), name, bytes);
        put("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        put("index.json", &index)?;
        put(DOCKER, &docker)?;
        for digest in digests {
            let file = std::fs::File::open(store.blobs().path(&digest))?;
            tar.append_data(&mut header(file.metadata()?.len()), entry(&digest.hex()), file)?;
        }
        tar.into_inner()?.flush()
    };
    write().map_err(Error::at("the archive"))
}

fn header(size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(size);
    header
}

fn entry(hex: &str) -> String {
    format!("blobs/sha256/{hex}")
}

/// What Docker is told of an image; nothing of one that it cannot load.
fn for_docker(blobs: &Blobs, image: &Named) -> Option<Docker> {
    let opened = Image::open(blobs, &image.target).ok()?;
    opened.config()?;
    let path = |descriptor: &Descriptor| Some(entry(&document::digest(descriptor).ok()?.hex()));
    Some(Docker {
        config: path(&opened.manifest.config)?,
        repo_tags: Some(vec![image.name.clone()]),
        layers: opened.manifest.files.iter().map(path).collect::<Option<_>>()?,
    })
}

/// Reads images from an archive, compressed with gzip or not, and gives them their names; those without one get `name`.
///
/// # Errors
/// If it is no archive of images, or a blob is not what it is called. Nothing of it stays then.
pub fn load(store: &Store, from: impl Read, name: Option<&str>) -> Result<Vec<Named>, Error> {
    let hold = store.hold()?;
    let result = Archive::default().read(store, from).and_then(|archive| {
        let images = archive.images(store, name)?;
        for image in &images {
            complete(store, image)?;
        }
        for image in &images {
            store.tag(&reference(&image.name)?, &image.target)?;
        }
        Ok(images)
    });
    drop(hold);
    if result.is_err() {
        store.collect()?;
    }
    result
}

/// That every blob of the image that would run here is there.
fn complete(store: &Store, image: &Named) -> Result<(), Error> {
    let opened = Image::open(store.blobs(), &image.target)?;
    for descriptor in std::iter::once(&opened.manifest.config).chain(&opened.manifest.layers) {
        let digest = document::digest(descriptor)?;
        if !store.blobs().has(&digest, descriptor.size()) {
            return Err(Error::Missing(digest));
        }
    }
    Ok(())
}

/// What was found in an archive.
#[derive(Default)]
struct Archive {
    index: Option<Vec<u8>>,
    docker: Option<Vec<u8>>,
    /// Everything else, by its path.
    files: HashMap<String, Stored>,
    /// Links between them, as Docker has for layers that images share.
    links: HashMap<String, String>,
}

impl Archive {
    fn read(mut self, store: &Store, from: impl Read) -> Result<Self, Error> {
        let mut from = BufReader::new(from);
        let unreadable = |error: io::Error| {
            Error::Refused(format!(
                "the archive cannot be read ({error}); a tar archive of images was expected, as docker save and wisp save write it"
            ))
        };
        let start = from.fill_buf().map_err(unreadable)?;
        let from: Box<dyn Read + '_> = if start.starts_with(&[0x1f, 0x8b]) {
            Box::new(MultiGzDecoder::new(from))
        } else {
            Box::new(from)
        };
        let mut tar = tar::Archive::new(from);
        for (number, entry) in tar.entries().map_err(unreadable)?.enumerate() {
            if number >= MOST_ENTRIES {
                return Err(Error::Refused(format!("the archive has more than {MOST_ENTRIES} files")));
            }
            let mut entry = entry.map_err(unreadable)?;
            let path = entry.path().map_err(unreadable)?.display().to_string();
            let path = path.trim_start_matches("./").to_owned();
            match entry.header().entry_type() {
                EntryType::Regular => self.file(store, path, &mut entry)?,
                EntryType::Symlink | EntryType::Link => {
                    let target = entry.link_name().map_err(unreadable)?.unwrap_or_default();
                    self.links.insert(path, target.display().to_string());
                }
                _ => {}
            }
        }
        Ok(self)
    }

    fn file(&mut self, store: &Store, path: String, from: &mut Entry<'_, impl Read>) -> Result<(), Error> {
        if let Some(hex) = path.strip_prefix("blobs/sha256/") {
            let digest = format!("sha256:{hex}").parse();
            let digest = digest.map_err(|error| Error::Refused(format!("the archive's {path}: {error}")))?;
            let stored = ingest(store.blobs(), &path, from)?.commit_as(&digest)?;
            self.files.insert(path, stored);
            return Ok(());
        }
        match path.as_str() {
            "index.json" => self.index = Some(read_document(&path, from)?),
            DOCKER => self.docker = Some(read_document(&path, from)?),
            "oci-layout" | "repositories" => {}
            _ => {
                let stored = ingest(store.blobs(), &path, from)?.commit().map_err(Error::at(&path))?;
                self.files.insert(path, stored);
            }
        }
        Ok(())
    }

    /// The images, by OCI's index where there is one.
    fn images(&self, store: &Store, name: Option<&str>) -> Result<Vec<Named>, Error> {
        let mut images = match (&self.index, &self.docker) {
            (Some(index), _) => {
                store::parse(index).map_err(|error| no_archive(&format!("index.json: {error}")))?
            }
            (None, Some(docker)) => self.dockers(store, docker)?,
            (None, None) => return Err(no_archive("it has neither index.json nor manifest.json")),
        };
        if let (Some(docker), true) =
            (&self.docker, images.iter().any(|image| reference(&image.name).is_err()))
        {
            // Docker writes the whole name only here.
            let names: Vec<Docker> = serde_json::from_slice(docker).unwrap_or_default();
            let names = names.into_iter().map(|image| image.repo_tags.unwrap_or_default().into_iter().next());
            for (image, name) in images.iter_mut().zip(names) {
                image.name = name.unwrap_or_default();
            }
        }
        for image in &mut images {
            image.name = whole(&image.name, name)?;
        }
        if images.is_empty() {
            return Err(no_archive("it has no image"));
        }
        Ok(images)
    }

    /// The images of an archive in Docker's own form, as OCI's.
    fn dockers(&self, store: &Store, list: &[u8]) -> Result<Vec<Named>, Error> {
        let list: Vec<Docker> =
            serde_json::from_slice(list).map_err(|error| no_archive(&format!("manifest.json: {error}")))?;
        let mut images = Vec::new();
        for image in list {
            let layers =
                image.layers.iter().map(|path| Ok(self.blob(path)?.descriptor(MediaType::ImageLayer)));
            let layers = layers.collect::<Result<_, Error>>()?;
            let config = self.blob(&image.config)?.descriptor(MediaType::ImageConfig);
            let manifest = make::manifest(config, layers, &BTreeMap::new())?;
            let stored = store.blobs().put(&stable(&manifest)?).map_err(Error::at("the image's manifest"))?;
            let target = stored.descriptor(MediaType::ImageManifest);
            let tags = image.repo_tags.filter(|tags| !tags.is_empty()).unwrap_or_else(|| vec![String::new()]);
            images.extend(tags.into_iter().map(|name| Named { name, target: target.clone() }));
        }
        Ok(images)
    }

    /// The blob at a path of the archive, or where a link there leads.
    fn blob(&self, path: &str) -> Result<Stored, Error> {
        let target = self.links.get(path).map(|target| target.trim_start_matches("../"));
        let found = self.files.get(path).or_else(|| self.files.get(target?));
        found.copied().ok_or_else(|| no_archive(&format!("manifest.json names {path}, which is not there")))
    }
}

/// An image's whole name: its own if it is one, or with its own as the tag, or the given one.
fn whole(own: &str, given: Option<&str>) -> Result<String, Error> {
    let is_name = own.contains('/') || own.contains(':');
    match given {
        None if is_name => Ok(reference(own)?.whole()),
        Some(given) if !is_name => Ok(reference(given)?.whole()),
        Some(_) => Ok(reference(own)?.whole()),
        None => Err(Error::Refused(
            "the archive does not say what its image is called; give it a name with --tag NAME".into(),
        )),
    }
}

fn no_archive(why: &str) -> Error {
    Error::Refused(format!("this is no archive of images: {why}"))
}

/// A file of the archive as a blob that is still to be committed.
fn ingest(blobs: &Blobs, path: &str, from: &mut Entry<'_, impl Read>) -> Result<Ingest, Error> {
    let mut blob = blobs.begin().map_err(Error::at(path))?;
    let copied = io::copy(from, &mut blob).map_err(Error::at(path))?;
    is_whole(path, from, copied)?;
    Ok(blob)
}

fn read_document(path: &str, from: &mut Entry<'_, impl Read>) -> Result<Vec<u8>, Error> {
    if from.size() > MAX_DOCUMENT {
        return Err(no_archive(&format!("{path} is larger than {MAX_DOCUMENT} bytes")));
    }
    let mut bytes = Vec::new();
    let read = from.read_to_end(&mut bytes).map_err(Error::at(path))?;
    is_whole(path, from, read as u64)?;
    Ok(bytes)
}

/// That as much came of a file as its header says: to the tar reader an archive that breaks off is one that has ended.
fn is_whole(path: &str, file: &Entry<'_, impl Read>, came: u64) -> Result<(), Error> {
    let size = file.size();
    if came < size {
        return Err(Error::Refused(format!(
            "the archive breaks off: of {path} it has {came} bytes of {size}; write it again"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::make::{About, Process, Program, artifact, image};

    struct Bed {
        dir: tempfile::TempDir,
        store: Store,
    }

    impl Bed {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(dir.path().join("images")).unwrap();
            Self { dir, store }
        }

        fn program(&self) -> Program {
            let file = self.dir.path().join("app.wasm");
            fs::write(&file, wat::parse_str("(module)").unwrap()).unwrap();
            Program { name: "app.wasm".into(), file }
        }

        /// An ordinary image, an artifact, and an archive of both.
        fn archive(&self) -> Vec<u8> {
            let (program, about) = (self.program(), About::default());
            let process = Process { entrypoint: vec!["/app.wasm".into()], ..Process::default() };
            let image = image(self.store.blobs(), std::slice::from_ref(&program), &process, &about).unwrap();
            let artifact = artifact(self.store.blobs(), &program, &about).unwrap();
            self.store.tag(&reference("wisp.test/app:1").unwrap(), &image).unwrap();
            self.store.tag(&reference("wisp.test/artifact:1").unwrap(), &artifact).unwrap();
            let mut bytes = Vec::new();
            save(&self.store, &self.store.images().unwrap(), &mut bytes).unwrap();
            bytes
        }

        fn blobs(&self) -> usize {
            fs::read_dir(self.dir.path().join("images/blobs/sha256")).unwrap().count()
        }
    }

    fn tar(files: &[(&str, &[u8])], links: &[(&str, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            tar.append_data(&mut header(bytes.len() as u64), name, *bytes).unwrap();
        }
        for (name, target) in links {
            let mut header = header(0);
            header.set_entry_type(EntryType::Symlink);
            tar.append_link(&mut header, name, target).unwrap();
        }
        tar.into_inner().unwrap()
    }

    #[test]
    fn what_was_saved_is_loaded_with_its_names_compressed_or_not() {
        let (from, to) = (Bed::new(), Bed::new());
        let plain = from.archive();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        for bytes in [plain, gzip.finish().unwrap()] {
            let images = load(&to.store, &bytes[..], None).unwrap();
            assert_eq!(images, from.store.images().unwrap());
            assert_eq!(to.store.images().unwrap(), images);
            assert_eq!(to.blobs(), from.blobs());
        }
    }

    #[test]
    fn an_archive_that_breaks_off_or_was_altered_leaves_nothing() {
        let bytes = Bed::new().archive();
        let mut altered = bytes.clone();
        let position = altered.windows(4).rposition(|window| window == b"\0asm").unwrap();
        altered[position + 4] ^= 1;
        for bytes in [&bytes[..bytes.len() / 2], &altered, b"", b"no archive", &[0; 4096]] {
            let bed = Bed::new();
            load(&bed.store, bytes, None).unwrap_err();
            assert_eq!((bed.blobs(), bed.store.images().unwrap().len()), (0, 0));
        }
    }

    #[test]
    fn an_archive_that_breaks_off_says_in_what() {
        let bytes = Bed::new().archive();
        for path in ["blobs/sha256/", "index.json"] {
            let header = bytes.chunks(512).position(|block| block.starts_with(path.as_bytes())).unwrap();
            let bed = Bed::new();
            let error = load(&bed.store, &bytes[..(header + 1) * 512 + 4], None).unwrap_err().to_string();
            assert!(error.contains("breaks off") && error.contains(path), "{error}");
        }
    }

    #[test]
    fn an_archive_of_dockers_own_form_becomes_an_image() {
        let layer = tar(&[("app.wasm", b"\0asm\x01\0\0\0")], &[]);
        let config = json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": []},
            "config": {"Entrypoint": ["/app.wasm"], "Env": null}});
        let list = json!([{"Config": "c.json", "RepoTags": ["wisp.test/app:1", "wisp.test/app:2"],
            "Layers": ["one/layer.tar", "two/layer.tar"]}]);
        let bytes = tar(
            &[
                ("one/layer.tar", &layer),
                ("c.json", config.to_string().as_bytes()),
                (DOCKER, list.to_string().as_bytes()),
            ],
            &[("two/layer.tar", "../one/layer.tar")],
        );
        let bed = Bed::new();
        let images = load(&bed.store, &bytes[..], None).unwrap();
        assert_eq!(
            (images[0].name.as_str(), images[1].name.as_str()),
            ("wisp.test/app:1", "wisp.test/app:2")
        );
        let opened = Image::open(bed.store.blobs(), &images[0].target).unwrap();
        assert_eq!(opened.manifest.files.len(), 2);
        assert_eq!(opened.config().unwrap().entrypoint().as_deref().unwrap(), ["/app.wasm"]);
    }

    #[test]
    fn an_image_without_a_name_gets_the_given_one_or_is_refused() {
        let bed = Bed::new();
        let image = artifact(bed.store.blobs(), &bed.program(), &About::default()).unwrap();
        let named = Named { name: String::new(), target: image };
        let mut bytes = Vec::new();
        save(&bed.store, &[named], &mut bytes).unwrap();
        let error = load(&bed.store, &bytes[..], None).unwrap_err().to_string();
        assert!(error.contains("--tag NAME"), "{error}");
        assert_eq!(
            load(&bed.store, &bytes[..], Some("wisp.test/app")).unwrap()[0].name,
            "wisp.test/app:latest"
        );
    }
}
