//! The keys that are trusted.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Sha256, Sha384, Sha512};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter};
use wharfinger_oci::key::{Jwk, PublicKey, base64url};
use x509_cert::Certificate;
use x509_cert::der::Decode;

use super::jws::Header;
use super::{TokenError, TokenOptions};

/// How many certificates a chain may have: verifying one takes time, and anybody can send one.
const MAX_CHAIN: usize = 10;

/// A key that a token can be verified with.
#[derive(Clone, Debug)]
pub(super) struct Key {
    kind: Kind,
    /// The only algorithm it is for, where that is told.
    alg: Option<String>,
}

#[derive(Clone)]
enum Kind {
    Public(PublicKey),
    Secret(Vec<u8>),
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Public(key) => f.debug_tuple("Public").field(&key.id()).finish(),
            Self::Secret(_) => f.write_str("Secret(..)"),
        }
    }
}

impl From<PublicKey> for Key {
    fn from(key: PublicKey) -> Self {
        Self {
            kind: Kind::Public(key),
            alg: None,
        }
    }
}

impl Key {
    /// The kind of key decides what a signature can be, never the token: a public key is no secret
    /// that anybody could sign by.
    pub(super) fn verify(&self, alg: &str, signed: &[u8], signature: &[u8]) -> Result<(), String> {
        macro_rules! hmac {
            ($secret:expr, $hash:ty) => {{
                let mut mac = Hmac::<$hash>::new_from_slice($secret).expect("any length is a key");
                mac.update(signed);
                mac.verify_slice(signature).is_ok()
            }};
        }
        if self.alg.as_ref().is_some_and(|only| only != alg) {
            return Err(format!("its key is not for {alg}"));
        }
        let verified = match (&self.kind, alg) {
            (Kind::Public(key), alg) => {
                let verified = key.verify(alg, signed, signature);
                return verified.map_err(|error| format!("its signature: {error}"));
            }
            (Kind::Secret(secret), "HS256") => hmac!(secret, Sha256),
            (Kind::Secret(secret), "HS384") => hmac!(secret, Sha384),
            (Kind::Secret(secret), "HS512") => hmac!(secret, Sha512),
            (Kind::Secret(_), alg) => return Err(format!("its key does not sign by {alg}")),
        };
        if verified {
            Ok(())
        } else {
            Err("its signature was not made with the key that it names".to_owned())
        }
    }

    /// A key of a set; `None` for one that is not for signing.
    fn from_jwk(jwk: &Jwk) -> Result<Option<Self>, String> {
        if jwk
            .get("use")
            .and_then(Value::as_str)
            .is_some_and(|u| u != "sig")
        {
            return Ok(None);
        }
        let alg = jwk.get("alg").and_then(Value::as_str).map(str::to_owned);
        let kind = if jwk.get("kty").and_then(Value::as_str) == Some("oct") {
            let secret = jwk.get("k").and_then(Value::as_str).map(base64url::decode);
            match secret {
                Some(Ok(secret)) if !secret.is_empty() => Kind::Secret(secret),
                _ => return Err("its \"k\" is missing or is no base64url".to_owned()),
            }
        } else {
            Kind::Public(PublicKey::from_jwk(jwk).map_err(|error| error.to_string())?)
        };
        Ok(Some(Self { kind, alg }))
    }
}

/// The key that a token names.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) key: Key,
    /// When the first certificate of the chain that vouches for it expires, in seconds since 1970;
    /// `None` where none does.
    pub(super) until: Option<f64>,
}

/// All keys that are trusted, and the certificates that may vouch for others.
#[derive(Debug, Default)]
pub(super) struct TrustedKeys {
    by_id: HashMap<String, Key>,
    roots: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
}

impl TrustedKeys {
    pub(super) fn load(options: &TokenOptions) -> Result<Self, TokenError> {
        let mut keys = Self::default();
        if let Some(path) = &options.rootcertbundle {
            keys.load_bundle(path).map_err(|reason| TokenError {
                key: "rootcertbundle",
                reason: format!("{}: {reason}", path.display()),
            })?;
        }
        if let Some(path) = &options.jwks {
            keys.load_set(path).map_err(|reason| TokenError {
                key: "jwks",
                reason: format!("{}: {reason}", path.display()),
            })?;
        }
        if keys.by_id.is_empty() {
            // A bundle that is named has a key, or was refused above.
            return Err(match &options.jwks {
                Some(path) => TokenError {
                    key: "jwks",
                    reason: format!("{}: there is no key to verify tokens with", path.display()),
                },
                None => TokenError {
                    key: "rootcertbundle",
                    reason: "there is no key to verify tokens with; name a file of them here or \
                             in jwks"
                        .to_owned(),
                },
            });
        }
        Ok(keys)
    }

    fn load_bundle(&mut self, path: &Path) -> Result<(), String> {
        let pem = fs::read(path).map_err(|error| error.to_string())?;
        for (number, certificate) in (1..).zip(CertificateDer::pem_slice_iter(&pem)) {
            let certificate = certificate.map_err(|error| format!("it is no PEM: {error}"))?;
            let key = PublicKey::from_certificate(&certificate)
                .map_err(|error| format!("certificate {number} in it cannot be used: {error}"))?;
            self.trust(&key, key.clone().into());
            // One that is too odd to vouch for others can still be a key.
            if let Ok(anchor) = webpki::anchor_from_trusted_cert(&certificate) {
                self.anchors.push(anchor.to_owned());
            }
            self.roots.push(certificate);
        }
        if self.roots.is_empty() {
            return Err("there is no certificate in it".to_owned());
        }
        Ok(())
    }

    fn load_set(&mut self, path: &Path) -> Result<(), String> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Jwk>,
        }
        let json = fs::read(path).map_err(|error| error.to_string())?;
        let set: Set = serde_json::from_slice(&json)
            .map_err(|error| format!("it is no JSON Web Key Set: {error}"))?;
        for (number, jwk) in (1..).zip(&set.keys) {
            let key = Key::from_jwk(jwk).map_err(|e| format!("key {number} in it: {e}"))?;
            let Some(key) = key else {
                continue;
            };
            match (&key.kind, jwk.get("kid").and_then(Value::as_str)) {
                (_, Some(kid)) => drop(self.by_id.insert(kid.to_owned(), key.clone())),
                (Kind::Secret(_), None) => {
                    return Err(format!("key {number} in it has no kid to be found by"));
                }
                (Kind::Public(_), None) => {}
            }
            if let Kind::Public(public) = &key.kind {
                let public = public.clone();
                self.trust(&public, key);
            }
        }
        Ok(())
    }

    /// Lets a key be found by libtrust's id and by its thumbprint.
    fn trust(&mut self, public: &PublicKey, key: Key) {
        for id in public.thumbprints().into_iter().chain([public.id()]) {
            self.by_id.insert(id, key.clone());
        }
    }

    /// The key that a token names, if it is trusted.
    pub(super) fn find(&self, header: &Header, now: f64) -> Result<Found, String> {
        if let Some(chain) = &header.x5c {
            return self.vouched_for(chain, now);
        }
        if let Some(jwk) = &header.jwk {
            let chain = jwk
                .get("x5c")
                .and_then(|chain| Vec::deserialize(chain).ok());
            if let Some(chain) = chain {
                return self.vouched_for(&chain, now);
            }
            let key = PublicKey::from_jwk(jwk).map_err(|error| format!("its jwk: {error}"))?;
            return self
                .trusted(&key.id())
                .ok_or_else(|| format!("key {} is not trusted", key.id()));
        }
        let kid = header.kid.as_ref().ok_or("it names no key")?;
        self.trusted(kid)
            .ok_or_else(|| format!("key {kid:?} is not trusted"))
    }

    fn trusted(&self, id: &str) -> Option<Found> {
        let key = self.by_id.get(id)?.clone();
        Some(Found { key, until: None })
    }

    /// The key of a chain's first certificate, if the chain leads to a trusted one.
    fn vouched_for(&self, chain: &[String], now: f64) -> Result<Found, String> {
        let wrong = |reason: &dyn std::fmt::Display| format!("its certificate: {reason}");
        if chain.len() > MAX_CHAIN {
            return Err(format!("its chain has more than {MAX_CHAIN} certificates"));
        }
        let chain: Vec<CertificateDer<'static>> = chain
            .iter()
            .map(|one| STANDARD.decode(one).map(CertificateDer::from))
            .collect::<Result<_, _>>()
            .map_err(|error| wrong(&error))?;
        let (leaf, intermediates) = chain.split_first().ok_or("its chain is empty")?;
        let key = PublicKey::from_certificate(leaf).map_err(|error| wrong(&error))?;
        let mut until = not_after(leaf).map_err(|error| wrong(&error))?;
        if self.roots.contains(leaf) {
            return Ok(Found {
                key: key.into(),
                until: Some(until),
            });
        }
        let time = UnixTime::since_unix_epoch(Duration::from_secs_f64(now.max(0.0)));
        let end = EndEntityCert::try_from(leaf).map_err(|error| wrong(&error))?;
        let path = end.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &self.anchors,
            intermediates,
            time,
            AnyUsage,
            None,
            None,
        );
        let path = path.map_err(|error| wrong(&error))?;
        for certificate in path.intermediate_certificates() {
            let end = not_after(&certificate.der()).map_err(|error| wrong(&error))?;
            until = until.min(end);
        }
        Ok(Found {
            key: key.into(),
            until: Some(until),
        })
    }
}

/// When a certificate expires, in seconds since 1970.
fn not_after(der: &[u8]) -> Result<f64, x509_cert::der::Error> {
    let certificate = Certificate::from_der(der)?;
    let end = certificate.tbs_certificate().validity().not_after;
    Ok(end.to_unix_duration().as_secs_f64())
}

/// Tokens are no usage that certificates know of.
struct AnyUsage;

impl ExtendedKeyUsageValidator for AnyUsage {
    fn validate(&self, _: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}
