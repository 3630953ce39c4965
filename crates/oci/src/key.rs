//! Public keys and the signatures made with them, as JSON Web Signatures have them (RFC 7515): in
//! signed schema 1 manifests, and in the tokens that grant access.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use p256::ecdsa::signature::Verifier;
use rsa::pkcs8::{DecodePublicKey, EncodePublicKey, SubjectPublicKeyInfoRef};
use rsa::sha2::{Digest as _, Sha256, Sha384, Sha512};
use rsa::traits::PublicKeyParts;
use rsa::{BoxedUint, Pkcs1v15Sign, Pss};
use serde_json::Value;
use thiserror::Error;
use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};

/// The members of a JSON Web Key (RFC 7517), in the order in which Go writes them.
pub type Jwk = BTreeMap<String, Value>;

/// How many bytes of SHA-256 a key id is made of (240 bits).
const KEY_ID_LENGTH: usize = 30;

/// Why a key or a signature is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// It is not a public key that can be used.
    #[error("{0}")]
    Key(String),
    /// It is not a certificate with a public key that can be used.
    #[error("{0}")]
    Certificate(String),
    /// The key cannot have made a signature by this algorithm.
    #[error("key {key} does not sign by {algorithm:?}")]
    Algorithm {
        /// What was claimed.
        algorithm: String,
        /// The key's id.
        key: String,
    },
    /// The key did not sign this.
    #[error("it was not made with key {key}")]
    Mismatch {
        /// The key's id.
        key: String,
    },
}

/// base64url as JOSE has it (RFC 7515, section 2).
pub mod base64url {
    use base64::Engine;
    use base64::engine::GeneralPurpose;
    use base64::engine::general_purpose::{GeneralPurposeConfig, URL_SAFE_NO_PAD};

    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &base64::alphabet::URL_SAFE,
        GeneralPurposeConfig::new()
            .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
    );

    /// Without padding.
    pub fn encode(bytes: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Padding, which JOSE leaves out, may be there: libtrust reads it too.
    ///
    /// # Errors
    /// When it is no base64url.
    pub fn decode(text: &str) -> Result<Vec<u8>, base64::DecodeError> {
        LENIENT.decode(text)
    }
}

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    P256(p256::ecdsa::VerifyingKey),
    P384(p384::ecdsa::VerifyingKey),
    P521(p521::ecdsa::VerifyingKey),
    Rsa(Box<rsa::PublicKey>),
    Ed25519(ed25519_dalek::VerifyingKey),
}

impl From<p256::ecdsa::VerifyingKey> for PublicKey {
    fn from(key: p256::ecdsa::VerifyingKey) -> Self {
        Self(Kind::P256(key))
    }
}

impl From<p384::ecdsa::VerifyingKey> for PublicKey {
    fn from(key: p384::ecdsa::VerifyingKey) -> Self {
        Self(Kind::P384(key))
    }
}

impl From<p521::ecdsa::VerifyingKey> for PublicKey {
    fn from(key: p521::ecdsa::VerifyingKey) -> Self {
        Self(Kind::P521(key))
    }
}

impl From<rsa::PublicKey> for PublicKey {
    fn from(key: rsa::PublicKey) -> Self {
        Self(Kind::Rsa(Box::new(key)))
    }
}

fn bad_key(reason: impl std::fmt::Display) -> KeyError {
    KeyError::Key(reason.to_string())
}

impl PublicKey {
    /// The key that a JSON Web Key tells (RFC 7517; RFC 7518, section 6; RFC 8037, section 2). Its
    /// `kid` says nothing about it.
    ///
    /// # Errors
    /// When it is not a usable public key.
    pub fn from_jwk(jwk: &Jwk) -> Result<Self, KeyError> {
        if jwk.contains_key("d") {
            return Err(bad_key("it is a private key"));
        }
        match text(jwk, "kty")? {
            "EC" => Self::from_point(text(jwk, "crv")?, &bytes(jwk, "x")?, &bytes(jwk, "y")?),
            "RSA" => {
                let part = |name| Ok(BoxedUint::from_be_slice_vartime(&bytes(jwk, name)?));
                let key = rsa::PublicKey::new(part("n")?, part("e")?).map_err(bad_key)?;
                Ok(key.into())
            }
            "OKP" => {
                let curve = text(jwk, "crv")?;
                if curve != "Ed25519" {
                    return Err(bad_key(format_args!("{curve:?} is no known curve")));
                }
                let x = bytes(jwk, "x")?;
                let x = x
                    .try_into()
                    .map_err(|_| bad_key("a point on Ed25519 has 32 bytes"))?;
                let key = ed25519_dalek::VerifyingKey::from_bytes(&x).map_err(bad_key)?;
                Ok(Self(Kind::Ed25519(key)))
            }
            other => Err(bad_key(format_args!("{other:?} is no known kty"))),
        }
    }

    fn from_point(curve: &str, x: &[u8], y: &[u8]) -> Result<Self, KeyError> {
        let expected = match curve {
            "P-256" => 32,
            "P-384" => 48,
            "P-521" => 66,
            _ => return Err(bad_key(format_args!("{curve:?} is no known curve"))),
        };
        if x.len() != expected || y.len() != expected {
            return Err(bad_key(format_args!(
                "a coordinate on {curve} has {expected} bytes"
            )));
        }
        // An uncompressed point (SEC 1, section 2.3.3).
        let point = [&[4], x, y].concat();
        let key = match curve {
            "P-256" => p256::ecdsa::VerifyingKey::from_sec1_bytes(&point).map(Kind::P256),
            "P-384" => p384::ecdsa::VerifyingKey::from_sec1_bytes(&point).map(Kind::P384),
            _ => p521::ecdsa::VerifyingKey::from_sec1_bytes(&point).map(Kind::P521),
        };
        key.map(Self)
            .map_err(|_| bad_key(format_args!("it is not a point on {curve}")))
    }

    /// The key of the first certificate of a chain, each certificate in base64 of its DER
    /// (RFC 7515, section 4.1.6). Whether the chain is to be trusted is not decided here.
    ///
    /// # Errors
    /// When one of them is not a certificate, or the first has no usable key.
    pub fn from_chain(chain: &[String]) -> Result<Self, KeyError> {
        let bad = |reason: String| KeyError::Certificate(reason);
        let keys: Vec<_> = chain
            .iter()
            .map(|certificate| {
                let der = STANDARD
                    .decode(certificate)
                    .map_err(|e| bad(e.to_string()))?;
                key_info(&der)
            })
            .collect::<Result<_, _>>()?;
        let leaf = keys
            .first()
            .ok_or_else(|| bad("the chain is empty".to_owned()))?;
        Self::from_der(leaf).ok_or_else(unknown_kind)
    }

    /// The key of a certificate in DER.
    ///
    /// # Errors
    /// When it is not a certificate, or has no usable key.
    pub fn from_certificate(der: &[u8]) -> Result<Self, KeyError> {
        Self::from_der(&key_info(der)?).ok_or_else(unknown_kind)
    }

    /// The key in a DER `SubjectPublicKeyInfo` (RFC 5280, section 4.1.2.7).
    fn from_der(der: &[u8]) -> Option<Self> {
        SubjectPublicKeyInfoRef::from_der(der).ok()?;
        p256::ecdsa::VerifyingKey::from_public_key_der(der)
            .map(Kind::P256)
            .or_else(|_| p384::ecdsa::VerifyingKey::from_public_key_der(der).map(Kind::P384))
            .or_else(|_| p521::ecdsa::VerifyingKey::from_public_key_der(der).map(Kind::P521))
            .or_else(|_| rsa::PublicKey::from_public_key_der(der).map(|k| Kind::Rsa(Box::new(k))))
            .or_else(|_| ed25519_dalek::VerifyingKey::from_public_key_der(der).map(Kind::Ed25519))
            .map(Self)
            .ok()
    }

    /// libtrust's id of the key: base32 of the first 240 bits of SHA-256 over the key's DER, in
    /// twelve groups of four characters.
    pub fn id(&self) -> String {
        let der = match &self.0 {
            Kind::P256(key) => key.to_public_key_der(),
            Kind::P384(key) => key.to_public_key_der(),
            Kind::P521(key) => key.to_public_key_der(),
            Kind::Rsa(key) => key.to_public_key_der(),
            Kind::Ed25519(key) => key.to_public_key_der(),
        };
        let der = der.expect("a key that was parsed can be encoded");
        let hash = Sha256::digest(der.as_bytes());
        let text = base32(&hash[..KEY_ID_LENGTH]);
        let groups: Vec<String> = text.chunks(4).map(|g| g.iter().collect()).collect();
        groups.join(":")
    }

    /// The key as a JSON Web Key with its id, as libtrust writes it; `extra` are further members.
    pub fn to_jwk(&self, extra: &Jwk) -> Jwk {
        let mut jwk = extra.clone();
        let mut set = |name: &str, value: String| {
            jwk.insert(name.to_owned(), Value::String(value));
        };
        set("kid", self.id());
        let (curve, point) = match &self.0 {
            Kind::P256(key) => ("P-256", key.to_sec1_point(false).as_bytes().to_vec()),
            Kind::P384(key) => ("P-384", key.to_sec1_point(false).as_bytes().to_vec()),
            Kind::P521(key) => ("P-521", key.to_sec1_point(false).as_bytes().to_vec()),
            Kind::Ed25519(key) => {
                set("kty", "OKP".to_owned());
                set("crv", "Ed25519".to_owned());
                set("x", base64url::encode(key.as_bytes()));
                return jwk;
            }
            Kind::Rsa(key) => {
                set("kty", "RSA".to_owned());
                set(
                    "n",
                    base64url::encode(&key.n().to_be_bytes_trimmed_vartime()),
                );
                set(
                    "e",
                    base64url::encode(&key.e().to_be_bytes_trimmed_vartime()),
                );
                return jwk;
            }
        };
        // An uncompressed point is one byte that says so, and two coordinates of one length.
        let (x, y) = point[1..].split_at(point.len() / 2);
        set("kty", "EC".to_owned());
        set("crv", curve.to_owned());
        set("x", base64url::encode(x));
        set("y", base64url::encode(y));
        jwk
    }

    /// The key's thumbprint (RFC 7638), and the one that Go programs compute which leave out the
    /// zeros that a coordinate begins with.
    pub fn thumbprints(&self) -> [String; 2] {
        let jwk = self.to_jwk(&Jwk::new());
        [false, true].map(|without_zeros| {
            let members = ["crv", "e", "kty", "n", "x", "y"];
            let told = members.into_iter().filter_map(|name| {
                let value = jwk.get(name)?.as_str()?;
                let stripped = match base64url::decode(value) {
                    Ok(bytes) if without_zeros && matches!(name, "x" | "y") => {
                        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
                        base64url::encode(&bytes[zeros..])
                    }
                    _ => value.to_owned(),
                };
                Some(format!("{name:?}:{stripped:?}"))
            });
            let told: Vec<_> = told.collect();
            let json = format!("{{{}}}", told.join(","));
            base64url::encode(&Sha256::digest(json.as_bytes()))
        })
    }

    /// Verifies a signature by the algorithm `alg` (RFC 7518, section 3.1; RFC 8037, section 3.1).
    ///
    /// # Errors
    /// When the key does not know the algorithm, or did not sign `message` so.
    pub fn verify(&self, alg: &str, message: &[u8], signature: &[u8]) -> Result<(), KeyError> {
        macro_rules! ecdsa {
            ($curve:ident, $key:expr) => {
                $curve::ecdsa::Signature::from_slice(signature)
                    .and_then(|signature| $key.verify(message, &signature))
                    .is_ok()
            };
        }
        macro_rules! rsa {
            ($key:expr, $padding:expr, $hash:ty) => {
                $key.verify($padding, &<$hash>::digest(message), signature)
                    .is_ok()
            };
        }
        let verified = match (&self.0, alg) {
            (Kind::P256(key), "ES256") => ecdsa!(p256, key),
            (Kind::P384(key), "ES384") => ecdsa!(p384, key),
            (Kind::P521(key), "ES512") => ecdsa!(p521, key),
            (Kind::Rsa(key), "RS256") => rsa!(key, Pkcs1v15Sign::new::<Sha256>(), Sha256),
            (Kind::Rsa(key), "RS384") => rsa!(key, Pkcs1v15Sign::new::<Sha384>(), Sha384),
            (Kind::Rsa(key), "RS512") => rsa!(key, Pkcs1v15Sign::new::<Sha512>(), Sha512),
            (Kind::Rsa(key), "PS256") => rsa!(key, Pss::<Sha256>::new(), Sha256),
            (Kind::Rsa(key), "PS384") => rsa!(key, Pss::<Sha384>::new(), Sha384),
            (Kind::Rsa(key), "PS512") => rsa!(key, Pss::<Sha512>::new(), Sha512),
            (Kind::Ed25519(key), "EdDSA") => ed25519_dalek::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok()),
            _ => {
                return Err(KeyError::Algorithm {
                    algorithm: alg.to_owned(),
                    key: self.id(),
                });
            }
        };
        if verified {
            Ok(())
        } else {
            Err(KeyError::Mismatch { key: self.id() })
        }
    }
}

/// The `SubjectPublicKeyInfo` of a certificate, both in DER.
fn key_info(certificate: &[u8]) -> Result<Vec<u8>, KeyError> {
    let bad = |error: x509_cert::der::Error| KeyError::Certificate(error.to_string());
    let certificate = Certificate::from_der(certificate).map_err(bad)?;
    let info = certificate.tbs_certificate().subject_public_key_info();
    info.to_der().map_err(bad)
}

fn unknown_kind() -> KeyError {
    KeyError::Certificate("its key is neither EC nor RSA nor Ed25519".to_owned())
}

fn text<'a>(jwk: &'a Jwk, name: &str) -> Result<&'a str, KeyError> {
    let value = jwk.get(name).and_then(Value::as_str);
    value.ok_or_else(|| bad_key(format_args!("it has no {name:?}")))
}

fn bytes(jwk: &Jwk, name: &str) -> Result<Vec<u8>, KeyError> {
    base64url::decode(text(jwk, name)?)
        .map_err(|error| bad_key(format_args!("{name:?} is not base64url: {error}")))
}

/// Base32 without padding (RFC 4648, section 6) of a multiple of five bytes.
fn base32(bytes: &[u8]) -> Vec<char> {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut out = Vec::with_capacity(bytes.len() / 5 * 8);
    for five in bytes.chunks_exact(5) {
        let bits = five
            .iter()
            .fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
        let group = (0..8).rev().map(|n| (bits >> (5 * n) & 31) as usize);
        out.extend(group.map(|index| char::from(ALPHABET[index])));
    }
    out
}
