//! Images and indexes: OCI's, and Docker's schema 2.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};
use wharfinger_oci::manifest::{MAX_SIZE, Manifest, ManifestError, Role};
use wharfinger_oci::{Algorithm, Digest, media_type};

const IMAGES: [&str; 2] = [media_type::OCI_IMAGE_MANIFEST, media_type::DOCKER_MANIFEST];
const INDEXES: [&str; 2] = [
    media_type::OCI_IMAGE_INDEX,
    media_type::DOCKER_MANIFEST_LIST,
];

fn descriptor(content: &str) -> Value {
    json!({
        "mediaType": "application/vnd.oci.image.layer.v1.tar",
        "digest": Digest::canonical(content.as_bytes()),
        "size": content.len(),
    })
}

fn image() -> Value {
    json!({
        "schemaVersion": 2,
        "config": descriptor("config"),
        "layers": [descriptor("one"), descriptor("two")],
    })
}

fn index() -> Value {
    json!({
        "schemaVersion": 2,
        "manifests": [descriptor("one"), descriptor("two")],
    })
}

fn parse(media_type: &str, value: &Value) -> Result<Manifest, ManifestError> {
    Manifest::parse(Some(media_type), value.to_string().into())
}

fn refused(media_type: &str, value: &Value) -> String {
    match parse(media_type, value) {
        Err(ManifestError::Invalid(reason)) => reason,
        other => panic!("{value}: {other:?}"),
    }
}

#[test]
fn every_kind_is_kept_byte_for_byte_and_tells_what_it_refers_to() {
    for media_type in IMAGES {
        let text = Bytes::from(format!(" \n{:#}\t\n", image()));
        let manifest = Manifest::parse(Some(media_type), text.clone()).unwrap();
        assert_eq!(manifest.media_type(), media_type);
        assert_eq!(*manifest.bytes(), text);
        assert_eq!(*manifest.payload(), text);
        let references = manifest.references();
        let roles: Vec<Role> = references.iter().map(|r| r.role).collect();
        assert_eq!(roles, [Role::Config, Role::Layer, Role::Layer]);
        assert_eq!(references[0].digest, Digest::canonical(b"config"));
        assert_eq!(references[2].size, Some(3));
        assert!(manifest.signatures().is_empty());
        assert!(manifest.name_and_tag().is_none());
    }
    for media_type in INDEXES {
        let manifest = parse(media_type, &index()).unwrap();
        assert_eq!(manifest.media_type(), media_type);
        let references = manifest.references();
        assert_eq!(references.len(), 2);
        assert!(references.iter().all(|r| r.role == Role::Manifest));
        assert_eq!(references[1].digest, Digest::canonical(b"two"));
    }
}

#[test]
fn the_media_type_is_read_without_case_and_parameters() {
    for told in [
        "application/vnd.oci.image.manifest.v1+json; charset=utf-8",
        " Application/VND.oci.image.Manifest.v1+JSON ",
    ] {
        let manifest = parse(told, &image()).unwrap();
        assert_eq!(manifest.media_type(), media_type::OCI_IMAGE_MANIFEST);
    }
}

#[test]
fn the_content_decides_where_the_request_does_not() {
    let told = |value: &Value| {
        let text = Bytes::from(value.to_string());
        let none = Manifest::parse(None, text.clone()).unwrap().media_type();
        let json = Manifest::parse(Some("application/json"), text).unwrap();
        assert_eq!(json.media_type(), none);
        none
    };
    assert_eq!(told(&image()), media_type::OCI_IMAGE_MANIFEST);
    assert_eq!(told(&index()), media_type::OCI_IMAGE_INDEX);
    for media_type in IMAGES {
        let mut value = image();
        value["mediaType"] = media_type.into();
        assert_eq!(told(&value), media_type);
    }
    for media_type in INDEXES {
        let mut value = index();
        value["mediaType"] = media_type.into();
        assert_eq!(told(&value), media_type);
    }
    let nothing = Bytes::from_static(b"{\"schemaVersion\":2}");
    assert!(matches!(
        Manifest::parse(None, nothing),
        Err(ManifestError::Invalid(_))
    ));
}

#[test]
fn media_types_of_other_things_are_refused() {
    for media_type in [
        "application/octet-stream",
        "text/html",
        "",
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.oci.image.manifest.v2+json",
    ] {
        let error = parse(media_type, &image()).unwrap_err();
        assert!(matches!(error, ManifestError::MediaType(_)), "{error}");
    }
    let mut other = image();
    other["mediaType"] = "application/vnd.oci.image.config.v1+json".into();
    let error = Manifest::parse(None, other.to_string().into()).unwrap_err();
    assert!(matches!(error, ManifestError::MediaType(_)), "{error}");
}

/// CVE-2021-41190: what one client reads as an image, another must not read as an index.
#[test]
fn content_of_another_kind_than_the_media_type_is_refused() {
    for media_type in IMAGES {
        refused(media_type, &index());
        for field in ["manifests", "fsLayers"] {
            let mut both = image();
            both[field] = json!([]);
            assert!(refused(media_type, &both).contains(field));
        }
    }
    for media_type in INDEXES {
        refused(media_type, &image());
        for field in ["config", "layers", "fsLayers"] {
            let mut both = index();
            both[field] = json!([]);
            assert!(refused(media_type, &both).contains(field));
        }
    }
    for (came_as, value) in IMAGES
        .map(|kind| (kind, image()))
        .into_iter()
        .chain(INDEXES.map(|kind| (kind, index())))
    {
        for told in IMAGES.into_iter().chain(INDEXES) {
            let mut value = value.clone();
            value["mediaType"] = told.into();
            assert_eq!(
                parse(came_as, &value).is_ok(),
                told == came_as,
                "{came_as} {told}"
            );
        }
        for version in [
            json!(1),
            json!(3),
            json!(-2),
            json!("2"),
            json!(2.5),
            Value::Null,
        ] {
            let mut value = value.clone();
            value["schemaVersion"] = version;
            refused(came_as, &value);
        }
    }
    for media_type in [
        media_type::SCHEMA1_MANIFEST,
        media_type::SCHEMA1_SIGNED_MANIFEST,
    ] {
        refused(media_type, &image());
    }
}

#[test]
fn what_a_descriptor_must_have_must_be_there() {
    let digest = Digest::canonical(b"");
    let bad: Vec<(&str, Value)> = vec![
        ("size", json!(-1)),
        ("size", json!(1.5)),
        ("size", json!("1")),
        ("size", json!(1e30)),
        ("digest", json!("sha256:abc")),
        ("digest", json!(digest.hex())),
        ("digest", json!(digest.to_string().to_uppercase())),
        ("digest", json!(format!("md5:{}", &digest.hex()[..32]))),
        ("digest", json!(7)),
        ("mediaType", json!(7)),
        ("urls", json!("https://a")),
        ("annotations", json!({"a": 1})),
        ("platform", json!("linux")),
    ];
    for (field, value) in bad {
        let mut changed = image();
        changed["layers"][1][field] = value.clone();
        refused(IMAGES[0], &changed);
        let mut changed = image();
        changed["config"][field] = value.clone();
        refused(IMAGES[1], &changed);
        let mut changed = index();
        changed["manifests"][0][field] = value;
        refused(INDEXES[0], &changed);
    }
    for field in ["mediaType", "digest", "size"] {
        let mut changed = image();
        changed["config"].as_object_mut().unwrap().remove(field);
        assert!(refused(IMAGES[0], &changed).contains(field));
        let mut changed = index();
        changed["subject"] = descriptor("subject");
        changed["subject"].as_object_mut().unwrap().remove(field);
        assert!(refused(INDEXES[0], &changed).contains(field));
    }
    let mut without = image();
    without.as_object_mut().unwrap().remove("config");
    assert!(refused(IMAGES[0], &without).contains("config"));
    let mut without = image();
    without["config"] = Value::Null;
    refused(IMAGES[0], &without);
}

#[test]
fn embedded_data_must_be_what_the_descriptor_says() {
    for (pointer, value) in [
        ("/config", image()),
        ("/layers/1", image()),
        ("/manifests/0", index()),
    ] {
        let media_type = if value.get("config").is_some() {
            IMAGES[0]
        } else {
            INDEXES[0]
        };
        let content: &[u8] = match pointer {
            "/config" => b"config",
            "/layers/1" => b"two",
            _ => b"one",
        };
        let with = |data: Value| {
            let mut value = value.clone();
            value.pointer_mut(pointer).unwrap()["data"] = data;
            value
        };
        parse(media_type, &with(STANDARD.encode(content).into())).unwrap();
        let other = STANDARD.encode(vec![b'x'; content.len()]);
        assert!(refused(media_type, &with(other.into())).contains("another digest"));
        assert!(refused(media_type, &with("".into())).contains("another digest"));
        assert!(refused(media_type, &with("%%".into())).contains("base64"));
        refused(media_type, &with(json!([1])));
    }
    // Under sha512 too.
    let mut value = image();
    value["config"]["digest"] = json!(Digest::of(Algorithm::Sha512, b"config"));
    value["config"]["data"] = STANDARD.encode("config").into();
    parse(IMAGES[0], &value).unwrap();
}

#[test]
fn layers_from_elsewhere_are_told_apart() {
    let foreign = [
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ];
    for media_type in foreign {
        let mut value = image();
        value["layers"][0]["mediaType"] = media_type.into();
        value["layers"][0]["urls"] = json!(["https://example.com/layer"]);
        let manifest = parse(IMAGES[1], &value).unwrap();
        let references = manifest.references();
        assert_eq!(references[1].role, Role::ForeignLayer);
        assert_eq!(references[1].urls, ["https://example.com/layer"]);
        assert_eq!(references[1].media_type, Some(media_type));
        assert_eq!(references[2].role, Role::Layer);
    }
}

#[test]
fn an_index_tells_platforms() {
    let mut value = index();
    value["manifests"][0]["platform"] = json!({"os": "linux", "architecture": "arm64"});
    value["manifests"][1]["platform"] = json!({"architecture": "amd64"});
    let manifest = parse(INDEXES[0], &value).unwrap();
    let platforms: Vec<_> = manifest.references().iter().map(|r| r.platform).collect();
    assert_eq!(platforms, [Some(("linux", "arm64")), Some(("", "amd64"))]);
}

#[test]
fn what_makes_a_referrer_is_told() {
    for (media_type, mut value) in [(IMAGES[0], image()), (INDEXES[0], index())] {
        let plain = parse(media_type, &value).unwrap();
        assert!(plain.subject().is_none());
        assert!(plain.annotations().is_none());
        value["subject"] = descriptor("subject");
        value["artifactType"] = "text/x".into();
        value["annotations"] = json!({"a": "b"});
        let manifest = parse(media_type, &value).unwrap();
        let subject = manifest.subject().unwrap();
        assert_eq!(subject.digest, Digest::canonical(b"subject"));
        assert_eq!(manifest.artifact_type(), Some("text/x"));
        assert_eq!(manifest.annotations().unwrap()["a"], "b");
        // The subject may be missing from the registry: it is no reference.
        assert_eq!(manifest.references().len(), plain.references().len());
    }
    let mut value = image();
    value["artifactType"] = "".into();
    value["config"]["mediaType"] = "text/config".into();
    let image = parse(IMAGES[0], &value).unwrap();
    assert_eq!(image.artifact_type(), Some("text/config"));
    assert_eq!(parse(INDEXES[0], &index()).unwrap().artifact_type(), None);
}

#[test]
fn lists_may_be_left_out_and_unknown_fields_are_let_be() {
    for (media_type, list, mut value) in [
        (IMAGES[0], "layers", image()),
        (INDEXES[1], "manifests", index()),
    ] {
        value["org.example.field"] = json!({"any": [1, 2.5, null, true]});
        value[list] = Value::Null;
        parse(media_type, &value).unwrap();
        value.as_object_mut().unwrap().remove(list);
        let manifest = parse(media_type, &value).unwrap();
        assert!(manifest.references().iter().all(|r| r.role == Role::Config));
        value[list] = json!({});
        refused(media_type, &value);
    }
}

#[test]
fn the_size_is_bounded() {
    let text = image().to_string();
    let padded = |length: usize| {
        let mut bytes = text.clone().into_bytes();
        bytes.resize(length, b' ');
        Bytes::from(bytes)
    };
    let most = Manifest::parse(Some(IMAGES[0]), padded(MAX_SIZE)).unwrap();
    assert_eq!(most.bytes().len(), MAX_SIZE);
    for media_type in [Some(IMAGES[0]), None, Some("text/html")] {
        let error = Manifest::parse(media_type, padded(MAX_SIZE + 1)).unwrap_err();
        assert!(
            matches!(error, ManifestError::TooLarge(size) if size == MAX_SIZE + 1),
            "{error}"
        );
    }
}
