//! JSON that two clients could read differently, or that serves an attack, is refused in every
//! kind of manifest; everything else is kept byte for byte.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use wharfinger_oci::manifest::{Manifest, ManifestError};
use wharfinger_oci::{Digest, media_type};

/// The beginnings of one manifest of each kind, to which members can be added.
fn beginnings() -> [(&'static str, String); 6] {
    let digest = Digest::canonical(b"");
    let descriptor = format!(r#"{{"mediaType":"a/b","digest":"{digest}","size":0}}"#);
    let image = format!(r#"{{"schemaVersion":2,"config":{descriptor},"layers":[{descriptor}]"#);
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{descriptor}]"#);
    let schema1 =
        r#"{"schemaVersion":1,"name":"a","tag":"b","fsLayers":[],"history":[]"#.to_owned();
    [
        (media_type::OCI_IMAGE_MANIFEST, image.clone()),
        (media_type::DOCKER_MANIFEST, image),
        (media_type::OCI_IMAGE_INDEX, index.clone()),
        (media_type::DOCKER_MANIFEST_LIST, index),
        (media_type::SCHEMA1_MANIFEST, schema1.clone()),
        (media_type::SCHEMA1_SIGNED_MANIFEST, schema1),
    ]
}

/// Whether every kind of manifest with this behind its other members is accepted, or none is. A
/// schema 1 manifest without signatures gets no further than to having none.
fn accepts(end: &str) -> bool {
    let accepted = beginnings().map(|(media_type, beginning)| {
        let bytes = Bytes::from(beginning + end);
        match Manifest::parse(Some(media_type), bytes.clone()) {
            Ok(manifest) => {
                assert_eq!(*manifest.bytes(), bytes);
                assert_eq!(*manifest.payload(), bytes);
                true
            }
            Err(ManifestError::Invalid(_)) => false,
            Err(ManifestError::Unverified(_)) => {
                assert_eq!(media_type, media_type::SCHEMA1_SIGNED_MANIFEST);
                true
            }
            Err(error) => panic!("{error}"),
        }
    });
    assert!(
        accepted.iter().all(|one| *one == accepted[0]),
        "{end}: {accepted:?}"
    );
    accepted[0]
}

#[test]
fn a_key_that_stands_twice_is_refused_wherever_it_is() {
    assert!(accepts("}"));
    for twice in [
        r#","schemaVersion":2}"#,
        r#","x":1,"x":1}"#,
        r#","x":1,"y":2,"x":3}"#,
        r#","x":{"a":1,"b":{},"a":2}}"#,
        r#","x":[0,[{"a":1,"a":1}]]}"#,
        // One key, written in two ways.
        r#","tag":1,"t\u0061g":1}"#,
        r#","x":{"":1,"":2}}"#,
    ] {
        assert!(!accepts(twice), "{twice}");
    }
    for once in [
        r#","x":{"a":1},"y":{"a":1}}"#,
        r#","x":[{"a":1},{"a":1}]}"#,
        r#","x":1,"X":2}"#,
        r#","a":{"b":{"a":{"b":1}}}}"#,
    ] {
        assert!(accepts(once), "{once}");
    }
}

#[test]
fn a_doubled_field_is_refused_in_a_descriptor() {
    for (media_type, beginning) in beginnings().into_iter().take(4) {
        let text = beginning.replacen(r#""size":0"#, r#""size":0,"size":1"#, 1) + "}";
        let error = Manifest::parse(Some(media_type), text.into()).unwrap_err();
        assert!(error.to_string().contains("twice"), "{error}");
    }
}

#[test]
fn nesting_is_bounded() {
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let nested = |depth: usize| {
            let (open, close) = (open.repeat(depth), close.repeat(depth));
            format!(r#","x":{open}1{close}}}"#)
        };
        // The manifest itself is one level.
        assert!(accepts(&nested(63)));
        assert!(!accepts(&nested(64)));
        assert!(!accepts(&nested(100_000)));
    }
    assert!(!accepts(&format!(r#","x":{}"#, "[".repeat(1_000_000))));
}

#[test]
fn what_is_not_one_json_object_is_refused() {
    for end in [
        "",
        "}}",
        "} {}",
        "} x",
        "},",
        ",}",
        ",\"x\"}",
        ",\"x\":01}",
        "}\0",
        "}\u{a0}",
    ] {
        assert!(!accepts(end), "{end:?}");
    }
    for bytes in [
        &b""[..],
        b" ",
        b"null",
        b"[]",
        b"2",
        b"\"manifest\"",
        b"{\"schemaVersion\":2,\"x\":\"\xff\"}",
        b"\xef\xbb\xbf{\"schemaVersion\":2}",
        b"{\"schemaVersion\":2,\"x\":\"\\ud800\"}",
        b"{\"schemaVersion\":2,\"x\":\"a\nb\"}",
    ] {
        for (media_type, _) in beginnings() {
            for media_type in [Some(media_type), None] {
                let error = Manifest::parse(media_type, Bytes::from_static(bytes)).unwrap_err();
                assert!(matches!(error, ManifestError::Invalid(_)), "{error}");
            }
        }
    }
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        proptest::num::f64::NORMAL.prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::vec((".{0,6}", inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// The objects in a value, each as the way to it.
fn objects(value: &Value, way: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            if !members.is_empty() {
                found.push(way.to_owned());
            }
            for (name, member) in members {
                let name = name.replace('~', "~0").replace('/', "~1");
                objects(member, &format!("{way}/{name}"), found);
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                objects(item, &format!("{way}/{at}"), found);
            }
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn members_that_mean_nothing_are_kept(value in values(), pretty: bool) {
        let text = if pretty { format!("{value:#}") } else { value.to_string() };
        let end = format!(",\"x\":{text}}}\n");
        prop_assert!(accepts(&end));
    }

    #[test]
    fn a_key_made_to_stand_twice_is_refused(value in values(), at in any::<proptest::sample::Index>()) {
        let mut value = json!({ "x": value });
        let mut ways = Vec::new();
        objects(&value, "", &mut ways);
        let way = &ways[at.index(ways.len())];
        let object: &mut Map<String, Value> = value.pointer_mut(way).unwrap().as_object_mut().unwrap();
        let name = object.keys().next().unwrap().clone();
        // A mark that no value has, so that it can be replaced in the text.
        object.insert("\u{1}mark".to_owned(), 0.into());
        let twice = serde_json::to_string(&name).unwrap();
        let text = value.to_string().replace("\"\\u0001mark\"", &twice);
        let end = format!(",{}", text.strip_prefix('{').unwrap());
        prop_assert!(!accepts(&end), "{end}");
    }

    #[test]
    fn any_bytes_are_parsed_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        at in any::<proptest::sample::Index>(),
        kind in 0..6_usize,
    ) {
        let (media_type, beginning) = &beginnings()[kind];
        let whole = format!("{beginning}}}").into_bytes();
        let at = at.index(whole.len());
        let damaged = [&whole[..at], &bytes[..], &whole[at..]].concat();
        for text in [bytes.clone(), damaged] {
            let text = Bytes::from(text);
            for media_type in [Some(*media_type), None] {
                if let Ok(manifest) = Manifest::parse(media_type, text.clone()) {
                    prop_assert_eq!(manifest.bytes(), &text);
                }
            }
        }
    }
}
