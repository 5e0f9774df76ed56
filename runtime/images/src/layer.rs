//! A layer's bytes as the tar archive that they are, checked on the way.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use oci_spec::image::Descriptor;
use ruzstd::decoding::StreamingDecoder;
use sha2::{Digest as _, Sha256};
use wisp_contract::digest::Digest;

use crate::Error;
use crate::blobs::Blobs;
use crate::document;

/// How a layer is compressed: what its media type says and how its bytes begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    fn of_media_type(media_type: &str) -> Self {
        match media_type.rsplit(['+', '.']).next() {
            Some("gzip") => Self::Gzip,
            Some("zstd") => Self::Zstd,
            _ => Self::None,
        }
    }

    fn of_bytes(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::None => "an uncompressed tar archive",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// A layer as a tar archive. Read it to its end with [`Layer::finish`], which says whether it was what the image names.
pub(crate) struct Layer {
    tar: Hashing<Box<dyn Read>>,
    expected: Option<Digest>,
    name: Digest,
}

impl Layer {
    /// Opens the layer that `descriptor` names and whose content without compression has the digest `diff_id`.
    pub(crate) fn open(
        blobs: &Blobs,
        descriptor: &Descriptor,
        diff_id: Option<Digest>,
    ) -> Result<Self, Error> {
        let name = document::digest(descriptor)?;
        let path = blobs.path(&name);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Error::Missing(name)),
            file => file.map_err(Error::at(&path))?,
        };
        let mut bytes = BufReader::with_capacity(1 << 16, file);
        let start = bytes.fill_buf().map_err(Error::at(&path))?;
        let media_type = descriptor.media_type().to_string();
        let (said, found) = (Compression::of_media_type(&media_type), Compression::of_bytes(start));
        if said != found {
            return Err(Error::Refused(format!(
                "the layer {name} says {media_type}, expected {} after that, and its bytes are {}; push the image anew",
                said.name(),
                found.name()
            )));
        }
        let tar: Box<dyn Read> = match found {
            Compression::None => Box::new(bytes),
            Compression::Gzip => Box::new(MultiGzDecoder::new(bytes)),
            Compression::Zstd => Box::new(StreamingDecoder::new(bytes).map_err(|error| {
                Error::Refused(format!("the layer {name} is no zstd stream that can be read: {error}"))
            })?),
        };
        Ok(Self { tar: Hashing::new(tar), expected: diff_id, name })
    }

    /// Reads what follows the archive's end, and compares the whole with what the image's configuration says of it.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        // Archives end with zeros; a little more than the largest blocking factor in use is as much as any has.
        const PADDING: u64 = 1 << 20;
        let rest = io::copy(&mut (&mut self.tar).take(PADDING + 1), &mut io::sink());
        if rest.map_err(|error| self.unreadable(&error))? > PADDING {
            return Err(Error::Refused(format!("the layer {} goes on after its archive's end", self.name)));
        }
        let found = Digest(self.tar.hash.finalize().into());
        match self.expected {
            Some(expected) if expected != found => Err(Error::Refused(format!(
                "the layer {} holds {found}, and the image's configuration says {expected}; push the image anew",
                self.name
            ))),
            _ => Ok(()),
        }
    }

    /// The sentence for an archive or a stream that breaks off or makes no sense.
    pub(crate) fn unreadable(&self, error: &io::Error) -> Error {
        Error::Refused(format!("the layer {} cannot be read as a tar archive: {error}", self.name))
    }
}

impl Read for Layer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.tar.read(buffer)
    }
}

struct Hashing<R> {
    from: R,
    hash: Sha256,
}

impl<R> Hashing<R> {
    fn new(from: R) -> Self {
        Self { from, hash: Sha256::new() }
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_says_how_a_layer_is_compressed() {
        for (media_type, expected) in [
            ("application/vnd.oci.image.layer.v1.tar", Compression::None),
            ("application/vnd.oci.image.layer.v1.tar+gzip", Compression::Gzip),
            ("application/vnd.oci.image.layer.v1.tar+zstd", Compression::Zstd),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", Compression::Gzip),
            ("application/vnd.docker.image.rootfs.diff.tar", Compression::None),
        ] {
            assert_eq!(Compression::of_media_type(media_type), expected, "{media_type}");
        }
    }
}
