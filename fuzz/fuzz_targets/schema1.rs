//! Signed schema 1 manifests: what verifies can be taken apart and put together again, and any
//! bytes at all can be tried.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use wharfinger_oci::manifest::Manifest;
use wharfinger_oci::{media_type, schema1};

fuzz_target!(|data: &[u8]| {
    let bytes = Bytes::copy_from_slice(data);
    if let Ok(manifest) = Manifest::parse(Some(media_type::SCHEMA1_SIGNED_MANIFEST), bytes.clone())
    {
        let assembled = schema1::assemble(manifest.payload(), manifest.signatures())
            .expect("what was taken apart can be put together");
        let again = Manifest::parse(Some(media_type::SCHEMA1_SIGNED_MANIFEST), assembled)
            .expect("what was put together verifies");
        assert_eq!(again.payload(), manifest.payload());
        assert_eq!(again.signatures(), manifest.signatures());
    }
    // What lies in a store is put together without having been checked by this process.
    let (payload, signature) = data.split_at(data.len() / 2);
    let (payload, signature) = (
        Bytes::copy_from_slice(payload),
        Bytes::copy_from_slice(signature),
    );
    let _ = schema1::assemble(&payload, std::slice::from_ref(&signature));
    let _ = schema1::assemble(&payload, &[]);
    let _ = Manifest::parse(Some(media_type::SCHEMA1_MANIFEST), bytes);
});
