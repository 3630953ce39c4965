//! Paths below a driver's root.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A string is not a storage path.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "invalid storage path {0:?}: paths are '/' or '/'-led parts of letters, digits, '.', '_' and '-'"
)]
pub struct InvalidPath(pub String);

/// An absolute path below a driver's root: `/`, or parts of `[A-Za-z0-9._-]+`, each led by `/`.
/// The parts `.` and `..` do not exist.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoragePath(String);

pub(crate) fn is_part(part: &str) -> bool {
    are_of_a_part(part.as_bytes())
}

fn are_of_a_part(bytes: &[u8]) -> bool {
    let allowed = |c: &u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
    !matches!(bytes, b"" | b"." | b"..") && bytes.iter().all(allowed)
}

impl StoragePath {
    /// The driver's root.
    pub fn root() -> Self {
        Self("/".to_owned())
    }

    /// The path as text, led by `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the driver's root.
    pub fn is_root(&self) -> bool {
        self.0 == "/"
    }

    /// The parts between the slashes; none for the root.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|part| !part.is_empty())
    }

    /// The last part; the empty string for the root.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// The path without its last part, or `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        match self.0.rsplit_once('/')? {
            ("", "") => None,
            ("", _) => Some(Self::root()),
            (parent, _) => Some(Self(parent.to_owned())),
        }
    }

    /// This path with `part` appended.
    ///
    /// # Errors
    /// [`InvalidPath`] when `part` is not a single valid part.
    pub fn join(&self, part: &str) -> Result<Self, InvalidPath> {
        let base = if self.is_root() { "" } else { &self.0 };
        // Walks make one for each folder: a formatter would take longer than all the rest of this.
        let joined = [base, "/", part].concat();
        if is_part(part) {
            Ok(Self(joined))
        } else {
            Err(InvalidPath(joined))
        }
    }

    /// Whether `self` is `ancestor` or lies below it.
    pub fn is_within(&self, ancestor: &Self) -> bool {
        ancestor.is_root()
            || self
                .0
                .strip_prefix(&ancestor.0)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl FromStr for StoragePath {
    type Err = InvalidPath;

    fn from_str(s: &str) -> Result<Self, InvalidPath> {
        s.to_owned().try_into()
    }
}

impl TryFrom<String> for StoragePath {
    type Error = InvalidPath;

    fn try_from(text: String) -> Result<Self, InvalidPath> {
        let is_valid = match text.as_bytes() {
            b"/" => true,
            [b'/', parts @ ..] => parts.split(|c| *c == b'/').all(are_of_a_part),
            _ => false,
        };
        match is_valid {
            true => Ok(Self(text)),
            false => Err(InvalidPath(text)),
        }
    }
}

impl fmt::Display for StoragePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StoragePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
