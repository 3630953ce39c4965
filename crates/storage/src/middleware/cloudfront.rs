//! `cloudfront`: Amazon's servers at the edge have what is in the bucket, for whoever has an
//! address that was signed.

mod ranges;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rsa::pkcs1::DecodeRsaPrivateKey as _;
use rsa::pkcs8::DecodePrivateKey as _;
use rsa::{Pkcs1v15Sign, PrivateKey};
use serde_json::json;
use sha1::{Digest as _, Sha1};
use thiserror::Error;
use tokio::task::spawn_blocking;
use tracing::debug;

pub use self::ranges::AmazonRanges;
use super::Middleware;
use super::url::{InvalidUrl, Url};
use crate::{Driver, Error as StorageError, ObjectDriver, RedirectRequest, Result};

/// A text does not hold a key that addresses can be signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "it holds no private RSA key in PEM that can be used, not encrypted, as \"RSA PRIVATE KEY\" or \
     \"PRIVATE KEY\""
)]
pub struct InvalidKey;

/// Sends clients to a distribution of Amazon CloudFront, with an address that it has signed and
/// that ends; clients within Amazon's own networks, where wanted, to the store itself.
pub struct CloudFront {
    /// The driver that it stands around, which knows the keys of its objects.
    store: ObjectDriver,
    /// Ends in a slash.
    base: String,
    key: Arc<PrivateKey>,
    key_id: String,
    lasts: Duration,
    to_the_store: Option<Arc<AmazonRanges>>,
}

impl fmt::Debug for CloudFront {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { base, key_id, .. } = self;
        write!(f, "CloudFront({base}, {key_id})")
    }
}

impl CloudFront {
    /// A distribution at `base` (without a scheme, `https`) for a bucket of objects, with the
    /// private key and its id that addresses are signed by; they are good for `lasts`.
    ///
    /// # Errors
    /// When `base` is no URL of HTTP.
    pub fn new(
        store: ObjectDriver,
        base: &str,
        key: PrivateKey,
        key_id: &str,
        lasts: Duration,
    ) -> Result<Self, InvalidUrl> {
        let mut base = match base.contains("://") {
            true => base.to_owned(),
            false => format!("https://{base}"),
        };
        if !base.ends_with('/') {
            base.push('/');
        }
        Url::parse(&base)?;
        Ok(Self {
            store,
            base,
            key: Arc::new(key),
            key_id: key_id.to_owned(),
            lasts,
            to_the_store: None,
        })
    }

    /// Sends clients within `ranges` to the store itself.
    #[must_use]
    pub fn with_store_for(mut self, ranges: Arc<AmazonRanges>) -> Self {
        self.to_the_store = Some(ranges);
        self
    }

    /// Reads a key in PEM: PKCS#1 or PKCS#8.
    ///
    /// # Errors
    /// When there is none, or it is encrypted.
    pub fn key(pem: &str) -> Result<PrivateKey, InvalidKey> {
        let key = PrivateKey::from_pkcs1_pem(pem);
        key.or_else(|_| PrivateKey::from_pkcs8_pem(pem).map_err(drop))
            .map_err(|()| InvalidKey)
    }
}

#[async_trait]
impl Middleware for CloudFront {
    async fn redirect_url(
        &self,
        below: &dyn Driver,
        request: RedirectRequest<'_>,
    ) -> Result<Option<String>> {
        if let Some(ranges) = &self.to_the_store
            && let Some(client) = request.client
            && ranges.contain(client)
        {
            debug!(%client, "within Amazon's networks: to the store itself");
            return below.redirect_url(request).await;
        }
        let resource = format!("{}{}", self.base, self.store.key(request.path)?);
        let ends = SystemTime::now() + self.lasts;
        let ends = ends.duration_since(SystemTime::UNIX_EPOCH);
        let ends = ends.unwrap_or_default().as_secs();
        let policy = policy(&resource, ends);
        let key = Arc::clone(&self.key);
        // It takes a millisecond or two of a processor.
        let signed = spawn_blocking(move || signature(&key, &policy)).await;
        let signed = signed.map_err(io::Error::other);
        let signed = signed.and_then(|signed| signed.map_err(io::Error::other));
        let signature =
            signed.map_err(|error| StorageError::io(request.path, "sign its address", error))?;
        let (id, sign) = (&self.key_id, if resource.contains('?') { '&' } else { '?' });
        Ok(Some(format!(
            "{resource}{sign}Expires={ends}&Signature={signature}&Key-Pair-Id={id}"
        )))
    }
}

/// What is signed: CloudFront makes the same of the address that it is asked by, so every letter
/// counts.
fn policy(resource: &str, ends: u64) -> String {
    let resource = json!(resource);
    format!(
        r#"{{"Statement":[{{"Resource":{resource},"Condition":{{"DateLessThan":{{"AWS:EpochTime":{ends}}}}}}}]}}"#
    )
}

/// The signature in CloudFront's own base64, which can stand in a query.
fn signature(key: &PrivateKey, policy: &str) -> rsa::Result<String> {
    let signature = key.sign(Pkcs1v15Sign::new::<Sha1>(), &Sha1::digest(policy))?;
    let text = STANDARD.encode(signature);
    Ok(text.replace('+', "-").replace('=', "_").replace('/', "~"))
}

#[cfg(test)]
mod tests;
