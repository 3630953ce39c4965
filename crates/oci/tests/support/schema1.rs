//! Fixtures and manifests of schema 1.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::Deserialize;
use wharfinger_oci::manifest::{Manifest, ManifestError};
use wharfinger_oci::media_type;
use wharfinger_oci::schema1::{SigningKey, assemble, sign};

/// What libtrust says of a file that it made.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Expected {
    pub file: String,
    pub payload: String,
    pub signatures: Vec<String>,
    pub key_ids: Vec<String>,
}

pub fn expected() -> Vec<Expected> {
    serde_json::from_slice(&fixture("expected.json")).unwrap()
}

pub fn fixture(file: &str) -> Bytes {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/schema1");
    std::fs::read(format!("{folder}/{file}")).unwrap().into()
}

pub fn parse(signed: &Bytes) -> Result<Manifest, ManifestError> {
    Manifest::parse(Some(media_type::SCHEMA1_SIGNED_MANIFEST), signed.clone())
}

/// A payload with this many layers.
pub fn payload(layers: usize) -> String {
    let layer =
        r#"{"blobSum":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}"#;
    let history = r#"{"v1Compatibility":"{\"id\":\"a\"}"}"#;
    format!(
        r#"{{"schemaVersion":1,"name":"a/b","tag":"t","architecture":"amd64","fsLayers":[{}],"history":[{}]}}"#,
        vec![layer; layers].join(","),
        vec![history; layers].join(","),
    )
}

/// The payload with its members on lines of their own.
pub fn indented(payload: &str, indent: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(payload).unwrap();
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    serde::Serialize::serialize(&value, &mut serializer).unwrap();
    String::from_utf8(out).unwrap()
}

pub fn time(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// The payload signed by all of these keys.
pub fn signed(payload: &str, keys: &[&SigningKey]) -> Bytes {
    let signatures: Vec<Bytes> = keys
        .iter()
        .map(|key| sign(payload.as_bytes(), key, time(1_440_000_000)).unwrap())
        .collect();
    assemble(payload.as_bytes(), &signatures).unwrap()
}

/// The key in a fixture.
pub fn key(pem: &str) -> SigningKey {
    SigningKey::from_pem(std::str::from_utf8(&fixture(pem)).unwrap()).unwrap()
}
