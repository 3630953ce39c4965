//! What is pushed: small blobs and large ones, images of each kind.

use std::sync::OnceLock;
use std::time::SystemTime;

use bytes::Bytes;
use wharfinger_oci::manifest::Manifest;
use wharfinger_oci::schema1::{SigningKey, assemble, sign};
use wharfinger_oci::{Digest, media_type};

use crate::client::Image;
use crate::support::{content, parse};

/// A blob that is kept in memory until it is stored whole.
pub fn small() -> Bytes {
    content(1, 3000)
}

/// A blob that is written to a file and moved.
pub fn large() -> Bytes {
    content(2, 100_000)
}

/// A blob that is written in more than one go.
pub fn huge() -> Bytes {
    content(3, 1_150_000)
}

fn descriptor(media_type: &str, bytes: &[u8]) -> String {
    let digest = Digest::canonical(bytes);
    let size = bytes.len();
    format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}"#)
}

fn image_with(seed: u8, length: usize, extra: &str) -> Image {
    let config = Bytes::from(format!("{{\"seed\":{seed}}}"));
    let layer = content(seed, length);
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]{extra}}}"#,
        media_type::OCI_IMAGE_MANIFEST,
        descriptor("application/vnd.oci.image.config.v1+json", &config),
        descriptor("application/vnd.oci.image.layer.v1.tar", &layer),
    );
    let manifest = parse(media_type::OCI_IMAGE_MANIFEST, text);
    Image {
        config,
        layer,
        manifest,
    }
}

pub fn image(seed: u8) -> Image {
    image_with(seed, 700, "")
}

/// An image whose layer is written to a file and moved.
pub fn large_image(seed: u8) -> Image {
    image_with(seed, 80_000, "")
}

/// An image that has another manifest as its subject.
pub fn referrer(seed: u8, of: &Manifest) -> Image {
    let subject = descriptor(of.media_type(), of.payload());
    let extra = format!(r#","artifactType":"a/b","subject":{subject}"#);
    image_with(seed, 100, &extra)
}

/// An index of images.
pub fn index(of: &[&Image]) -> Manifest {
    let entries = of
        .iter()
        .map(|image| descriptor(image.manifest.media_type(), image.manifest.payload()));
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}"#,
        media_type::OCI_IMAGE_INDEX,
        entries.collect::<Vec<_>>().join(",")
    );
    parse(media_type::OCI_IMAGE_INDEX, text)
}

/// A schema 1 manifest of the small blob, with one or two signatures, for the tag `old` of the
/// repository `a`.
pub fn signed(signatures: usize) -> Manifest {
    static KEYS: OnceLock<[SigningKey; 2]> = OnceLock::new();
    let keys = KEYS.get_or_init(|| [SigningKey::generate(), SigningKey::generate()]);
    let layer = Digest::canonical(&small());
    let payload = format!(
        r#"{{
   "schemaVersion": 1,
   "name": "a",
   "tag": "old",
   "architecture": "amd64",
   "fsLayers": [{{"blobSum": "{layer}"}}],
   "history": [{{"v1Compatibility": "{{\"id\":\"a\"}}"}}]
}}"#
    );
    let keys = &keys[..signatures];
    let sign = |key| sign(payload.as_bytes(), key, SystemTime::UNIX_EPOCH).unwrap();
    let signatures: Vec<_> = keys.iter().map(sign).collect();
    let bytes = assemble(payload.as_bytes(), &signatures).unwrap();
    Manifest::parse(Some(media_type::SCHEMA1_SIGNED_MANIFEST), bytes).unwrap()
}
