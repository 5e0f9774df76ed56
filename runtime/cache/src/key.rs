//! What an entry is called: a digest over the program's digest and everything else that its code depends on.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use sha2::{Digest, Sha256};

/// The name of one entry, 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key(String);

impl Key {
    /// The key of a program by the SHA-256 of its Wasm, as this compiler compiles it for this processor.
    ///
    /// The compiler is told from others by its version and by its file's size and time, so that a compiler that was
    /// installed over another never finds that one's code. Wasmtime checks its own version and flags again when the
    /// code is loaded.
    ///
    /// # Errors
    /// If the compiler's file cannot be seen.
    pub fn of(program: &[u8; 32], compiler: &Path) -> io::Result<Self> {
        let file = std::fs::metadata(compiler)?;
        let mut hash = Sha256::new();
        hash.update(program);
        hash.update(format!(
            "\nwisp {} compiler {} {}.{} {} {}",
            env!("CARGO_PKG_VERSION"),
            file.size(),
            file.mtime(),
            file.mtime_nsec(),
            std::env::consts::ARCH,
            processor()
        ));
        Ok(Self(hex(&hash.finalize())))
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A number that two keys share only by chance.
    pub(crate) fn number(&self) -> u64 {
        u64::from_str_radix(&self.0[..15], 16).unwrap_or(0)
    }
}

/// The SHA-256 of a file, read from its start.
pub(crate) fn digest(file: &mut File) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    crate::each_chunk(file, |chunk| {
        hash.update(chunk);
        Ok(())
    })?;
    Ok(hash.finalize().into())
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        text.push_str(&format!("{byte:02x}"));
        text
    })
}

/// The features of this processor that compiled code may use (those that Cranelift asks the processor for).
#[cfg(target_arch = "x86_64")]
fn processor() -> String {
    macro_rules! features {
        ($($name:tt)*) => {
            [$(($name, std::arch::is_x86_feature_detected!($name))),*]
        };
    }
    features!("sse3" "ssse3" "sse4.1" "sse4.2" "popcnt" "avx" "avx2" "fma" "bmi1" "bmi2" "avx512bitalg" "avx512dq"
        "avx512f" "avx512vl" "avx512vbmi" "lzcnt" "cmpxchg16b")
    .iter()
    .filter(|(_, there)| *there)
    .map(|(name, _)| *name)
    .collect::<Vec<_>>()
    .join(",")
}

/// The features of this processor that compiled code may use (those that Cranelift asks the processor for).
#[cfg(target_arch = "aarch64")]
fn processor() -> String {
    macro_rules! features {
        ($($name:tt)*) => {
            [$(($name, std::arch::is_aarch64_feature_detected!($name))),*]
        };
    }
    features!("lse" "paca" "fp16")
        .iter()
        .filter(|(_, there)| *there)
        .map(|(name, _)| *name)
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_key_depends_on_the_program_and_on_the_compiler() {
        let mut one = tempfile::NamedTempFile::new().unwrap();
        let key = |program, compiler: &tempfile::NamedTempFile| Key::of(&program, compiler.path()).unwrap();
        let first = key([1; 32], &one);
        assert_eq!(first, key([1; 32], &one));
        assert_ne!(first, key([2; 32], &one));
        one.write_all(b"another compiler").unwrap();
        assert_ne!(first, key([1; 32], &one));
        assert_eq!(first.as_str().len(), 64);
    }
}
