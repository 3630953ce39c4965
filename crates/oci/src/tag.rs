//! Tags, and references: a tag or a digest.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::{Digest, DigestError};

/// A string is not a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a tag has 1 to 128 letters, digits, '_', '.' or '-', and does not start with '.' or '-'")]
pub struct TagError;

/// A tag: `[A-Za-z0-9_][A-Za-z0-9._-]{0,127}` (OCI distribution specification, "Pulling
/// manifests").
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Box<str>);

impl Tag {
    /// The longest tag accepted, in bytes.
    pub const MAX_LEN: usize = 128;

    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = TagError;

    fn from_str(s: &str) -> Result<Self, TagError> {
        let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
        match s.as_bytes() {
            [first, rest @ ..]
                if word(*first)
                    && s.len() <= Self::MAX_LEN
                    && rest.iter().all(|c| word(*c) || matches!(c, b'.' | b'-')) =>
            {
                Ok(Self(s.into()))
            }
            _ => Err(TagError),
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a manifest is asked for by: a tag or a digest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reference {
    /// By tag.
    Tag(Tag),
    /// By digest.
    Digest(Digest),
}

/// Why a string is neither a tag nor a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReferenceError {
    /// It has a colon, so it is meant as a digest, but is none.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// It is not a tag.
    #[error(transparent)]
    Tag(#[from] TagError),
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(s: &str) -> Result<Self, ReferenceError> {
        if s.contains(':') {
            Ok(Self::Digest(s.parse()?))
        } else {
            Ok(Self::Tag(s.parse()?))
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}
