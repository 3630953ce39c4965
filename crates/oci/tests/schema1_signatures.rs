//! Signing, assembling and refusing schema 1 manifests.

mod support;

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde_json::{Value, json};
use support::schema1::{expected, fixture, indented, key, parse, payload, signed, time};
use wharfinger_oci::manifest::ManifestError;
use wharfinger_oci::media_type;
use wharfinger_oci::schema1::{MAX_SIGNATURES, SignatureError, SigningKey, assemble, sign};

/// Changes a member of a signature.
type Change<'a> = &'a dyn Fn(&mut Value);

fn refused(signed: &Bytes) -> SignatureError {
    match parse(signed) {
        Err(ManifestError::Unverified(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// The manifest with one member of its first signature changed.
fn with_signature(signed: &Bytes, change: impl FnOnce(&mut Value)) -> Bytes {
    let text = std::str::from_utf8(signed).unwrap();
    let (start, signatures) = text.split_once("\"signatures\":").unwrap();
    let end = signatures.rfind(']').unwrap();
    let mut value: Value = serde_json::from_str(&signatures[..=end]).unwrap();
    change(&mut value[0]);
    format!("{start}\"signatures\":{value}{}", &signatures[end + 1..]).into()
}

fn one() -> Bytes {
    signed(&payload(2), &[&key("es256.sec1.pem")])
}

#[test]
fn every_kind_of_key_signs_what_verifies() {
    let keys: Vec<SigningKey> = ["es256", "es384", "es512", "rs256"]
        .map(|name| key(&format!("{name}.pkcs8.pem")))
        .into();
    for payload in [payload(0), payload(3), indented(&payload(1), " \t")] {
        let signed = signed(&payload, &keys.iter().collect::<Vec<_>>());
        let manifest = parse(&signed).unwrap();
        assert_eq!(manifest.payload(), payload.as_bytes());
        assert_eq!(manifest.signatures().len(), 4);
        let again = assemble(manifest.payload(), manifest.signatures()).unwrap();
        assert_eq!(again, signed);
    }
}

#[test]
fn a_signature_is_the_same_for_the_same_second() {
    let key = SigningKey::generate();
    let payload = payload(1);
    let at = |seconds| sign(payload.as_bytes(), &key, time(seconds)).unwrap();
    assert_eq!(at(1_440_000_000), at(1_440_000_000));
    assert_ne!(at(1_440_000_000), at(1_440_000_001));
    let signature: Value = serde_json::from_slice(&at(1_440_000_000)).unwrap();
    let protected = signature["protected"].as_str().unwrap();
    let protected = URL_SAFE_NO_PAD.decode(protected).unwrap();
    assert_eq!(
        String::from_utf8(protected).unwrap(),
        format!(
            r#"{{"formatLength":{},"formatTail":"fQ","time":"2015-08-19T16:00:00Z"}}"#,
            payload.len() - 1
        )
    );
    assert_eq!(signature["header"]["jwk"]["kid"], key.id());
}

#[test]
fn generated_keys_differ() {
    let ids: BTreeSet<String> = (0..4).map(|_| SigningKey::generate().id()).collect();
    assert_eq!(ids.len(), 4);
    for id in ids {
        let groups: Vec<&str> = id.split(':').collect();
        assert_eq!(groups.len(), 12, "{id}");
        assert!(groups.iter().all(|group| group.len() == 4), "{id}");
    }
}

#[test]
fn a_payload_that_was_changed_is_refused() {
    for expected in expected() {
        let text = String::from_utf8(fixture(&expected.file).to_vec()).unwrap();
        for (from, to) in [("amd64", "arm64"), ("latest", "newest"), ("46d4", "46d5")] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text);
            let error = refused(&changed.into());
            assert!(
                matches!(error, SignatureError::Mismatch { .. }),
                "{}: {error}",
                expected.file
            );
        }
    }
}

#[test]
fn a_signature_that_was_changed_is_refused() {
    for file in ["es256.json", "es512.json", "rs384.json", "x5c-ec.json"] {
        let changed = with_signature(&fixture(file), |signature| {
            let text = signature["signature"].as_str().unwrap();
            let mut bytes = URL_SAFE_NO_PAD.decode(text).unwrap();
            bytes[40] ^= 1;
            signature["signature"] = URL_SAFE_NO_PAD.encode(bytes).into();
        });
        let error = refused(&changed);
        assert!(matches!(error, SignatureError::Mismatch { .. }), "{error}");
        let empty = with_signature(&fixture(file), |s| s["signature"] = "".into());
        assert!(matches!(refused(&empty), SignatureError::Mismatch { .. }));
        let dots = with_signature(&fixture(file), |s| s["signature"] = "..".into());
        assert!(matches!(refused(&dots), SignatureError::Form(_)));
    }
}

#[test]
fn one_bad_signature_among_good_ones_is_refused() {
    let other = parse(&fixture("many.json")).unwrap();
    let elsewhere = indented(&payload(1), "   ");
    let key = SigningKey::generate();
    let wrong = sign(elsewhere.as_bytes(), &key, time(0)).unwrap();
    let mut signatures = other.signatures().to_vec();
    // It signs another payload of another length: nothing to put together.
    signatures.push(wrong);
    assert!(matches!(
        assemble(other.payload(), &signatures),
        Err(SignatureError::Disagree)
    ));
    // The lengths are alike, so only verifying tells.
    let payload_text = String::from_utf8(other.payload().to_vec()).unwrap();
    let alike = payload_text.replace("amd64", "arm64");
    *signatures.last_mut().unwrap() = sign(alike.as_bytes(), &key, time(0)).unwrap();
    let assembled = assemble(other.payload(), &signatures).unwrap();
    let error = refused(&assembled);
    assert_eq!(error, SignatureError::Mismatch { key: key.id() });
}

#[test]
fn a_protected_header_that_was_changed_is_refused() {
    let protect = |value: Value| {
        with_signature(&one(), |signature| {
            signature["protected"] = URL_SAFE_NO_PAD.encode(value.to_string()).into();
        })
    };
    let length = payload(2).len() - 1;
    let changed_time = protect(json!({"formatLength": length, "formatTail": "fQ", "time": "now"}));
    assert!(matches!(
        refused(&changed_time),
        SignatureError::Mismatch { .. }
    ));
    for value in [
        json!({"formatLength": 1_u64 << 40, "formatTail": "fQ"}),
        json!({"formatLength": length - 1, "formatTail": "fQ"}),
        json!({"formatLength": length + 1, "formatTail": "fQ"}),
        json!({"formatLength": length, "formatTail": ""}),
        json!({"formatLength": length, "formatTail": URL_SAFE_NO_PAD.encode(",\"a\":1}")}),
    ] {
        let error = refused(&protect(value.clone()));
        assert_eq!(error, SignatureError::Misfit, "{value}");
    }
    for value in [
        json!({"formatLength": -1, "formatTail": "fQ"}),
        json!({"formatLength": 1.5, "formatTail": "fQ"}),
        json!({"formatLength": "7", "formatTail": "fQ"}),
        json!({"formatLength": length, "formatTail": "f"}),
        json!({"formatLength": length}),
        json!({"formatTail": "fQ"}),
        json!([]),
    ] {
        let error = refused(&protect(value.clone()));
        assert!(
            matches!(error, SignatureError::Protected(_)),
            "{value}: {error}"
        );
    }
}

#[test]
fn content_beside_the_signatures_is_refused() {
    let text = String::from_utf8(one().to_vec()).unwrap();
    let before = text.replacen(",\"signatures\"", ",\"mine\":1,\"signatures\"", 1);
    let behind = format!("{},\"mine\":1}}", text.strip_suffix('}').unwrap());
    for changed in [before, behind] {
        let error = refused(&changed.into());
        assert!(matches!(error, SignatureError::Unsigned(_)), "{error}");
    }
    // White space means nothing, so it may be there.
    let spaced = text.replacen(",\"signatures\":", "\n , \"signatures\" :\t", 1) + "\n";
    parse(&spaced.into()).unwrap();
}

#[test]
fn a_signed_manifest_must_have_signatures() {
    let unsigned = payload(1);
    let none = format!(
        "{},\"signatures\":[]}}",
        unsigned.strip_suffix('}').unwrap()
    );
    assert_eq!(refused(&none.into()), SignatureError::Missing);
    let error = refused(&unsigned.clone().into());
    assert!(matches!(error, SignatureError::Form(_)), "{error}");
    assert!(matches!(
        assemble(unsigned.as_bytes(), &[]),
        Err(SignatureError::Missing)
    ));
}

#[test]
fn signatures_are_bounded_in_number() {
    let payload = payload(1);
    let key = SigningKey::generate();
    let of = |count: u64| {
        let signatures: Vec<Bytes> = (0..count)
            .map(|n| sign(payload.as_bytes(), &key, time(n)).unwrap())
            .collect();
        assemble(payload.as_bytes(), &signatures).unwrap()
    };
    let most = MAX_SIGNATURES as u64;
    assert_eq!(parse(&of(most)).unwrap().signatures().len(), MAX_SIGNATURES);
    let error = refused(&of(most + 1));
    assert_eq!(error, SignatureError::TooMany(MAX_SIGNATURES + 1));
}

#[test]
fn a_key_that_is_not_what_it_says_is_refused() {
    let jwk = |change: Change<'_>| {
        let changed = with_signature(&one(), |signature| change(&mut signature["header"]["jwk"]));
        refused(&changed)
    };
    let cases: [(Change<'_>, &str); 11] = [
        (&|jwk| jwk["kid"] = "AAAA".into(), "kid"),
        (&|jwk| jwk["kid"] = 7.into(), "kid"),
        (&|jwk| jwk["kty"] = "oct".into(), "kty"),
        (&|jwk| jwk["kty"] = Value::Null, "kty"),
        (&|jwk| jwk["crv"] = "P-384".into(), "48 bytes"),
        (&|jwk| jwk["crv"] = "secp256k1".into(), "curve"),
        (&|jwk| jwk["x"] = "AAAA".into(), "32 bytes"),
        (&|jwk| jwk["x"] = jwk["y"].clone(), "not a point"),
        (&|jwk| jwk["y"] = "=".into(), "base64url"),
        (&|jwk| jwk["d"] = "AAAA".into(), "private"),
        (&|jwk| jwk["kty"] = "RSA".into(), "\"n\""),
    ];
    for (change, reason) in cases {
        let error = jwk(change);
        assert!(matches!(error, SignatureError::Key(_)), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
    let without = with_signature(&one(), |s| s["header"]["jwk"] = Value::Null);
    assert_eq!(refused(&without), SignatureError::NoKey);
}

#[test]
fn a_kid_may_be_left_out_and_is_stored() {
    let without = with_signature(&one(), |signature| {
        let jwk = signature["header"]["jwk"].as_object_mut().unwrap();
        jwk.remove("kid").unwrap();
    });
    let manifest = parse(&without).unwrap();
    let stored: Value = serde_json::from_slice(&manifest.signatures()[0]).unwrap();
    assert_eq!(stored["header"]["jwk"]["kid"], key("es256.sec1.pem").id());
}

#[test]
fn an_algorithm_must_be_one_of_the_key() {
    for (file, wrong) in [
        (
            "es256.json",
            &["ES384", "RS256", "none", "HS256", "es256", ""][..],
        ),
        ("es512.json", &["ES256"]),
        ("rs256.json", &["ES256", "PS256", "none"]),
    ] {
        for alg in wrong {
            let changed = with_signature(&fixture(file), |s| s["header"]["alg"] = (*alg).into());
            let error = refused(&changed);
            assert!(matches!(error, SignatureError::Algorithm { .. }), "{error}");
        }
    }
    let other_hash = with_signature(&fixture("rs256.json"), |s| {
        s["header"]["alg"] = "RS512".into()
    });
    assert!(matches!(
        refused(&other_hash),
        SignatureError::Mismatch { .. }
    ));
}

#[test]
fn a_chain_must_be_of_certificates_and_agree_with_the_key() {
    let chain = |change: Change<'_>| {
        let changed = with_signature(&fixture("x5c-ec.json"), |s| change(&mut s["header"]));
        refused(&changed)
    };
    let certificate = |error: SignatureError| {
        assert!(matches!(error, SignatureError::Certificate(_)), "{error}");
    };
    certificate(chain(&|header| header["x5c"][0] = "%".into()));
    certificate(chain(&|header| header["x5c"][0] = "AAAA".into()));
    certificate(chain(&|header| header["x5c"][1] = "AAAA".into()));
    certificate(chain(&|header| {
        let leaf = header["x5c"][0].clone();
        header["x5c"] = Value::Array(vec![leaf; 11]);
    }));
    assert_eq!(
        chain(&|header| header["x5c"] = json!([])),
        SignatureError::NoKey
    );
    // The authority's key did not sign.
    let swapped = chain(&|header| header["x5c"].as_array_mut().unwrap().swap(0, 1));
    assert!(
        matches!(swapped, SignatureError::Algorithm { .. }),
        "{swapped}"
    );
    let es384: Value = serde_json::from_slice(&fixture("es384.json")).unwrap();
    let jwk = &es384["signatures"][0]["header"]["jwk"];
    let both = chain(&|header| header["jwk"] = jwk.clone());
    assert_eq!(both, SignatureError::TwoKeys);
}

#[test]
fn stored_signatures_that_are_none_are_refused() {
    let good = parse(&one()).unwrap();
    for stored in [&b"{}"[..], b"", b"\xff", b"[]", b"{\"header\":{}}"] {
        let stored = Bytes::from_static(stored);
        let error = assemble(good.payload(), &[good.signatures()[0].clone(), stored]);
        assert!(matches!(error, Err(SignatureError::Form(_))));
    }
    let longer = format!("{}\n", payload(2));
    assert!(matches!(
        assemble(longer.as_bytes(), good.signatures()),
        Err(SignatureError::Misfit)
    ));
}

#[test]
fn only_an_object_can_be_signed() {
    let key = SigningKey::generate();
    for payload in ["", "}", "{}", "{ \n}", "[]", "{\"a\":1} x"] {
        let signed = sign(payload.as_bytes(), &key, time(0));
        assert!(signed.is_err(), "{payload:?}");
    }
    let unsigned = Bytes::from(payload(1));
    let manifest = wharfinger_oci::manifest::Manifest::parse(
        Some(media_type::SCHEMA1_MANIFEST),
        unsigned.clone(),
    )
    .unwrap();
    assert_eq!(*manifest.payload(), unsigned);
    assert!(manifest.signatures().is_empty());
}
