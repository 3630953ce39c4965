//! The key that signs schema 1 manifests which have no signature of their own.

use std::time::SystemTime;

use jiff::Timestamp;
use p256::ecdsa::signature::Signer;
use p256::elliptic_curve::Generate;
use rsa::Pkcs1v15Sign;
use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::pkcs8::DecodePrivateKey;
use rsa::sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::jws::{Format, Signature, signing_input};
use crate::key::PublicKey;

/// A text does not hold a key that can sign manifests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "it holds no private key in PEM that can be used: an EC key on P-256, P-384 or P-521 or an RSA \
     key, not encrypted, as \"EC PRIVATE KEY\", \"RSA PRIVATE KEY\" or \"PRIVATE KEY\""
)]
pub struct SigningKeyError;

/// A private key that signs manifests.
#[derive(Clone, Debug)]
pub struct SigningKey(Kind);

#[derive(Clone, Debug)]
enum Kind {
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
    P521(p521::ecdsa::SigningKey),
    Rsa(Box<rsa::PrivateKey>),
}

impl SigningKey {
    /// A new key on P-256.
    pub fn generate() -> Self {
        Self(Kind::P256(p256::ecdsa::SigningKey::generate()))
    }

    /// The first private key in a PEM text: SEC 1 ("EC PRIVATE KEY"), PKCS#1 ("RSA PRIVATE KEY")
    /// or PKCS#8 ("PRIVATE KEY"). What stands before it, such as "EC PARAMETERS", and the headers
    /// that libtrust writes are passed over.
    ///
    /// # Errors
    /// When there is no such key, or it is encrypted.
    pub fn from_pem(text: &str) -> Result<Self, SigningKeyError> {
        let block = private_key_block(text).ok_or(SigningKeyError)?;
        ec_keys(&block)
            .or_else(|| {
                let rsa = rsa::PrivateKey::from_pkcs1_pem(&block).ok();
                let rsa = rsa.or_else(|| rsa::PrivateKey::from_pkcs8_pem(&block).ok());
                rsa.map(|key| Kind::Rsa(Box::new(key)))
            })
            .map(Self)
            .ok_or(SigningKeyError)
    }

    /// libtrust's id of the key, as it stands in `kid`.
    pub fn id(&self) -> String {
        self.public().id()
    }

    pub(super) fn public(&self) -> PublicKey {
        match &self.0 {
            Kind::P256(key) => (*key.verifying_key()).into(),
            Kind::P384(key) => (*key.verifying_key()).into(),
            Kind::P521(key) => (*key.verifying_key()).into(),
            Kind::Rsa(key) => key.to_public_key().into(),
        }
    }

    /// Signs a payload of this format, and says that it was at `time`.
    pub(super) fn sign(&self, payload: &[u8], format: &Format, time: SystemTime) -> Signature {
        let time = Timestamp::try_from(time).unwrap_or_default();
        let seconds = Timestamp::from_second(time.as_second()).unwrap_or_default();
        let protected = format.to_protected(seconds.to_string());
        let input = signing_input(&protected, payload);
        let input = input.as_bytes();
        let (alg, signature) = match &self.0 {
            Kind::P256(key) => {
                let signature: p256::ecdsa::Signature = key.sign(input);
                ("ES256", signature.to_vec())
            }
            Kind::P384(key) => {
                let signature: p384::ecdsa::Signature = key.sign(input);
                ("ES384", signature.to_vec())
            }
            Kind::P521(key) => {
                let signature: p521::ecdsa::Signature = key.sign(input);
                ("ES512", signature.to_vec())
            }
            Kind::Rsa(key) => {
                let hash = Sha256::digest(input);
                let signature = key
                    .sign(Pkcs1v15Sign::new::<Sha256>(), &hash)
                    .expect("a key of at least 1024 bits can sign 32 bytes");
                ("RS256", signature)
            }
        };
        Signature::new(self.public(), alg, &signature, protected)
    }
}

fn ec_keys(block: &str) -> Option<Kind> {
    macro_rules! read {
        ($curve:ident) => {
            $curve::SecretKey::from_sec1_pem(block)
                .ok()
                .or_else(|| $curve::SecretKey::from_pkcs8_pem(block).ok())
                .map($curve::ecdsa::SigningKey::from)
        };
    }
    let p256 = read!(p256).map(Kind::P256);
    let p384 = || read!(p384).map(Kind::P384);
    let p521 = || read!(p521).map(Kind::P521);
    p256.or_else(p384).or_else(p521)
}

/// The first PEM block whose label ends with `PRIVATE KEY`, without headers (RFC 1421 has them,
/// RFC 7468 does not; libtrust writes some).
fn private_key_block(text: &str) -> Option<String> {
    let mut lines = text.lines().map(str::trim);
    let begin =
        lines.find(|line| line.starts_with("-----BEGIN ") && line.ends_with("PRIVATE KEY-----"))?;
    let end = begin.replacen("BEGIN", "END", 1);
    let body: Vec<&str> = lines.take_while(|line| *line != end).collect();
    let is_base64 = |line: &&str| !line.is_empty() && !line.contains(':');
    let body: String = body.into_iter().filter(is_base64).collect();
    let mut block = format!("{begin}\n");
    for line in body.as_bytes().chunks(64) {
        block.push_str(std::str::from_utf8(line).ok()?);
        block.push('\n');
    }
    Some(block + &end + "\n")
}
