//! Signed schema 1 manifests (Docker image manifest version 2, schema 1): signatures are verified,
//! taken apart from what they sign, put together with it again, and made.
//!
//! The form is that of the library libtrust, which all clients of the time used: a JSON object
//! whose last member, `signatures`, signs all that stands before it. Each signature's protected
//! header says how many bytes of the manifest were signed (`formatLength`) and what came behind
//! them in place of the signatures (`formatTail`). What was signed is the *payload*; its digest is
//! the manifest's.

use std::time::SystemTime;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use thiserror::Error;

mod format;
mod jws;
mod signing_key;

use crate::key::KeyError;
use jws::{Format, Signature};
pub use signing_key::{SigningKey, SigningKeyError};

/// How many signatures a manifest may have when it is pushed. Each costs the time of a
/// verification.
pub const MAX_SIGNATURES: usize = 32;

/// Why signatures do not verify, or cannot be put together with a payload.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SignatureError {
    /// The payload is not a JSON object with members, so nothing can be added to it.
    #[error("the payload is not an object with members")]
    Payload,
    /// There is no signature.
    #[error("it has no signature")]
    Missing,
    /// There are more than [`MAX_SIGNATURES`].
    #[error("it has {0} signatures; at most {MAX_SIGNATURES} are accepted")]
    TooMany(usize),
    /// A signature is not a JSON object with `header`, `signature` and `protected`.
    #[error("a signature has not the form of one: {0}")]
    Form(String),
    /// A protected header cannot be read.
    #[error("a protected header cannot be read: {0}")]
    Protected(String),
    /// The protected headers tell more than one payload.
    #[error("its signatures do not agree on what they sign")]
    Disagree,
    /// The protected headers do not fit the manifest.
    #[error("the formatLength and formatTail of its signatures do not fit it")]
    Misfit,
    /// Something stands beside the signatures that they do not sign.
    #[error("it has content that its signatures do not sign: {0}")]
    Unsigned(String),
    /// A signature has neither `jwk` nor `x5c`.
    #[error("a signature names no key")]
    NoKey,
    /// A signature has both `jwk` and `x5c`, with different keys.
    #[error("a signature's jwk and x5c have different keys")]
    TwoKeys,
    /// A `jwk` is not a usable public key.
    #[error("a signature's key cannot be used: {0}")]
    Key(String),
    /// An `x5c` has no usable certificate.
    #[error("a signature's certificate cannot be used: {0}")]
    Certificate(String),
    /// The key cannot have made a signature by this algorithm.
    #[error("key {key} does not sign by {algorithm:?}")]
    Algorithm {
        /// What the header says.
        algorithm: String,
        /// The key's id.
        key: String,
    },
    /// The key did not sign the payload.
    #[error("the signature of key {key} does not match")]
    Mismatch {
        /// The key's id.
        key: String,
    },
}

#[derive(Deserialize)]
struct Signed<'a> {
    #[serde(borrow)]
    signatures: Vec<&'a RawValue>,
}

/// What stands behind the signed part of a manifest, with a brace before it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignaturesOnly {
    #[serde(rename = "signatures")]
    _signatures: Vec<serde::de::IgnoredAny>,
}

/// Takes a signed manifest apart, and verifies every signature. Returns the payload, and the
/// signatures in the form and order in which they are stored.
///
/// # Errors
/// [`SignatureError`] says what does not verify.
pub(crate) fn take_apart(signed: &[u8]) -> Result<(Bytes, Vec<Bytes>), SignatureError> {
    let form = |error: serde_json::Error| SignatureError::Form(error.to_string());
    let raw: Signed<'_> = serde_json::from_slice(signed).map_err(form)?;
    if raw.signatures.len() > MAX_SIGNATURES {
        return Err(SignatureError::TooMany(raw.signatures.len()));
    }
    let signatures = raw
        .signatures
        .iter()
        .map(|json| Signature::parse(json.get()));
    let mut signatures: Vec<Signature> = signatures.collect::<Result<_, _>>()?;
    let format = common_format(&signatures)?;

    let (start, rest) = signed
        .split_at_checked(format.length)
        .ok_or(SignatureError::Misfit)?;
    if format.tail.trim_ascii() != b"}" {
        return Err(SignatureError::Misfit);
    }
    let rest = rest.trim_ascii_start().strip_prefix(b",");
    let rest = [b"{", rest.ok_or(SignatureError::Misfit)?].concat();
    serde_json::from_slice::<SignaturesOnly>(&rest)
        .map_err(|error| SignatureError::Unsigned(error.to_string()))?;

    let payload = [start, &format.tail].concat();
    for signature in &signatures {
        signature.verify(&payload)?;
    }
    signatures.sort_by(|a, b| a.order().cmp(&b.order()));
    let stored = signatures.iter().map(|s| Bytes::from(s.to_stored()));
    Ok((payload.into(), stored.collect()))
}

fn common_format(signatures: &[Signature]) -> Result<&Format, SignatureError> {
    let (first, others) = signatures.split_first().ok_or(SignatureError::Missing)?;
    if others.iter().any(|other| other.format() != first.format()) {
        return Err(SignatureError::Disagree);
    }
    Ok(first.format())
}

/// Signs a payload, as at `time`. The signature is in the form in which signatures are stored.
///
/// # Errors
/// [`SignatureError::Payload`] when the payload is not a JSON object with members.
pub fn sign(payload: &[u8], key: &SigningKey, time: SystemTime) -> Result<Bytes, SignatureError> {
    let format = Format::of_payload(payload).ok_or(SignatureError::Payload)?;
    Ok(key.sign(payload, &format, time).to_stored().into())
}

impl From<KeyError> for SignatureError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Key(reason) => Self::Key(reason),
            KeyError::Certificate(reason) => Self::Certificate(reason),
            KeyError::Algorithm { algorithm, key } => Self::Algorithm { algorithm, key },
            KeyError::Mismatch { key } => Self::Mismatch { key },
        }
    }
}

/// Puts a payload and its signatures, in the form in which they are stored, together to a signed
/// manifest, byte for byte as libtrust does. The signatures are not verified; their order is that
/// of the ids of their keys.
///
/// # Errors
/// [`SignatureError`] when there is no signature, one is not of the form that it must
/// have, or they are not of this payload.
pub fn assemble(payload: &[u8], signatures: &[Bytes]) -> Result<Bytes, SignatureError> {
    let parse = |stored: &Bytes| {
        let text = std::str::from_utf8(stored);
        Signature::parse(text.map_err(|error| SignatureError::Form(error.to_string()))?)
    };
    let parsed = signatures.iter().map(parse);
    let mut parsed: Vec<Signature> = parsed.collect::<Result<_, _>>()?;
    parsed.sort_by(|a, b| a.order().cmp(&b.order()));
    let format = common_format(&parsed)?;
    match payload.split_at_checked(format.length) {
        Some((start, tail)) if *tail == format.tail => Ok(write(start, payload, &parsed).into()),
        _ => Err(SignatureError::Misfit),
    }
}

fn write(start: &[u8], payload: &[u8], signatures: &[Signature]) -> Vec<u8> {
    match indentation(payload) {
        Some(indent) => {
            let signatures = format::indented(&signatures, indent);
            let name = format!(",\n{indent}\"signatures\": ");
            [start, name.as_bytes(), &signatures, b"\n}"].concat()
        }
        None => {
            let signatures = format::compact(&signatures);
            [start, b",\"signatures\":", &signatures, b"}"].concat()
        }
    }
}

/// How the payload indents its members: what stands between the first line's end, right behind the
/// opening brace, and the first member.
fn indentation(payload: &[u8]) -> Option<&str> {
    let lines = payload.strip_prefix(b"{\n")?;
    let quote = lines.iter().position(|byte| *byte == b'"')?;
    let indent = std::str::from_utf8(&lines[..quote]).ok()?;
    (!indent.is_empty()).then_some(indent)
}
