//! The files that say how registries are reached: read as far as any of them is long.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result};
use std::path::Path;

/// The longest that a file may be, in bytes: many times all certificate authorities of a system.
const MOST: u64 = 4 << 20;

/// The bytes of a file.
///
/// # Errors
/// Those of reading, and where there are more than [`MOST`].
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MOST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST {
        let reason = format!("it is longer than {} MiB, which no such file is", MOST >> 20);
        return Err(Error::new(ErrorKind::FileTooLarge, reason));
    }
    Ok(bytes)
}

/// The text of a file.
///
/// # Errors
/// As those of [`read`], and where it is no UTF-8.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    String::from_utf8(read(path)?)
        .map_err(|error| Error::new(ErrorKind::InvalidData, format!("it is no UTF-8 ({error})")))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_without_an_end_is_given_up() {
        let error = read(Path::new("/dev/zero")).unwrap_err().to_string();
        assert!(error.contains("longer than 4 MiB"), "{error}");
    }

    #[test]
    fn a_file_of_the_longest_size_is_read_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, vec![b'x'; MOST as usize]).unwrap();
        assert_eq!(read_text(&path).unwrap().len() as u64, MOST);
        fs::write(&path, [0xff]).unwrap();
        assert!(read_text(&path).unwrap_err().to_string().contains("UTF-8"));
    }
}
