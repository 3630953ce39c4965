//! Repository names.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

/// Why a string is not a repository name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// The name is empty.
    #[error("a repository name must not be empty")]
    Empty,
    /// The name is longer than [`RepositoryName::MAX_LEN`].
    #[error("a repository name has at most 255 bytes")]
    Length,
    /// A path component does not match the grammar.
    #[error(
        "each part of a repository name has lower-case letters and digits, \
         separated by '.', '_', '__' or dashes"
    )]
    Component,
}

/// The name of a repository: path components of `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*` joined by
/// `/`, 255 bytes in all (OCI distribution specification, "Pulling manifests").
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryName(Arc<str>);

impl RepositoryName {
    /// The longest name accepted, in bytes, as in CNCF Distribution.
    pub const MAX_LEN: usize = 255;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands behind `above` and a slash, where this name begins so.
    pub fn below(&self, above: &Self) -> Option<&str> {
        self.0.strip_prefix(&*above.0)?.strip_prefix('/')
    }
}

fn is_component(component: &str) -> bool {
    let bytes = component.as_bytes();
    let alphanumeric = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !alphanumeric(first) || !alphanumeric(last) {
        return false;
    }
    bytes.split(alphanumeric).all(|separator| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|c| *c == b'-')
    })
}

impl FromStr for RepositoryName {
    type Err = NameError;

    fn from_str(s: &str) -> Result<Self, NameError> {
        if s.is_empty() {
            return Err(NameError::Empty);
        }
        if s.len() > Self::MAX_LEN {
            return Err(NameError::Length);
        }
        if !s.split('/').all(is_component) {
            return Err(NameError::Component);
        }
        Ok(Self(s.into()))
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
