//! Blobs: one file each, called by its digest, below the root of an OCI layout or of containerd's content store.

use std::fs::{self, File};
use std::io::{self, Read, Write};
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
        Self { root: root.into() }
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
        let folder = self.ingest();
        fs::create_dir_all(&folder)?;
        fs::create_dir_all(self.folder())?;
        Ok(Ingest {
            file: NamedTempFile::new_in(folder)?,
            hash: Sha256::new(),
            size: 0,
            blobs: self.folder(),
        })
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

    /// Stores what a reader gives.
    ///
    /// # Errors
    /// Those of reading and writing.
    pub fn put_all(&self, from: &mut impl Read) -> io::Result<Stored> {
        let mut blob = self.begin()?;
        io::copy(from, &mut blob)?;
        blob.commit()
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
    file: NamedTempFile,
    hash: Sha256,
    size: u64,
    blobs: PathBuf,
}

impl Ingest {
    /// Makes a blob of what was written, whatever it is.
    ///
    /// # Errors
    /// Those of writing.
    pub fn commit(self) -> io::Result<Stored> {
        let digest = Digest(self.hash.finalize().into());
        self.file.as_file().sync_all()?;
        self.file.persist(self.blobs.join(digest.hex())).map_err(|error| error.error)?;
        Ok(Stored { digest, size: self.size })
    }

    /// Makes a blob of what was written if it is the expected one.
    ///
    /// # Errors
    /// [`Error::Other`] if it is another.
    pub fn commit_as(self, expected: &Digest) -> Result<Stored, Error> {
        let found = Digest(self.hash.clone().finalize().into());
        if found != *expected {
            return Err(Error::Other { expected: *expected, found, size: self.size });
        }
        let path = self.blobs.join(expected.hex());
        self.commit().map_err(|error| Error::Io(path, error))
    }
}

impl Write for Ingest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
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
