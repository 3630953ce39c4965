//! A token's form: three parts, each in base64url, joined by dots (RFC 7515, section 7.1).

use serde::Deserialize;
use serde_json::Value;
use wharfinger_oci::key::{Jwk, base64url};

/// The longest token that is looked at, in bytes.
const MAX_LENGTH: usize = 64 * 1024;

/// The header's members that are looked at (RFC 7515, section 4.1).
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Header {
    pub(super) alg: String,
    pub(super) kid: Option<String>,
    pub(super) jwk: Option<Jwk>,
    /// Certificates, each in base64 of its DER, the signer's first.
    pub(super) x5c: Option<Vec<String>>,
    crit: Option<Value>,
    b64: Option<Value>,
}

/// A token that was read. Nothing in it has been verified.
#[derive(Clone, Debug)]
pub(super) struct Parsed<'a> {
    pub(super) header: Header,
    pub(super) payload: Vec<u8>,
    /// What is signed.
    pub(super) signed: &'a str,
    pub(super) signature: Vec<u8>,
}

impl<'a> Parsed<'a> {
    pub(super) fn new(token: &'a str) -> Result<Self, String> {
        if token.len() > MAX_LENGTH {
            return Err(format!("it has more than {MAX_LENGTH} bytes"));
        }
        let form = || "it has not the form of a token".to_owned();
        let (signed, signature) = token.rsplit_once('.').ok_or_else(form)?;
        let (header, payload) = signed.split_once('.').ok_or_else(form)?;
        let part = |text: &str| base64url::decode(text).map_err(|_| form());
        let header: Header = serde_json::from_slice(&part(header)?)
            .map_err(|error| format!("its header cannot be read: {error}"))?;
        // What must be understood (RFC 7515, section 4.1.11) is not.
        if header.crit.is_some() || header.b64.is_some() {
            return Err("its header has crit or b64, which are not known".to_owned());
        }
        Ok(Self {
            header,
            payload: part(payload)?,
            signed,
            signature: part(signature)?,
        })
    }
}
