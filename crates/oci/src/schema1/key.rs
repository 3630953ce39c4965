//! The public keys that signatures of schema 1 manifests are verified with.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use p256::ecdsa::signature::Verifier;
use rsa::pkcs8::{DecodePublicKey, EncodePublicKey, SubjectPublicKeyInfoRef};
use rsa::sha2::{Digest as _, Sha256, Sha384, Sha512};
use rsa::traits::PublicKeyParts;
use rsa::{BoxedUint, Pkcs1v15Sign};
use serde_json::Value;
use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};

use super::{Jwk, SignatureError, base64url};

/// How many bytes of SHA-256 a key id is made of (240 bits).
const KEY_ID_LENGTH: usize = 30;

/// A key of one of the kinds that libtrust knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PublicKey {
    P256(p256::ecdsa::VerifyingKey),
    P384(p384::ecdsa::VerifyingKey),
    P521(p521::ecdsa::VerifyingKey),
    Rsa(Box<rsa::PublicKey>),
}

fn bad_key(reason: impl std::fmt::Display) -> SignatureError {
    SignatureError::Key(reason.to_string())
}

impl PublicKey {
    /// The key that a JSON Web Key tells (RFC 7517; RFC 7518, section 6).
    ///
    /// # Errors
    /// When it is not a usable public key, or its `kid` is not the key's id.
    pub(super) fn from_jwk(jwk: &Jwk) -> Result<Self, SignatureError> {
        if jwk.contains_key("d") {
            return Err(bad_key("it is a private key"));
        }
        let key = match text(jwk, "kty")? {
            "EC" => Self::from_point(text(jwk, "crv")?, &bytes(jwk, "x")?, &bytes(jwk, "y")?)?,
            "RSA" => {
                let part = |name| Ok(BoxedUint::from_be_slice_vartime(&bytes(jwk, name)?));
                let key = rsa::PublicKey::new(part("n")?, part("e")?).map_err(bad_key)?;
                Self::Rsa(Box::new(key))
            }
            other => return Err(bad_key(format_args!("{other:?} is no known kty"))),
        };
        if jwk.contains_key("kid") {
            let told = text(jwk, "kid")?;
            let actual = key.id();
            if told != actual {
                return Err(bad_key(format_args!("its kid is {told}, its id {actual}")));
            }
        }
        Ok(key)
    }

    fn from_point(curve: &str, x: &[u8], y: &[u8]) -> Result<Self, SignatureError> {
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
            "P-256" => p256::ecdsa::VerifyingKey::from_sec1_bytes(&point).map(Self::P256),
            "P-384" => p384::ecdsa::VerifyingKey::from_sec1_bytes(&point).map(Self::P384),
            _ => p521::ecdsa::VerifyingKey::from_sec1_bytes(&point).map(Self::P521),
        };
        key.map_err(|_| bad_key(format_args!("it is not a point on {curve}")))
    }

    /// The key of the first certificate of a chain, each certificate in base64 of its DER
    /// (RFC 7515, section 4.1.6). Whether the chain is to be trusted is for clients to decide.
    ///
    /// # Errors
    /// When one of them is not a certificate, or the first has no usable key.
    pub(super) fn from_chain(chain: &[String]) -> Result<Self, SignatureError> {
        let bad = |reason: String| SignatureError::Certificate(reason);
        let certificates: Vec<_> = chain
            .iter()
            .map(|certificate| {
                let der = STANDARD
                    .decode(certificate)
                    .map_err(|e| bad(e.to_string()))?;
                Certificate::from_der(&der).map_err(|e| bad(e.to_string()))
            })
            .collect::<Result<_, _>>()?;
        let leaf = certificates
            .first()
            .ok_or_else(|| bad("the chain is empty".to_owned()))?;
        let info = leaf.tbs_certificate().subject_public_key_info();
        let der = info.to_der().map_err(|error| bad(error.to_string()))?;
        Self::from_der(&der).ok_or_else(|| bad("its key is neither EC nor RSA".to_owned()))
    }

    /// The key in a DER `SubjectPublicKeyInfo` (RFC 5280, section 4.1.2.7).
    fn from_der(der: &[u8]) -> Option<Self> {
        SubjectPublicKeyInfoRef::from_der(der).ok()?;
        p256::ecdsa::VerifyingKey::from_public_key_der(der)
            .map(Self::P256)
            .or_else(|_| p384::ecdsa::VerifyingKey::from_public_key_der(der).map(Self::P384))
            .or_else(|_| p521::ecdsa::VerifyingKey::from_public_key_der(der).map(Self::P521))
            .or_else(|_| rsa::PublicKey::from_public_key_der(der).map(|k| Self::Rsa(Box::new(k))))
            .ok()
    }

    /// libtrust's id of the key: base32 of the first 240 bits of SHA-256 over the key's DER, in
    /// twelve groups of four characters.
    pub(super) fn id(&self) -> String {
        let der = match self {
            Self::P256(key) => key.to_public_key_der(),
            Self::P384(key) => key.to_public_key_der(),
            Self::P521(key) => key.to_public_key_der(),
            Self::Rsa(key) => key.to_public_key_der(),
        };
        let der = der.expect("a key that was parsed can be encoded");
        let hash = Sha256::digest(der.as_bytes());
        let text = base32(&hash[..KEY_ID_LENGTH]);
        let groups: Vec<String> = text.chunks(4).map(|g| g.iter().collect()).collect();
        groups.join(":")
    }

    /// The key as a JSON Web Key with its id, as libtrust writes it; `extra` are further members.
    pub(super) fn to_jwk(&self, extra: &Jwk) -> Jwk {
        let mut jwk = extra.clone();
        let mut set = |name: &str, value: String| {
            jwk.insert(name.to_owned(), Value::String(value));
        };
        set("kid", self.id());
        let (curve, point) = match self {
            Self::P256(key) => ("P-256", key.to_sec1_point(false).as_bytes().to_vec()),
            Self::P384(key) => ("P-384", key.to_sec1_point(false).as_bytes().to_vec()),
            Self::P521(key) => ("P-521", key.to_sec1_point(false).as_bytes().to_vec()),
            Self::Rsa(key) => {
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

    /// Verifies a signature by the algorithm `alg` (RFC 7518, section 3.1).
    ///
    /// # Errors
    /// When the key does not know the algorithm, or did not sign `message` so.
    pub(super) fn verify(
        &self,
        alg: &str,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), SignatureError> {
        macro_rules! ecdsa {
            ($curve:ident, $key:expr) => {
                $curve::ecdsa::Signature::from_slice(signature)
                    .and_then(|signature| $key.verify(message, &signature))
                    .is_ok()
            };
        }
        let rsa = |key: &rsa::PublicKey, padding, hash: &[u8]| {
            key.verify(padding, hash, signature).is_ok()
        };
        let verified = match (self, alg) {
            (Self::P256(key), "ES256") => ecdsa!(p256, key),
            (Self::P384(key), "ES384") => ecdsa!(p384, key),
            (Self::P521(key), "ES512") => ecdsa!(p521, key),
            (Self::Rsa(key), "RS256") => {
                rsa(key, Pkcs1v15Sign::new::<Sha256>(), &Sha256::digest(message))
            }
            (Self::Rsa(key), "RS384") => {
                rsa(key, Pkcs1v15Sign::new::<Sha384>(), &Sha384::digest(message))
            }
            (Self::Rsa(key), "RS512") => {
                rsa(key, Pkcs1v15Sign::new::<Sha512>(), &Sha512::digest(message))
            }
            _ => {
                return Err(SignatureError::Algorithm {
                    algorithm: alg.to_owned(),
                    key: self.id(),
                });
            }
        };
        if verified {
            Ok(())
        } else {
            Err(SignatureError::Mismatch { key: self.id() })
        }
    }
}

fn text<'a>(jwk: &'a Jwk, name: &str) -> Result<&'a str, SignatureError> {
    let value = jwk.get(name).and_then(Value::as_str);
    value.ok_or_else(|| bad_key(format_args!("it has no {name:?}")))
}

fn bytes(jwk: &Jwk, name: &str) -> Result<Vec<u8>, SignatureError> {
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
