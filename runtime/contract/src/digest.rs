//! The SHA-256 of some bytes, as image manifests and containerd write it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A SHA-256 digest; as text `sha256:` and 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest(pub [u8; 32]);

/// A text that is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the digest is {0:?}, expected sha256: and 64 hexadecimal digits in lower case")]
pub struct NoDigest(String);

impl Digest {
    /// The hexadecimal digits alone, which is also what containerd calls the blob's file.
    #[must_use]
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl FromStr for Digest {
    type Err = NoDigest;

    fn from_str(text: &str) -> Result<Self, NoDigest> {
        let digits = text.strip_prefix("sha256:").filter(|digits| digits.len() == 64);
        let digits = digits.ok_or_else(|| NoDigest(text.into()))?.as_bytes();
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let (high, low) = (digit(pair[0]), digit(pair[1]));
            *byte = high.zip(low).map(|(high, low)| high << 4 | low).ok_or_else(|| NoDigest(text.into()))?;
        }
        Ok(Self(bytes))
    }
}

/// The value of a hexadecimal digit; the image specification allows lower case only.
fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = NoDigest;

    fn try_from(text: String) -> Result<Self, NoDigest> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_as_it_is_written() {
        let text = format!("sha256:{}", "09af".repeat(16));
        let digest: Digest = text.parse().unwrap();
        assert_eq!(digest.0[..2], [0x09, 0xaf]);
        assert_eq!(digest.to_string(), text);
    }

    #[test]
    fn what_is_no_digest_is_refused() {
        let upper = format!("sha256:{}", "AF".repeat(32));
        let path = format!("sha256:../{}", "0".repeat(61));
        let other = format!("sha512:{}", "0".repeat(64));
        let wide = format!("sha256:{}", "é".repeat(32));
        for text in ["", "sha256:", "sha256:00", &upper, &path, &other, &wide] {
            text.parse::<Digest>().unwrap_err();
        }
    }
}
