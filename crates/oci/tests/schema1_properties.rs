//! Schema 1 under random payloads and random damage.

mod support;

use std::sync::LazyLock;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};
use support::schema1::{fixture, indented, key, parse, signed};
use wharfinger_oci::schema1::{SigningKey, assemble};
use wharfinger_oci::{Digest, manifest::Manifest, media_type};

static KEYS: LazyLock<Vec<SigningKey>> = LazyLock::new(|| {
    let files = ["es256.sec1.pem", "es384.sec1.pem", "es512.sec1.pem"];
    files.map(key).into()
});

/// A payload as one line, and the digests in it.
fn payloads() -> impl Strategy<Value = (String, Vec<Digest>)> {
    let layer = (any::<[u8; 8]>(), "\\PC{0,30}");
    let layers = proptest::collection::vec(layer, 0..5);
    let name = "[a-z0-9]{1,8}(/[a-z0-9]{1,8}){0,2}";
    (
        layers,
        name,
        "[A-Za-z0-9_][A-Za-z0-9._-]{0,12}",
        "\\PC{0,10}",
    )
        .prop_map(|(layers, name, tag, architecture)| {
            let digests: Vec<Digest> = layers.iter().map(|(b, _)| Digest::canonical(b)).collect();
            let fs_layers: Vec<Value> = digests.iter().map(|d| json!({"blobSum": d})).collect();
            let history: Vec<Value> = layers
                .iter()
                .map(|(_, text)| json!({"v1Compatibility": text}))
                .collect();
            let payload = json!({
                "schemaVersion": 1, "name": name, "tag": tag, "architecture": architecture,
                "fsLayers": fs_layers, "history": history,
            });
            (payload.to_string(), digests)
        })
}

/// How a payload may be laid out.
fn laid_out(payload: &str, indent: Option<&str>, end: &str) -> String {
    match indent {
        Some(indent) => indented(payload, indent) + end,
        None => payload.to_owned() + end,
    }
}

/// What of a stored signature cannot be changed without breaking it: the header is not signed, so
/// members of its key that say nothing about the key can.
fn vouched_for(signature: &[u8]) -> Value {
    let mut signature: Value = serde_json::from_slice(signature).unwrap();
    let key = signature["header"]["jwk"].as_object_mut().unwrap();
    key.retain(|name, _| ["kty", "kid", "crv", "x", "y", "n", "e"].contains(&name.as_str()));
    signature
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_was_signed_comes_back(
        (payload, digests) in payloads(),
        indent in proptest::option::of("[ \t]{0,4}"),
        end in "[ \n\t]{0,3}",
        signers in proptest::sample::subsequence(vec![0, 1, 2], 1..=3),
    ) {
        let payload = laid_out(&payload, indent.as_deref(), &end);
        let keys: Vec<&SigningKey> = signers.iter().map(|n| &KEYS[*n]).collect();
        let signed = signed(&payload, &keys);
        let manifest = parse(&signed).unwrap();
        prop_assert_eq!(manifest.payload(), payload.as_bytes());
        prop_assert_eq!(manifest.bytes(), &signed);
        prop_assert_eq!(manifest.signatures().len(), keys.len());
        let layers: Vec<Digest> = manifest.references().iter().map(|r| r.digest).collect();
        prop_assert_eq!(layers, digests);
        let again = assemble(manifest.payload(), manifest.signatures()).unwrap();
        prop_assert_eq!(&again, &signed);

        // The payload alone is what is stored, and is the same manifest.
        let stored = Manifest::parse(Some(media_type::SCHEMA1_MANIFEST), payload.into()).unwrap();
        prop_assert_eq!(stored.payload(), manifest.payload());
        prop_assert_eq!(stored.name_and_tag(), manifest.name_and_tag());
    }

    /// Whatever one byte becomes: the manifest is refused, or what was signed is the same.
    #[test]
    fn one_changed_byte_changes_nothing_that_is_signed(
        at in any::<proptest::sample::Index>(),
        to: u8,
    ) {
        let signed = fixture("many.json");
        let good = parse(&signed).unwrap();
        let mut bytes = signed.to_vec();
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(manifest) = parse(&bytes.into()) {
            prop_assert_eq!(manifest.payload(), good.payload());
            let parts = |manifest: &Manifest| -> Vec<Value> {
                manifest.signatures().iter().map(|s| vouched_for(s)).collect()
            };
            prop_assert_eq!(parts(&manifest), parts(&good));
        }
    }

    #[test]
    fn a_manifest_that_was_cut_is_refused(at in any::<proptest::sample::Index>()) {
        let signed = fixture("es256.json");
        let at = at.index(signed.len());
        prop_assert!(parse(&signed.slice(..at)).is_err());
    }

    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from(bytes);
        prop_assert!(parse(&bytes).is_err());
        prop_assert!(assemble(&bytes, std::slice::from_ref(&bytes)).is_err());
    }
}
