//! The names of uploads.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::{Error, Result};

/// The name of an upload: a random UUID.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UploadId(Uuid);

impl UploadId {
    /// A new name that nobody has.
    pub fn generate() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for UploadId {
    type Err = Error;

    /// # Errors
    /// [`Error::UploadUnknown`]: nothing else has another form of name.
    fn from_str(s: &str) -> Result<Self> {
        let unknown = || Error::UploadUnknown(s.to_owned());
        let id = Self(Uuid::try_parse(s).map_err(|_| unknown())?);
        if id.to_string() == s {
            Ok(id)
        } else {
            Err(unknown())
        }
    }
}
