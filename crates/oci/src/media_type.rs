//! Media types that the registry knows by name.

/// Any bytes: what a blob is served as.
pub const OCTET_STREAM: &str = "application/octet-stream";
/// OCI image manifest.
pub const OCI_IMAGE_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image index.
pub const OCI_IMAGE_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Docker image manifest, version 2, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker manifest list.
pub const DOCKER_MANIFEST_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker image manifest, version 2, schema 1, without signatures.
pub const SCHEMA1_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v1+json";
/// Docker image manifest, version 2, schema 1, with its signatures.
pub const SCHEMA1_SIGNED_MANIFEST: &str =
    "application/vnd.docker.distribution.manifest.v1+prettyjws";
/// What the media types of both schema 1 forms begin with.
pub(crate) const SCHEMA1_PREFIX: &str = "application/vnd.docker.distribution.manifest.v1+";
