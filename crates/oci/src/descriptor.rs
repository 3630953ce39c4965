//! Descriptors: the handle by which content is read and written.

use std::sync::Arc;

use crate::Digest;

/// What is known of some content: its media type, digest and size.
///
/// This is the registry's own handle; a descriptor as it stands in a manifest, with
/// annotations, platform and the rest, is a [`ContentDescriptor`](crate::manifest::ContentDescriptor).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The media type.
    pub media_type: Arc<str>,
    /// The digest, always by the algorithm in which the content was asked for.
    pub digest: Digest,
    /// The size in bytes.
    pub size: u64,
}
