//! Blobs: one file each, called by its digest, below the root of an OCI layout or of containerd's content store.
//!
//! What is stored is not on the disk yet when it has its name; whoever leads to blobs by something that shall outlast the machine
//! flushes them first ([`Blobs::flush`]).

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use oci_spec::image::{Descriptor, MediaType, Sha256Digest};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use wisp_contract::digest::Digest;

/// The largest manifest or configuration that is read; the distribution specification lets registries refuse larger ones.
pub const MAX_DOCUMENT: u64 = 4 << 20;

/// Why a blob is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("{0} cannot be read")]
    Io(PathBuf, #[source] io::Error),
    /// It is larger than any manifest or configuration.
    #[error("{0} is larger than {MAX_DOCUMENT} bytes, which no manifest or configuration is")]
    TooLarge(PathBuf),
    /// It is not what its name says.
    #[error("{0} is not what its digest says; remove the image and pull it again")]
    Altered(PathBuf),
    /// What was to become a blob is another.
    #[error("the blob {expected} was expected, and {found} with {size} bytes came")]
    Other {
        /// What was asked for.
        expected: Digest,
        /// What came.
        found: Digest,
        /// Its size in bytes.
        size: u64,
    },
}

/// The blobs.
#[derive(Debug, Clone)]
pub struct Blobs {
    root: PathBuf,
    /// Whether files that become blobs are led to rather than copied.
    leads: bool,
}

/// A blob that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

impl Blobs {
    /// The blobs below this root: an OCI layout, or what containerd's plugin `io.containerd.content.v1.content` exports.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), leads: false }
    }

    /// The blobs below a root that is gone before long. Files that become blobs there are not copied, and have to stay as they are.
    #[must_use]
    pub fn passing(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), leads: true }
    }

    /// Where a blob is, if it is there.
    #[must_use]
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.folder().join(digest.hex())
    }

    fn folder(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    /// Where blobs are until they are whole.
    fn ingest(&self) -> PathBuf {
        self.root.join("ingest")
    }

    /// Whether a blob of this size is there.
    #[must_use]
    pub fn has(&self, digest: &Digest, size: u64) -> bool {
        fs::metadata(self.path(digest)).is_ok_and(|meta| meta.len() == size)
    }

    /// A manifest, index or configuration, checked against its digest; `None` if it is not there.
    ///
    /// # Errors
    /// If it is no such blob.
    pub fn read(&self, digest: &Digest) -> Result<Option<Vec<u8>>, Error> {
        let path = self.path(digest);
        let mut bytes = Vec::new();
        match File::open(&path).and_then(|file| file.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::Io(path, error)),
        }
        if bytes.len() as u64 > MAX_DOCUMENT {
            return Err(Error::TooLarge(path));
        }
        if <[u8; 32]>::from(Sha256::digest(&bytes)) != digest.0 {
            return Err(Error::Altered(path));
        }
        Ok(Some(bytes))
    }

    /// Begins a blob, which is one only once it is committed.
    ///
    /// # Errors
    /// Those of making a file.
    pub fn begin(&self) -> io::Result<Ingest> {
        self.ingest_of(Bytes::Hashed(Sha256::new()))
    }

    /// Begins a blob that is committed only once who writes it has found its bytes to be of this digest.
    ///
    /// # Errors
    /// Those of making a file.
    pub fn begin_checked(&self, digest: Digest) -> io::Result<Ingest> {
        self.ingest_of(Bytes::Checked(digest))
    }

    fn ingest_of(&self, bytes: Bytes) -> io::Result<Ingest> {
        let folder = self.ingest();
        fs::create_dir_all(&folder)?;
        fs::create_dir_all(self.folder())?;
        Ok(Ingest { place: Place::Own(NamedTempFile::new_in(folder)?), bytes, size: 0, blobs: self.folder() })
    }

    /// Stores these bytes.
    ///
    /// # Errors
    /// Those of writing.
    pub fn put(&self, bytes: &[u8]) -> io::Result<Stored> {
        let mut blob = self.begin()?;
        blob.write_all(bytes)?;
        blob.commit()
    }

    /// Begins a blob of the bytes of a file, which whoever reads them writes.
    ///
    /// # Errors
    /// Those of making a file.
    pub(crate) fn begin_file(&self, file: &Path) -> io::Result<Ingest> {
        if !self.leads {
            return self.begin();
        }
        fs::create_dir_all(self.folder())?;
        let place = Place::Led(file.canonicalize()?);
        Ok(Ingest { place, bytes: Bytes::Hashed(Sha256::new()), size: 0, blobs: self.folder() })
    }

    /// Waits until these blobs are on the disk, the small ones first: each makes the file system write its journal, which waits
    /// for what is being written.
    ///
    /// # Errors
    /// If one is not there, or those of the disk.
    pub(crate) fn flush(&self, digests: impl Iterator<Item = Digest>) -> Result<(), Error> {
        let mut files = digests
            .map(|digest| {
                let path = self.path(&digest);
                let file = File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file)));
                file.map_err(|error| Error::Io(path, error))
            })
            .collect::<Result<Vec<_>, _>>()?;
        files.sort_by_key(|(size, _)| *size);
        let flushed = files.iter().try_for_each(|(_, file)| file.sync_all());
        flushed.map_err(|error| Error::Io(self.folder(), error))
    }

    /// Removes every blob but these, and what was never committed; gives the bytes that this freed.
    ///
    /// # Errors
    /// Those of removing.
    pub(crate) fn retain(&self, keep: impl Fn(&Digest) -> bool) -> io::Result<u64> {
        let mut freed = 0;
        for entry in entries(&self.folder())? {
            let name = entry.file_name();
            let digest = name.to_str().and_then(|hex| format!("sha256:{hex}").parse().ok());
            if !digest.is_some_and(|digest| keep(&digest)) {
                freed += entry.metadata()?.len();
                fs::remove_file(entry.path())?;
            }
        }
        for entry in entries(&self.ingest())? {
            freed += entry.metadata()?.len();
            fs::remove_file(entry.path())?;
        }
        Ok(freed)
    }
}

fn entries(folder: &Path) -> io::Result<Vec<fs::DirEntry>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// A blob on its way. One that is not committed leaves nothing.
#[derive(Debug)]
pub struct Ingest {
    place: Place,
    bytes: Bytes,
    size: u64,
    blobs: PathBuf,
}

/// Where its bytes are.
#[derive(Debug)]
enum Place {
    Own(NamedTempFile),
    /// In a file that has them already.
    Led(PathBuf),
}

/// Who says what digest the bytes have.
#[derive(Debug, Clone)]
enum Bytes {
    Hashed(Sha256),
    Checked(Digest),
}

impl Bytes {
    fn digest(self) -> Digest {
        match self {
            Self::Hashed(hash) => Digest(hash.finalize().into()),
            Self::Checked(digest) => digest,
        }
    }
}

impl Ingest {
    /// Makes a blob of what was written, whatever it is.
    ///
    /// # Errors
    /// Those of writing.
    pub fn commit(self) -> io::Result<Stored> {
        let digest = self.bytes.digest();
        let path = self.blobs.join(digest.hex());
        match self.place {
            Place::Own(file) => file.persist(path).map(drop).map_err(|error| error.error)?,
            Place::Led(file) => match symlink(file, path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                linked => linked?,
            },
        }
        Ok(Stored { digest, size: self.size })
    }

    /// Makes a blob of what was written if it is the expected one.
    ///
    /// # Errors
    /// [`Error::Other`] if it is another.
    pub fn commit_as(self, expected: &Digest) -> Result<Stored, Error> {
        let found = self.bytes.clone().digest();
        if found != *expected {
            return Err(Error::Other { expected: *expected, found, size: self.size });
        }
        let path = self.blobs.join(expected.hex());
        self.commit().map_err(|error| Error::Io(path, error))
    }
}

impl Write for Ingest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match &mut self.place {
            Place::Own(file) => file.write(bytes)?,
            Place::Led(_) => bytes.len(),
        };
        if let Bytes::Hashed(hash) = &mut self.bytes {
            hash.update(&bytes[..written]);
        }
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.place {
            Place::Own(file) => file.flush(),
            Place::Led(_) => Ok(()),
        }
    }
}

impl Stored {
    /// How a document names this blob.
    #[must_use]
    pub fn descriptor(&self, media_type: MediaType) -> Descriptor {
        let Ok(digest) = Sha256Digest::from_str(&self.digest.hex()) else {
            unreachable!("64 hexadecimal digits are a SHA-256")
        };
        Descriptor::new(media_type, self.size, digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_there_once_it_is_committed_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::at(dir.path());
        let mut blob = blobs.begin().unwrap();
        blob.write_all(b"words").unwrap();
        let digest = Digest(Sha256::digest(b"words").into());
        assert_eq!(blobs.read(&digest).unwrap(), None);
        blob.commit_as(&digest).unwrap();
        assert_eq!(blobs.read(&digest).unwrap().unwrap(), b"words");
        assert!(blobs.has(&digest, 5) && !blobs.has(&digest, 4));
    }

    #[test]
    fn a_blob_that_is_another_is_not_stored() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::at(dir.path());
        let mut blob = blobs.begin().unwrap();
        blob.write_all(b"other words").unwrap();
        let error = blob.commit_as(&Digest([7; 32])).unwrap_err().to_string();
        assert!(error.contains("was expected") && error.contains("11 bytes"), "{error}");
        assert_eq!(blobs.retain(|_| false).unwrap(), 0);
    }

    #[test]
    fn a_file_is_led_to_only_by_blobs_that_are_gone_before_long() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("words");
        fs::write(&file, "words").unwrap();
        let (kept, passing) =
            (Blobs::at(dir.path().join("kept")), Blobs::passing(dir.path().join("passing")));
        for (blobs, is_link) in [(&kept, false), (&passing, true), (&passing, true)] {
            let mut blob = blobs.begin_file(&file).unwrap();
            blob.write_all(b"words").unwrap();
            let stored = blob.commit().unwrap();
            assert_eq!(blobs.read(&stored.digest).unwrap().unwrap(), b"words");
            assert!(blobs.has(&stored.digest, 5));
            assert_eq!(blobs.path(&stored.digest).is_symlink(), is_link);
        }
    }

    #[test]
    fn a_document_that_was_altered_or_is_too_large_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::at(dir.path());
        let stored = blobs.put(b"words").unwrap();
        fs::write(blobs.path(&stored.digest), "sword").unwrap();
        assert!(matches!(blobs.read(&stored.digest), Err(Error::Altered(_))));
        let large = blobs.put(&vec![b' '; MAX_DOCUMENT as usize + 1]).unwrap();
        assert!(matches!(blobs.read(&large.digest), Err(Error::TooLarge(_))));
    }
}
