//! Schema 1. Not parsed yet: such a manifest is refused.

use bytes::Bytes;

use super::{ManifestError, Referenced};

#[derive(Clone, Debug)]
pub(super) struct SchemaOne {
    pub(super) payload: Bytes,
    pub(super) signatures: Vec<Bytes>,
}

impl SchemaOne {
    pub(super) fn parse(_: &Bytes) -> Result<Self, ManifestError> {
        Err(ManifestError::MediaType("schema 1".to_owned()))
    }

    pub(super) fn references(&self) -> Vec<Referenced<'_>> {
        Vec::new()
    }
}
