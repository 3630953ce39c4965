//! Signing and assembling schema 1 manifests. Not built yet: every call is refused.

use bytes::Bytes;

use crate::manifest::ManifestError;

/// A signing key.
#[derive(Debug)]
pub struct SigningKey;

impl SigningKey {
    /// A new key.
    pub fn generate() -> Self {
        Self
    }

    /// A key in PEM.
    ///
    /// # Errors
    /// Always.
    pub fn from_pem(_: &str) -> Result<Self, ManifestError> {
        Err(refused())
    }
}

/// Signs a payload.
///
/// # Errors
/// Always.
pub fn sign(_: &Bytes, _: &SigningKey) -> Result<Bytes, ManifestError> {
    Err(refused())
}

/// Puts a payload and its signatures together.
///
/// # Errors
/// Always.
pub fn assemble(_: &Bytes, _: &[Bytes]) -> Result<Bytes, ManifestError> {
    Err(refused())
}

fn refused() -> ManifestError {
    ManifestError::MediaType("schema 1".to_owned())
}
