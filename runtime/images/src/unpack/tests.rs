use std::fs;
use std::io::Write;

use oci_spec::image::MediaType;
use tar::{Builder, Header};

use super::*;

const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

struct Bed {
    dir: tempfile::TempDir,
    blobs: Blobs,
    layers: Vec<Descriptor>,
}

impl Bed {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        fs::write(dir.path().join("outside"), "untouched").unwrap();
        let blobs = Blobs::at(dir.path().join("layout"));
        Self { dir, blobs, layers: Vec::new() }
    }

    fn layer(&mut self, media_type: &str, bytes: &[u8]) {
        let stored = self.blobs.put(bytes).unwrap();
        self.layers.push(stored.descriptor(MediaType::from(media_type)));
    }

    fn files(&mut self, entries: &[(&str, EntryType, &str)]) {
        self.layer(TAR, &archive(entries));
    }

    fn unpack(&self) -> Result<(), String> {
        self.within(Limits::default())
    }

    fn within(&self, limits: Limits) -> Result<(), String> {
        let layers = self.layers.iter().map(|layer| (layer, None));
        all(&self.blobs, layers, &self.path(""), limits).map_err(|error| error.to_string())
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join("root").join(path)
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    fn outside_is_untouched(&self) -> bool {
        let there: Vec<_> = fs::read_dir(self.dir.path()).unwrap().collect();
        fs::read(self.dir.path().join("outside")).unwrap() == b"untouched" && there.len() == 3
    }
}

/// Files with a content, links with a target. Names are written as they are, however bad.
fn archive(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (name, kind, text) in entries {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        let link = matches!(kind, EntryType::Symlink | EntryType::Link);
        if link {
            header.as_old_mut().linkname[..text.len()].copy_from_slice(text.as_bytes());
        }
        let content = if link { "" } else { text };
        header.set_size(content.len() as u64);
        header.set_mtime(7);
        header.set_cksum();
        tar.append(&header, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

const FILE: EntryType = EntryType::Regular;
const DIR: EntryType = EntryType::Directory;
const SYMLINK: EntryType = EntryType::Symlink;
const LINK: EntryType = EntryType::Link;

#[test]
fn layers_lie_on_one_another() {
    let mut bed = Bed::new();
    bed.files(&[("a/one", FILE, "1"), ("a/two", FILE, "2"), ("b", FILE, "a file"), ("c/x", FILE, "x")]);
    bed.files(&[
        ("a/.wh.one", FILE, ""),
        ("b/in", FILE, "now a folder"),
        ("c/.wh..wh..opq", FILE, ""),
        ("c/y", FILE, "y"),
    ]);
    bed.files(&[("a/two", SYMLINK, "../c/y"), ("hard", LINK, "c/y")]);
    bed.unpack().unwrap();
    assert!(!bed.path("a/one").exists() && !bed.path("c/x").exists());
    assert_eq!(
        (bed.read("b/in"), bed.read("a/two"), bed.read("hard")),
        ("now a folder".into(), "y".into(), "y".into())
    );
}

#[test]
fn a_path_out_of_the_image_is_refused() {
    for name in ["../outside", "a/../../outside", "./../outside"] {
        let mut bed = Bed::new();
        bed.files(&[(name, FILE, "taken")]);
        let error = bed.unpack().unwrap_err();
        assert!(
            error.contains(name.trim_start_matches("./")) && error.contains("leads out of the image"),
            "{error}"
        );
        assert!(bed.outside_is_untouched());
    }
}

#[test]
fn a_link_out_of_the_image_leads_to_its_root() {
    for target in ["/", "../..", "/../../../../../../.."] {
        let mut bed = Bed::new();
        bed.files(&[("up", SYMLINK, target), ("up/outside", FILE, "taken")]);
        bed.unpack().unwrap();
        assert_eq!(bed.read("outside"), "taken");
        assert!(bed.outside_is_untouched());
    }
    let mut bed = Bed::new();
    bed.files(&[("outside", SYMLINK, "../outside"), ("hard", LINK, "/outside")]);
    bed.files(&[("outside", FILE, "taken")]);
    bed.unpack().unwrap();
    assert!(bed.outside_is_untouched());
    assert!(bed.path("outside").symlink_metadata().unwrap().is_file());
}

#[test]
fn a_hard_link_to_what_is_not_there_is_refused() {
    let mut bed = Bed::new();
    bed.files(&[("hard", LINK, "../outside")]);
    bed.unpack().unwrap_err();
    assert!(bed.outside_is_untouched());
}

#[test]
fn ten_gigabytes_of_zeros_are_refused_before_one_is_written() {
    let mut header = Header::new_gnu();
    header.set_path("zeros").unwrap();
    header.set_size(10 << 30);
    header.set_cksum();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(header.as_bytes()).unwrap();
    gzip.write_all(&vec![0; 1 << 20]).unwrap();
    let mut bed = Bed::new();
    bed.layer(&format!("{TAR}+gzip"), &gzip.finish().unwrap());
    let error = bed.unpack().unwrap_err();
    assert!(error.contains("more than 4294967296 bytes"), "{error}");
    assert!(!bed.path("zeros").exists());
}

#[test]
fn many_small_files_are_counted_together_over_all_layers() {
    let mut bed = Bed::new();
    bed.files(&[("a", FILE, "123"), ("b", FILE, "456")]);
    bed.files(&[("c", FILE, "789")]);
    bed.within(Limits { bytes: 9, entries: 3 }).unwrap();
    bed.within(Limits { bytes: 8, entries: 3 }).unwrap_err();
    bed.within(Limits { bytes: 9, entries: 2 }).unwrap_err();
}

#[test]
fn a_name_without_end_is_refused_in_bounded_memory() {
    let mut header = Header::new_gnu();
    header.set_path("././@LongLink").unwrap();
    header.set_entry_type(EntryType::GNULongName);
    header.set_size(4 << 30);
    header.set_cksum();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(header.as_bytes()).unwrap();
    gzip.write_all(&vec![b'a'; 8 << 20]).unwrap();
    let mut bed = Bed::new();
    bed.layer(&format!("{TAR}+gzip"), &gzip.finish().unwrap());
    let error = bed.unpack().unwrap_err();
    assert!(error.contains("names and attributes take more than"), "{error}");
}

#[test]
fn a_layer_whose_type_lies_about_its_bytes_is_refused() {
    let tar = archive(&[("a", FILE, "1")]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    let gzip = gzip.finish().unwrap();
    for (media_type, bytes) in [
        (format!("{TAR}+gzip"), &tar[..]),
        (TAR.to_owned(), &gzip),
        (format!("{TAR}+zstd"), &gzip),
        (TAR.to_owned(), b"\0asm\x01\0\0\0"),
        (TAR.to_owned(), b"\x7fELF is no archive either, and long enough for nothing"),
        (format!("{TAR}+gzip"), &gzip[..gzip.len() / 2]),
    ] {
        let mut bed = Bed::new();
        bed.layer(&media_type, bytes);
        let error = bed.unpack().unwrap_err();
        assert!(error.starts_with("the layer sha256:"), "{error}");
    }
}

#[test]
fn a_layer_that_is_not_what_the_configuration_says_is_refused() {
    let mut bed = Bed::new();
    bed.files(&[("a", FILE, "1")]);
    let layers = bed.layers.iter().map(|layer| (layer, Some(Digest([7; 32]))));
    let error = all(&bed.blobs, layers, &bed.path(""), Limits::default()).unwrap_err().to_string();
    assert!(error.contains("the image's configuration says sha256:0707"), "{error}");
}

#[test]
fn devices_are_left_out_and_folders_stay_open_for_who_unpacks() {
    let mut bed = Bed::new();
    bed.files(&[
        ("dev/null", EntryType::Char, ""),
        ("pipe", EntryType::Fifo, ""),
        ("closed", DIR, ""),
        ("closed/in", FILE, "x"),
    ]);
    bed.unpack().unwrap();
    assert!(!bed.path("dev/null").exists() && !bed.path("pipe").exists());
    let mode = fs::metadata(bed.path("closed")).unwrap().permissions().mode();
    assert_eq!(mode & 0o700, 0o700);
}
