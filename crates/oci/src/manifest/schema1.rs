//! Schema 1 (Docker image manifest version 2, schema 1), unsigned and signed.

use bytes::Bytes;
use serde::Deserialize;

use super::{ManifestError, Referenced, Role, invalid, strict};
use crate::schema1::take_apart;
use crate::{Digest, RepositoryName, Tag, media_type};

/// A schema 1 manifest whose signatures, if it is signed, verify.
#[derive(Clone, Debug)]
pub(super) struct SchemaOne {
    pub(super) payload: Bytes,
    pub(super) signatures: Vec<Bytes>,
    pub(super) name: RepositoryName,
    pub(super) tag: Tag,
    layers: Vec<Digest>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    schema_version: u32,
    name: String,
    tag: String,
    fs_layers: Vec<FsLayer>,
    history: Vec<History>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FsLayer {
    blob_sum: Digest,
}

#[derive(Deserialize)]
struct History {
    #[serde(rename = "v1Compatibility")]
    _v1_compatibility: String,
}

impl SchemaOne {
    /// Parses what came as `media_type`. Only the signed form may have signatures, and it must.
    pub(super) fn parse(media_type: &str, bytes: &Bytes) -> Result<Self, ManifestError> {
        if media_type == media_type::SCHEMA1_MANIFEST {
            return Self::from_payload(bytes.clone(), Vec::new());
        }
        let (payload, signatures) = take_apart(bytes)?;
        strict::check(&payload)?;
        Self::from_payload(payload, signatures)
    }

    fn from_payload(payload: Bytes, signatures: Vec<Bytes>) -> Result<Self, ManifestError> {
        let parsed: Payload = serde_json::from_slice(&payload).map_err(invalid)?;
        let (layers, histories) = (parsed.fs_layers.len(), parsed.history.len());
        if layers != histories {
            return Err(invalid(format_args!(
                "it has {layers} fsLayers, but {histories} entries of history"
            )));
        }
        if parsed.schema_version != 1 {
            return Err(invalid("the schemaVersion that is signed is not 1"));
        }
        let name = parsed.name.parse().map_err(|error| {
            invalid(format_args!("its name {:?} is none: {error}", parsed.name))
        })?;
        let tag = parsed
            .tag
            .parse()
            .map_err(|error| invalid(format_args!("its tag {:?} is none: {error}", parsed.tag)))?;
        let layers = parsed.fs_layers.into_iter().map(|layer| layer.blob_sum);
        Ok(Self {
            payload,
            signatures,
            name,
            tag,
            layers: layers.collect(),
        })
    }

    pub(super) fn references(&self) -> Vec<Referenced<'_>> {
        let layer = |digest: &Digest| Referenced {
            role: Role::Layer,
            digest: *digest,
            size: None,
            media_type: None,
            platform: None,
            urls: &[],
        };
        self.layers.iter().map(layer).collect()
    }
}
