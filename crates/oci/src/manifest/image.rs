//! Images and indexes: OCI's (OCI image specification 1.1) and Docker's schema 2, which have the
//! same form.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::{ContentDescriptor, ManifestError, Referenced, Role, invalid};
use crate::Digest;

/// A descriptor as it is read: with what only checking needs.
#[derive(Clone, Debug, Deserialize)]
struct Described {
    #[serde(flatten)]
    descriptor: ContentDescriptor,
    #[serde(default)]
    data: Option<String>,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Clone, Debug, Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
}

impl Described {
    /// Checks embedded content against its descriptor (OCI image specification, descriptor,
    /// "Embedded Content").
    fn check(&self) -> Result<(), ManifestError> {
        let Some(data) = &self.data else {
            return Ok(());
        };
        let digest = self.descriptor.digest;
        let content = STANDARD.decode(data).map_err(|error| {
            invalid(format_args!("the data of {digest} is not base64: {error}"))
        })?;
        if content.len() as u64 != self.descriptor.size
            || Digest::of(digest.algorithm(), &content) != digest
        {
            return Err(invalid(format_args!(
                "the data of {digest} has another digest or size"
            )));
        }
        Ok(())
    }

    fn referenced(&self, role: Role) -> Referenced<'_> {
        let platform = self.platform.as_ref().map(|p| (&*p.os, &*p.architecture));
        Referenced {
            role,
            digest: self.descriptor.digest,
            size: Some(self.descriptor.size),
            media_type: Some(&self.descriptor.media_type),
            platform,
            urls: &self.descriptor.urls,
        }
    }
}

/// Whether a layer need not be in the registry.
fn is_foreign(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.oci.image.layer.nondistributable.")
        || media_type.starts_with("application/vnd.docker.image.rootfs.foreign.")
}

/// An image manifest, or any artifact's.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Image {
    #[serde(default)]
    artifact_type: Option<String>,
    config: Described,
    #[serde(default)]
    layers: Option<Vec<Described>>,
    #[serde(default)]
    subject: Option<Described>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

impl Image {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let image: Self = serde_json::from_slice(bytes).map_err(invalid)?;
        image.config.check()?;
        image.layers().iter().try_for_each(Described::check)?;
        image.subject.iter().try_for_each(Described::check)?;
        Ok(image)
    }

    fn layers(&self) -> &[Described] {
        self.layers.as_deref().unwrap_or_default()
    }

    pub(super) fn references(&self) -> Vec<Referenced<'_>> {
        let role = |layer: &Described| {
            if is_foreign(&layer.descriptor.media_type) {
                Role::ForeignLayer
            } else {
                Role::Layer
            }
        };
        let layers = self
            .layers()
            .iter()
            .map(|layer| layer.referenced(role(layer)));
        std::iter::once(self.config.referenced(Role::Config))
            .chain(layers)
            .collect()
    }

    pub(super) fn subject(&self) -> Option<&ContentDescriptor> {
        self.subject.as_ref().map(|subject| &subject.descriptor)
    }

    pub(super) fn artifact_type(&self) -> &str {
        let told = self
            .artifact_type
            .as_deref()
            .filter(|told| !told.is_empty());
        told.unwrap_or(&self.config.descriptor.media_type)
    }

    pub(super) fn annotations(&self) -> Option<&BTreeMap<String, String>> {
        self.annotations.as_ref()
    }
}

/// An index, or a manifest list.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Index {
    #[serde(default)]
    artifact_type: Option<String>,
    #[serde(default)]
    manifests: Option<Vec<Described>>,
    #[serde(default)]
    subject: Option<Described>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

impl Index {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let index: Self = serde_json::from_slice(bytes).map_err(invalid)?;
        index.manifests().iter().try_for_each(Described::check)?;
        index.subject.iter().try_for_each(Described::check)?;
        Ok(index)
    }

    fn manifests(&self) -> &[Described] {
        self.manifests.as_deref().unwrap_or_default()
    }

    pub(super) fn references(&self) -> Vec<Referenced<'_>> {
        self.manifests()
            .iter()
            .map(|manifest| manifest.referenced(Role::Manifest))
            .collect()
    }

    pub(super) fn subject(&self) -> Option<&ContentDescriptor> {
        self.subject.as_ref().map(|subject| &subject.descriptor)
    }

    pub(super) fn artifact_type(&self) -> Option<&str> {
        self.artifact_type
            .as_deref()
            .filter(|told| !told.is_empty())
    }

    pub(super) fn annotations(&self) -> Option<&BTreeMap<String, String>> {
        self.annotations.as_ref()
    }
}
