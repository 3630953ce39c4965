//! Manifests of all media types: accepted bytes are kept exactly, and mean the same every time
//! they are read.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use wharfinger_notify::Reference;
use wharfinger_oci::manifest::Manifest;
use wharfinger_oci::media_type;

const TYPES: [Option<&str>; 8] = [
    None,
    Some("application/json"),
    Some(media_type::OCI_IMAGE_MANIFEST),
    Some(media_type::OCI_IMAGE_INDEX),
    Some(media_type::DOCKER_MANIFEST),
    Some(media_type::DOCKER_MANIFEST_LIST),
    Some(media_type::SCHEMA1_MANIFEST),
    Some(media_type::SCHEMA1_SIGNED_MANIFEST),
];

fuzz_target!(|data: &[u8]| {
    let bytes = Bytes::copy_from_slice(data);
    let parsed = TYPES.map(|media_type| Manifest::parse(media_type, bytes.clone()).ok());
    for (asked, manifest) in TYPES.iter().zip(&parsed) {
        let again = Manifest::parse(*asked, bytes.clone()).ok();
        assert_eq!(again.as_ref().map(told), manifest.as_ref().map(told));
        let Some(manifest) = manifest else { continue };
        assert_eq!(manifest.bytes(), &bytes);
        let own = Manifest::parse(Some(manifest.media_type()), bytes.clone());
        assert_eq!(own.ok().as_ref().map(told), Some(told(manifest)));
        match manifest.media_type() {
            media_type::SCHEMA1_MANIFEST | media_type::SCHEMA1_SIGNED_MANIFEST => {}
            _ => {
                assert_eq!(manifest.payload(), &bytes);
                // Events tell of the same references.
                let told = Reference::all_of(&bytes)
                    .into_iter()
                    .map(|told| told.digest);
                let known = manifest
                    .references()
                    .into_iter()
                    .map(|known| known.digest.to_string());
                assert!(told.eq(known));
            }
        }
    }
    // Docker's types and OCI's have one form, but no body can be an image and an index.
    let image = parsed[2].is_some() || parsed[4].is_some();
    let index = parsed[3].is_some() || parsed[5].is_some();
    assert!(!(image && index));
});

/// Everything that the registry takes from a manifest.
fn told(manifest: &Manifest) -> String {
    format!(
        "{} {:?} {:?} {:?} {:?} {:?} {:?}",
        manifest.media_type(),
        manifest.payload(),
        manifest.references(),
        manifest.subject(),
        manifest.artifact_type(),
        manifest.annotations(),
        manifest.signatures(),
    )
}
