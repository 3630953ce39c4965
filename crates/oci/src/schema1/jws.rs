//! One signature of a manifest: parsing it, verifying it, and the form in which it is stored.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::SignatureError;
use super::format;
use crate::key::{Jwk, KeyError, PublicKey, base64url};

/// How many certificates a chain may have.
const MAX_CHAIN: usize = 10;

/// A signature as it is written in a manifest and in the store. The order of the fields is that of
/// the stored form, whose digest depends on it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Written {
    header: Header,
    signature: String,
    protected: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Header {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jwk: Option<Jwk>,
    alg: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    x5c: Option<Vec<String>>,
}

/// How the signed bytes are found again in a manifest that has its signatures in it: so many bytes
/// from the start, and then the tail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) length: usize,
    pub(super) tail: Vec<u8>,
}

/// The protected header. The fields stand in the order in which libtrust writes them.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Protected {
    format_length: usize,
    format_tail: String,
    #[serde(default)]
    time: Option<String>,
}

impl Format {
    fn from_protected(protected: &str) -> Result<Self, SignatureError> {
        let bad = |error: &dyn std::fmt::Display| SignatureError::Protected(error.to_string());
        let json = base64url::decode(protected).map_err(|error| bad(&error))?;
        let parsed: Protected = serde_json::from_slice(&json).map_err(|error| bad(&error))?;
        let tail = base64url::decode(&parsed.format_tail).map_err(|error| bad(&error))?;
        Ok(Self {
            length: parsed.format_length,
            tail,
        })
    }

    /// Where libtrust splits a payload: behind what stands before its closing brace. `None` when it
    /// is not an object with members.
    pub(super) fn of_payload(payload: &[u8]) -> Option<Self> {
        let open = payload.trim_ascii_end().strip_suffix(b"}")?;
        let length = open.trim_ascii_end().len();
        let members = payload[..length].trim_ascii_start().strip_prefix(b"{")?;
        let tail = payload[length..].to_vec();
        (!members.is_empty()).then_some(Self { length, tail })
    }

    pub(super) fn to_protected(&self, time: String) -> String {
        let protected = Protected {
            format_length: self.length,
            format_tail: base64url::encode(&self.tail),
            time: Some(time),
        };
        base64url::encode(&format::compact(&protected))
    }
}

/// A signature that was read. It need not have been verified.
#[derive(Clone, Debug)]
pub(super) struct Signature {
    written: Written,
    key: PublicKey,
    key_id: String,
    format: Format,
}

impl Signature {
    /// A signature that was just made.
    pub(super) fn new(key: PublicKey, alg: &str, signature: &[u8], protected: String) -> Self {
        let format = Format::from_protected(&protected).expect("it was just written");
        let written = Written {
            header: Header {
                jwk: Some(key.to_jwk(&Jwk::new())),
                alg: alg.to_owned(),
                x5c: None,
            },
            signature: base64url::encode(signature),
            protected,
        };
        Self {
            written,
            key_id: key.id(),
            key,
            format,
        }
    }

    /// Reads a signature: a JSON object with `header`, `signature` and `protected`.
    ///
    /// # Errors
    /// When it has another form, or names no usable key.
    pub(super) fn parse(json: &str) -> Result<Self, SignatureError> {
        let mut written: Written =
            serde_json::from_str(json).map_err(|error| SignatureError::Form(error.to_string()))?;
        let format = Format::from_protected(&written.protected)?;
        let header = &mut written.header;
        header.x5c.take_if(|chain| chain.is_empty());
        let from_jwk = header.jwk.as_ref().map(key_of).transpose()?;
        let from_chain = match &header.x5c {
            Some(chain) if chain.len() > MAX_CHAIN => {
                let reason = format!("the chain has more than {MAX_CHAIN} certificates");
                return Err(SignatureError::Certificate(reason));
            }
            Some(chain) => Some(PublicKey::from_chain(chain)?),
            None => None,
        };
        let key = match (from_jwk, from_chain) {
            // Two clients would take two keys for the one that signed.
            (Some(jwk), Some(chain)) if jwk != chain => return Err(SignatureError::TwoKeys),
            (Some(key), _) | (None, Some(key)) => key,
            (None, None) => return Err(SignatureError::NoKey),
        };
        header.jwk = header.jwk.take().map(|jwk| key.to_jwk(&jwk));
        Ok(Self {
            written,
            key_id: key.id(),
            key,
            format,
        })
    }

    /// Verifies that the key signed `payload` (RFC 7515, section 5.2).
    ///
    /// # Errors
    /// When it did not.
    pub(super) fn verify(&self, payload: &[u8]) -> Result<(), SignatureError> {
        let signature = base64url::decode(&self.written.signature)
            .map_err(|error| SignatureError::Form(error.to_string()))?;
        let input = signing_input(&self.written.protected, payload);
        let alg = &self.written.header.alg;
        // libtrust knows no others.
        if !alg.starts_with("ES") && !alg.starts_with("RS") {
            return Err(SignatureError::Algorithm {
                algorithm: alg.clone(),
                key: self.key_id.clone(),
            });
        }
        Ok(self.key.verify(alg, input.as_bytes(), &signature)?)
    }

    pub(super) fn format(&self) -> &Format {
        &self.format
    }

    /// By which libtrust orders signatures.
    pub(super) fn order(&self) -> (&str, &str) {
        (&self.key_id, &self.written.signature)
    }

    /// The form in which the signature is stored, which is libtrust's.
    pub(super) fn to_stored(&self) -> Vec<u8> {
        format::compact(self)
    }
}

impl Serialize for Signature {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.written.serialize(serializer)
    }
}

/// The key that a `jwk` tells. Where it has a `kid`, that is the key's id.
fn key_of(jwk: &Jwk) -> Result<PublicKey, KeyError> {
    let key = PublicKey::from_jwk(jwk)?;
    let Some(told) = jwk.get("kid") else {
        return Ok(key);
    };
    let actual = key.id();
    match told.as_str() {
        Some(told) if told == actual => Ok(key),
        _ => {
            let reason = format!("its kid is {told}, its id {actual}");
            Err(KeyError::Key(reason))
        }
    }
}

/// What is signed (RFC 7515, section 5.1, step 8).
pub(super) fn signing_input(protected: &str, payload: &[u8]) -> String {
    let mut input = String::with_capacity(protected.len() + 1 + payload.len() * 4 / 3 + 4);
    input.push_str(protected);
    input.push('.');
    URL_SAFE_NO_PAD.encode_string(payload, &mut input);
    input
}
