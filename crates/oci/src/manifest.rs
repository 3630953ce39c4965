//! Manifests of every generation: parsed strictly, kept byte for byte.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Digest;

/// The largest manifest that is accepted, in bytes.
pub const MAX_SIZE: usize = 4 * 1024 * 1024;

/// A descriptor as it stands in a manifest or an index (OCI image specification, descriptor).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContentDescriptor {
    /// The content's media type.
    pub media_type: String,
    /// The content's digest.
    pub digest: Digest,
    /// The content's size in bytes.
    pub size: u64,
    /// Where else the content can be had (non-distributable and foreign layers).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Arbitrary facts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// The artifact's type, where the content is an artifact's manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

/// What a manifest refers to a descriptor as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// An image's configuration.
    Config,
    /// A layer, or any blob of an artifact.
    Layer,
    /// A layer that need not be in the registry (non-distributable, foreign, or with `urls`).
    ForeignLayer,
    /// A manifest in an index or list.
    Manifest,
}

/// One thing that a manifest refers to.
#[derive(Clone, Debug)]
pub struct Referenced<'a> {
    /// In which role.
    pub role: Role,
    /// The digest.
    pub digest: Digest,
    /// The size in bytes, which schema 1 does not tell.
    pub size: Option<u64>,
    /// The media type, which schema 1 does not tell.
    pub media_type: Option<&'a str>,
    /// The platform as `os/architecture`, where an index tells it.
    pub platform: Option<(&'a str, &'a str)>,
    /// The urls, for a foreign layer.
    pub urls: &'a [String],
}

/// Why bytes are not an acceptable manifest.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// Larger than [`MAX_SIZE`].
    #[error("the manifest has {0} bytes; at most 4 MiB are accepted")]
    TooLarge(usize),
    /// The media type is not one of a manifest.
    #[error("{0:?} is not the media type of a manifest")]
    MediaType(String),
    /// It is not what its media type says.
    #[error("the manifest is not valid: {0}")]
    Invalid(String),
    /// A signature does not verify (schema 1).
    #[error("the manifest's signatures do not verify: {0}")]
    Unverified(String),
}

/// A manifest: what was parsed and the exact bytes.
#[derive(Clone, Debug)]
pub struct Manifest;

impl Manifest {
    /// Parses by the media type of the request; `None` or a generic JSON type: by the `mediaType` field, or by shape.
    pub fn parse(_media_type: Option<&str>, _bytes: Bytes) -> Result<Self, ManifestError> { todo!() }
    /// The media type, without parameters.
    pub fn media_type(&self) -> &str { todo!() }
    /// The exact bytes as they were pushed.
    pub fn bytes(&self) -> &Bytes { todo!() }
    /// The bytes that the digest is taken over: the payload of a signed schema 1 manifest, else all.
    pub fn payload(&self) -> &Bytes { todo!() }
    /// Config, layers, manifests in order (not the subject, which may be missing).
    pub fn references(&self) -> Vec<Referenced<'_>> { todo!() }
    /// The manifest this one refers to.
    pub fn subject(&self) -> Option<&ContentDescriptor> { todo!() }
    /// The artifact type for referrers: `artifactType`, else the config's media type (images only).
    pub fn artifact_type(&self) -> Option<&str> { todo!() }
    /// The manifest's own annotations.
    pub fn annotations(&self) -> Option<&BTreeMap<String, String>> { todo!() }
}
