//! Signed schema 1 manifests that libtrust made, held against our own parsing and assembling.

mod support;

use bytes::Bytes;
use support::schema1::{expected, fixture, parse};
use wharfinger_oci::manifest::Manifest;
use wharfinger_oci::schema1::{SigningKey, assemble};
use wharfinger_oci::{Digest, media_type};

#[test]
fn what_libtrust_signed_verifies_and_is_taken_apart_as_libtrust_does() {
    let all = expected();
    assert_eq!(all.len(), 13);
    for expected in all {
        let file = &expected.file;
        let bytes = fixture(file);
        let manifest = parse(&bytes).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(manifest.media_type(), media_type::SCHEMA1_SIGNED_MANIFEST);
        assert_eq!(*manifest.bytes(), bytes, "{file}");
        assert_eq!(manifest.payload(), expected.payload.as_bytes(), "{file}");
        let stored: Vec<&str> = manifest
            .signatures()
            .iter()
            .map(|signature| std::str::from_utf8(signature).unwrap())
            .collect();
        assert_eq!(stored, expected.signatures, "{file}");
        let (name, tag) = manifest.name_and_tag().unwrap();
        assert_eq!((name.as_str(), tag.as_str()), ("library/fixture", "latest"));
        let layers: Vec<Digest> = manifest.references().iter().map(|r| r.digest).collect();
        assert_eq!(layers[1], Digest::canonical(b""), "{file}");
        assert_eq!(layers.len(), 2);
    }
}

#[test]
fn payload_and_stored_signatures_make_libtrusts_bytes_in_any_order() {
    for expected in expected() {
        let signed = fixture(&expected.file);
        let mut stored: Vec<Bytes> = expected.signatures.into_iter().map(Bytes::from).collect();
        for _ in 0..stored.len() {
            stored.rotate_left(1);
            let assembled = assemble(expected.payload.as_bytes(), &stored).unwrap();
            assert_eq!(assembled, signed, "{}", expected.file);
        }
    }
}

#[test]
fn the_content_alone_tells_that_it_is_signed() {
    let bytes = fixture("many.json");
    for told in [
        None,
        Some("application/json"),
        Some("application/json; charset=utf-8"),
        Some(media_type::SCHEMA1_MANIFEST),
    ] {
        let manifest = Manifest::parse(told, bytes.clone()).unwrap();
        assert_eq!(manifest.media_type(), media_type::SCHEMA1_SIGNED_MANIFEST);
        assert_eq!(manifest.signatures().len(), 4, "{told:?}");
    }
}

#[test]
fn keys_are_read_in_every_form_and_have_libtrusts_ids() {
    let ids = |file: &str| {
        let expected = expected().into_iter().find(|e| e.file == file).unwrap();
        expected.key_ids[0].clone()
    };
    for (pem, signed) in [
        ("es256.sec1.pem", "es256.json"),
        ("es256.pkcs8.pem", "es256.json"),
        ("libtrust.pem", "es256.json"),
        ("es384.sec1.pem", "es384.json"),
        ("es384.pkcs8.pem", "es384.json"),
        ("es512.sec1.pem", "es512.json"),
        ("es512.pkcs8.pem", "es512.json"),
        ("rs256.pkcs1.pem", "rs256.json"),
        ("rs256.pkcs8.pem", "rs256.json"),
    ] {
        let text = String::from_utf8(fixture(pem).to_vec()).unwrap();
        // OpenSSL writes the curve's name before the key.
        let parameters =
            "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
        for text in [
            text.clone(),
            text.replace('\n', "\r\n"),
            format!("{parameters}{text}"),
        ] {
            let key = SigningKey::from_pem(&text).unwrap_or_else(|error| panic!("{pem}: {error}"));
            assert_eq!(key.id(), ids(signed), "{pem}");
        }
    }
}

#[test]
fn what_is_no_key_is_refused() {
    let pem = String::from_utf8(fixture("es256.pkcs8.pem").to_vec()).unwrap();
    let cut: String = pem.lines().take(2).collect::<Vec<_>>().join("\n");
    let wrong_label = pem.replace("PRIVATE", "PUBLIC");
    let encrypted = pem.replace("PRIVATE", "ENCRYPTED PRIVATE");
    for text in [
        "",
        "key",
        &cut,
        &wrong_label,
        &encrypted,
        &pem.to_lowercase(),
    ] {
        assert!(SigningKey::from_pem(text).is_err(), "{text}");
    }
}
