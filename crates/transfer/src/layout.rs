//! Image layouts (OCI image specification, "Image Layout"), and what is kept in theirs besides.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wharfinger_oci::manifest::ContentDescriptor;
use wharfinger_oci::{Digest, media_type};

mod archive;
mod folder;
mod target;

pub(crate) use archive::ArchiveSink;
pub(crate) use folder::FolderSink;
pub(crate) use target::{LayoutTarget, Sink};

/// The file that makes a folder a layout.
pub(crate) const MARKER: &str = "oci-layout";
/// The file that names the images.
pub(crate) const INDEX: &str = "index.json";
/// What is in [`MARKER`].
pub(crate) const MARKER_CONTENT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// What files in a tar archive are filled up to a multiple of, in bytes (POSIX, pax, "ustar
/// Interchange Format").
pub(crate) const BLOCK: u64 = 512;

/// `repository:tag` in what is exported; elsewhere often the tag alone (OCI image specification,
/// "Pre-Defined Annotation Keys").
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The image's full name, with its registry: what containerd and the Docker Engine read.
pub(crate) const IMAGE_NAME: &str = "io.containerd.image.name";
/// The repository of an image.
pub(crate) const REPOSITORY: &str = "io.github.wharfinger.repository";
/// The digest of a signed schema 1 manifest, which is not that of its bytes.
pub(crate) const REVISION: &str = "io.github.wharfinger.revision";
/// On the index: that it is of an export, and may be replaced by one.
pub(crate) const EXPORT: &str = "io.github.wharfinger.export";

/// `index.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
    #[serde(default)]
    pub(crate) manifests: Vec<ContentDescriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) annotations: Option<BTreeMap<String, String>>,
}

impl Index {
    /// That of an export.
    pub(crate) fn new(manifests: Vec<ContentDescriptor>) -> Self {
        let mark = (EXPORT.to_owned(), "1".to_owned());
        Self {
            schema_version: 2,
            media_type: Some(media_type::OCI_IMAGE_INDEX.to_owned()),
            manifests,
            annotations: Some(BTreeMap::from([mark])),
        }
    }

    pub(crate) fn is_of_an_export(&self) -> bool {
        let annotations = self.annotations.as_ref();
        annotations.is_some_and(|annotations| annotations.contains_key(EXPORT))
    }
}

/// Where a blob lies in a layout.
pub(crate) fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}
