//! Content digests: `<algorithm>:<hex>` ([OCI image specification, descriptor, digests]).
//!
//! [OCI image specification, descriptor, digests]: https://github.com/opencontainers/image-spec/blob/main/descriptor.md#digests

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256, Sha512};
use thiserror::Error;

/// A registered digest algorithm that the registry computes and verifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256: the canonical algorithm, by which the store keys its blobs.
    Sha256,
    /// SHA-512: accepted wherever a digest is.
    Sha512,
}

impl Algorithm {
    /// The algorithm by which the store keys its blobs.
    pub const CANONICAL: Self = Self::Sha256;

    /// Every algorithm, the canonical one first.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// The name as it stands before the colon of a digest.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// The length of the raw digest in bytes.
    #[expect(clippy::len_without_is_empty, reason = "no hash is empty")]
    pub const fn len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Algorithm {
    type Err = DigestError;

    fn from_str(s: &str) -> Result<Self, DigestError> {
        match s {
            "sha256" => Ok(Self::Sha256),
            "sha512" => Ok(Self::Sha512),
            _ => Err(DigestError::Algorithm),
        }
    }
}

/// Why a string is not a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DigestError {
    /// There is no colon between algorithm and hex.
    #[error("a digest is written <algorithm>:<hex>")]
    Format,
    /// The algorithm is none that the registry knows.
    #[error("the digest algorithm is not supported (sha256 and sha512 are)")]
    Algorithm,
    /// The hex part has the wrong length or a character other than `0-9a-f`.
    #[error("the digest's hex part has the wrong length or characters (lower case is required)")]
    Hex,
}

/// The digest of some content: algorithm and raw hash, small enough to copy.
#[derive(Clone, Copy)]
pub struct Digest {
    algorithm: Algorithm,
    /// The first `algorithm.len()` bytes hold the hash, the rest is zero.
    bytes: [u8; 64],
}

impl Digest {
    /// The digest with these raw bytes, or `None` when their number is not the algorithm's.
    pub fn from_raw(algorithm: Algorithm, raw: &[u8]) -> Option<Self> {
        if raw.len() != algorithm.len() {
            return None;
        }
        let mut bytes = [0; 64];
        bytes[..raw.len()].copy_from_slice(raw);
        Some(Self { algorithm, bytes })
    }

    /// The digest with this hex part.
    ///
    /// # Errors
    /// [`DigestError::Hex`] unless `hex` is lower-case hex of the algorithm's length.
    pub fn from_hex(algorithm: Algorithm, hex: &str) -> Result<Self, DigestError> {
        fn nibble(c: u8) -> Result<u8, DigestError> {
            match c {
                b'0'..=b'9' => Ok(c - b'0'),
                b'a'..=b'f' => Ok(c - b'a' + 10),
                _ => Err(DigestError::Hex),
            }
        }
        let hex = hex.as_bytes();
        if hex.len() != 2 * algorithm.len() {
            return Err(DigestError::Hex);
        }
        let mut bytes = [0; 64];
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Self { algorithm, bytes })
    }

    /// Hashes `content` with `algorithm`.
    pub fn of(algorithm: Algorithm, content: &[u8]) -> Self {
        let mut bytes = [0; 64];
        match algorithm {
            Algorithm::Sha256 => bytes[..32].copy_from_slice(&Sha256::digest(content)),
            Algorithm::Sha512 => bytes.copy_from_slice(&Sha512::digest(content)),
        }
        Self { algorithm, bytes }
    }

    /// The canonical (sha256) digest of `content`.
    pub fn canonical(content: &[u8]) -> Self {
        Self::of(Algorithm::CANONICAL, content)
    }

    /// The algorithm.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether the algorithm is the one by which the store keys its blobs.
    pub fn is_canonical(&self) -> bool {
        self.algorithm == Algorithm::CANONICAL
    }

    /// The raw hash.
    pub fn raw(&self) -> &[u8] {
        &self.bytes[..self.algorithm.len()]
    }

    /// The hash as lower-case hex.
    pub fn hex(&self) -> String {
        let mut hex = String::with_capacity(2 * self.algorithm.len());
        self.push_hex(&mut hex);
        hex
    }

    /// Appends the hash as lower-case hex.
    pub fn push_hex(&self, out: &mut String) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = [0; 2 * 64];
        let raw = self.raw();
        for (pair, byte) in hex.chunks_exact_mut(2).zip(raw) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        // All of it at once: a text that grows by characters looks each time whether it has room.
        out.push_str(std::str::from_utf8(&hex[..2 * raw.len()]).unwrap_or_default());
    }

    /// Appends the digest as text.
    pub fn push_text(&self, out: &mut String) {
        out.push_str(self.algorithm.as_str());
        out.push(':');
        self.push_hex(out);
    }

    /// The length of the digest's text in bytes.
    pub fn text_len(&self) -> usize {
        self.algorithm.as_str().len() + 1 + 2 * self.algorithm.len()
    }
}

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.algorithm == other.algorithm && self.raw() == other.raw()
    }
}

impl Eq for Digest {}

impl std::hash::Hash for Digest {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.raw().hash(state);
    }
}

impl PartialOrd for Digest {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The order of the digests' text.
impl Ord for Digest {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.algorithm, self.raw()).cmp(&(other.algorithm, other.raw()))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(self.text_len());
        self.push_text(&mut text);
        f.write_str(&text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(s: &str) -> Result<Self, DigestError> {
        let (algorithm, hex) = s.split_once(':').ok_or(DigestError::Format)?;
        Self::from_hex(algorithm.parse()?, hex)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
