//! Manifests of every generation: parsed strictly, kept byte for byte.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::schema1::SignatureError;
use crate::{Digest, RepositoryName, Tag, media_type};

mod image;
mod mentions;
mod schema1;
mod strict;

pub use mentions::{Mentions, mentions};

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
    /// Its signatures do not verify (schema 1).
    #[error("the manifest is not verified: {0}")]
    Unverified(#[from] SignatureError),
}

/// A manifest: what was parsed, and the exact bytes.
#[derive(Clone, Debug)]
pub struct Manifest {
    media_type: &'static str,
    bytes: Bytes,
    payload: Bytes,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    Image(Box<image::Image>),
    Index(Box<image::Index>),
    SchemaOne(Box<schema1::SchemaOne>),
}

/// The fields that tell one kind of manifest from another.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape<'a> {
    schema_version: u32,
    #[serde(borrow, default)]
    media_type: Option<Cow<'a, str>>,
    config: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
    manifests: Option<IgnoredAny>,
    fs_layers: Option<IgnoredAny>,
    signatures: Option<IgnoredAny>,
}

impl Shape<'_> {
    /// The media type that the content itself tells, by its field or else by its shape.
    fn media_type(&self) -> Result<&'static str, ManifestError> {
        match (self.schema_version, self.media_type.as_deref()) {
            (1, _) if self.signatures.is_some() => Ok(media_type::SCHEMA1_SIGNED_MANIFEST),
            (1, _) => Ok(media_type::SCHEMA1_MANIFEST),
            (_, Some(told)) if !told.is_empty() => known(told),
            _ if self.manifests.is_some() => Ok(media_type::OCI_IMAGE_INDEX),
            _ if self.config.is_some() || self.layers.is_some() => {
                Ok(media_type::OCI_IMAGE_MANIFEST)
            }
            _ => Err(ManifestError::Invalid(
                "its kind cannot be told from its fields".to_owned(),
            )),
        }
    }

    /// # Errors
    /// When the content is of another kind than `media_type`: a client that believed the media
    /// type and one that believed the content would see two different images (CVE-2021-41190).
    fn agrees_with(&self, media_type: &str) -> Result<(), ManifestError> {
        let invalid = |what: &str| Err(ManifestError::Invalid(what.to_owned()));
        let is_schema1 = media_type.starts_with(media_type::SCHEMA1_PREFIX);
        if self.schema_version != if is_schema1 { 1 } else { 2 } {
            let version = self.schema_version;
            return Err(ManifestError::Invalid(format!(
                "schemaVersion {version} is not that of {media_type}"
            )));
        }
        if let Some(told) = self.media_type.as_deref()
            && !is_schema1
            && !told.is_empty()
            && told != media_type
        {
            return Err(ManifestError::Invalid(format!(
                "its mediaType is {told:?}, but it came as {media_type}"
            )));
        }
        let images = [media_type::OCI_IMAGE_MANIFEST, media_type::DOCKER_MANIFEST];
        if images.contains(&media_type) && self.manifests.is_some() {
            return invalid("an image manifest must not have \"manifests\"");
        }
        let indexes = [
            media_type::OCI_IMAGE_INDEX,
            media_type::DOCKER_MANIFEST_LIST,
        ];
        if indexes.contains(&media_type) && (self.config.is_some() || self.layers.is_some()) {
            return invalid("an index must not have \"config\" or \"layers\"");
        }
        if !is_schema1 && self.fs_layers.is_some() {
            return invalid("\"fsLayers\" belongs to schema 1");
        }
        Ok(())
    }
}

/// The media type without its parameters, in lower case.
fn essence(media_type: &str) -> String {
    media_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

/// The media types of manifests of every generation.
const KNOWN: [&str; 6] = [
    media_type::OCI_IMAGE_MANIFEST,
    media_type::OCI_IMAGE_INDEX,
    media_type::DOCKER_MANIFEST,
    media_type::DOCKER_MANIFEST_LIST,
    media_type::SCHEMA1_MANIFEST,
    media_type::SCHEMA1_SIGNED_MANIFEST,
];

/// Whether content of this media type, which has no parameters, is a manifest.
pub fn is_manifest(media_type: &str) -> bool {
    KNOWN.contains(&media_type)
}

fn known(media_type: &str) -> Result<&'static str, ManifestError> {
    let found = KNOWN.iter().find(|known| **known == media_type);
    found
        .copied()
        .ok_or_else(|| ManifestError::MediaType(media_type.to_owned()))
}

fn invalid(error: impl std::fmt::Display) -> ManifestError {
    ManifestError::Invalid(error.to_string())
}

impl Manifest {
    /// Parses a manifest strictly as what `media_type` says; parameters of the media type are
    /// dropped. Without one, or with `application/json`, the content's own `mediaType` decides, or
    /// its shape.
    ///
    /// # Errors
    /// [`ManifestError`] says what is wrong.
    pub fn parse(media_type: Option<&str>, bytes: Bytes) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_SIZE {
            return Err(ManifestError::TooLarge(bytes.len()));
        }
        strict::check(&bytes)?;
        let shape: Shape<'_> = serde_json::from_slice(&bytes).map_err(invalid)?;
        let given = media_type
            .map(essence)
            .filter(|given| given != "application/json");
        let media_type = match given {
            Some(given) => known(&given)?,
            None => shape.media_type()?,
        };
        // Distribution reads the one as the other, so there are clients that send it so.
        let media_type = match media_type {
            media_type::SCHEMA1_MANIFEST if shape.signatures.is_some() => {
                media_type::SCHEMA1_SIGNED_MANIFEST
            }
            media_type => media_type,
        };
        shape.agrees_with(media_type)?;
        let (payload, body) = match media_type {
            media_type::OCI_IMAGE_MANIFEST | media_type::DOCKER_MANIFEST => (
                bytes.clone(),
                Body::Image(Box::new(image::Image::parse(&bytes)?)),
            ),
            media_type::OCI_IMAGE_INDEX | media_type::DOCKER_MANIFEST_LIST => (
                bytes.clone(),
                Body::Index(Box::new(image::Index::parse(&bytes)?)),
            ),
            _ => {
                let parsed = schema1::SchemaOne::parse(media_type, &bytes)?;
                (parsed.payload.clone(), Body::SchemaOne(Box::new(parsed)))
            }
        };
        Ok(Self {
            media_type,
            bytes,
            payload,
            body,
        })
    }

    /// The media type, without parameters.
    pub fn media_type(&self) -> &'static str {
        self.media_type
    }

    /// The exact bytes as they were pushed.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The bytes that the digest is taken over: the payload of a signed schema 1 manifest, else
    /// all of them.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The repository and the tag that a schema 1 manifest says it was made for.
    pub fn name_and_tag(&self) -> Option<(&RepositoryName, &Tag)> {
        match &self.body {
            Body::SchemaOne(manifest) => Some((&manifest.name, &manifest.tag)),
            Body::Image(_) | Body::Index(_) => None,
        }
    }

    /// Config, layers and manifests, in order. Not the subject, which may be missing.
    pub fn references(&self) -> Vec<Referenced<'_>> {
        match &self.body {
            Body::Image(image) => image.references(),
            Body::Index(index) => index.references(),
            Body::SchemaOne(manifest) => manifest.references(),
        }
    }

    /// The manifest that this one refers to as its subject.
    pub fn subject(&self) -> Option<&ContentDescriptor> {
        match &self.body {
            Body::Image(image) => image.subject(),
            Body::Index(index) => index.subject(),
            Body::SchemaOne(_) => None,
        }
    }

    /// The artifact type as referrers tell it: `artifactType`, else an image's config's media
    /// type.
    pub fn artifact_type(&self) -> Option<&str> {
        match &self.body {
            Body::Image(image) => Some(image.artifact_type()),
            Body::Index(index) => index.artifact_type(),
            Body::SchemaOne(_) => None,
        }
    }

    /// The manifest's own annotations.
    pub fn annotations(&self) -> Option<&BTreeMap<String, String>> {
        match &self.body {
            Body::Image(image) => image.annotations(),
            Body::Index(index) => index.annotations(),
            Body::SchemaOne(_) => None,
        }
    }

    /// The signatures of a signed schema 1 manifest, each in the form in which it is stored; none
    /// for others.
    pub fn signatures(&self) -> &[Bytes] {
        match &self.body {
            Body::SchemaOne(manifest) => &manifest.signatures,
            Body::Image(_) | Body::Index(_) => &[],
        }
    }
}
