//! The state of an upload that its client carries from request to request (`_state`): signed, so
//! that any node that shares the secret can trust it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use wharfinger_oci::{Algorithm, RepositoryName};
use wharfinger_registry::{Told, UploadId};

/// The length of the signature in front of the state, in bytes.
const SIGNATURE: usize = 32;

/// What a client carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UploadState {
    /// The repository's name.
    pub name: String,
    /// The upload's name.
    #[serde(rename = "UUID")]
    pub uuid: String,
    /// How many bytes had been received when the state was made.
    pub offset: u64,
    /// When the upload was begun.
    pub started_at: Timestamp,
    /// The algorithm that it was begun with, where that is not the canonical one. Distribution
    /// passes it over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<String>,
}

impl UploadState {
    /// Whether this is the state of this upload.
    pub(crate) fn is_of(&self, name: &RepositoryName, id: &UploadId) -> bool {
        self.name == name.as_str() && self.uuid == id.to_string()
    }

    /// What the client was told.
    pub(crate) fn told(&self) -> Told {
        Told {
            offset: self.offset,
            started_at: self.started_at,
        }
    }

    /// The algorithm that the upload was begun with.
    pub(crate) fn algorithm(&self) -> Algorithm {
        let named = self.algorithm.as_ref();
        let known = named.and_then(|name| name.parse().ok());
        known.unwrap_or(Algorithm::CANONICAL)
    }

    /// How an algorithm is named.
    pub(crate) fn named(algorithm: Algorithm) -> Option<String> {
        (algorithm != Algorithm::CANONICAL).then(|| algorithm.to_string())
    }
}

/// The key that signs states.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

impl Secret {
    /// The key for a configured secret.
    pub fn new(secret: &str) -> Self {
        Self(secret.as_bytes().to_vec())
    }

    /// A key that nobody else has.
    pub(crate) fn generate() -> Self {
        let mut key = uuid::Uuid::new_v4().as_bytes().to_vec();
        key.extend_from_slice(uuid::Uuid::new_v4().as_bytes());
        Self(key)
    }

    fn mac(&self, message: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(message);
        mac
    }

    /// The token for a state: signature and JSON, in base64 for URLs, as Distribution makes it.
    pub fn sign(&self, state: &UploadState) -> String {
        let json = serde_json::to_vec(state).expect("a state is plain data");
        let mut token = self.mac(&json).finalize().into_bytes().to_vec();
        token.extend_from_slice(&json);
        URL_SAFE.encode(token)
    }

    /// The state in a token, or `None` when it was not signed with this secret.
    pub fn verify(&self, token: &str) -> Option<UploadState> {
        let token = URL_SAFE.decode(token).ok()?;
        let (signature, json) = token.split_at_checked(SIGNATURE)?;
        self.mac(json).verify_slice(signature).ok()?;
        serde_json::from_slice(json).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_signed_with_the_secret_is_taken() {
        let state = UploadState {
            name: "a/b".to_owned(),
            uuid: UploadId::generate().to_string(),
            offset: 7,
            started_at: "2026-01-02T03:04:05Z".parse().unwrap(),
            algorithm: None,
        };
        let other = UploadState {
            algorithm: UploadState::named(Algorithm::Sha512),
            ..state.clone()
        };
        assert_eq!(other.algorithm(), Algorithm::Sha512);
        assert_eq!(state.algorithm(), Algorithm::CANONICAL);
        let json = serde_json::to_string(&state).unwrap();
        assert!(!json.contains("lgorithm"), "{json}");
        let secret = Secret::new("s3cret");
        let token = secret.sign(&state);
        assert_eq!(secret.verify(&token), Some(state));
        assert_eq!(Secret::new("other").verify(&token), None);
        for bad in ["", "AAAA", "not base64!", &token[4..]] {
            assert_eq!(secret.verify(bad), None, "{bad}");
        }
        for at in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            // The last characters of base64 may carry bits that stand for nothing.
            if URL_SAFE.decode(&forged).ok() != URL_SAFE.decode(&token).ok() {
                assert_eq!(secret.verify(&forged), None, "changed at {at}");
            }
        }
    }
}
