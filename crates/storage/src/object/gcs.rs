//! Google Cloud Storage, by its XML API: how a bucket is found and asked.

mod credentials;

use std::env;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Method};
use object_store::client::{HttpClient, HttpRequest, HttpRequestBody};
use object_store::gcp::{GcpCredentialProvider, GoogleCloudStorage, GoogleCloudStorageBuilder};
use object_store::multipart::{MultipartStore as _, PartId};
use object_store::path::Path;
use object_store::signer::Signer as _;
use object_store::{Attribute, Attributes, ObjectStoreExt as _, PutPayload, Result};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::Semaphore;

pub use self::credentials::{
    CredentialsFault, GcsCredentials, GcsCredentialsError, ServiceAccount,
};
use super::bucket::{Bucket, CopyOptions};
use super::client::{Client, Retries};
use super::open_uploads::{self, Query, UploadList};
use super::requests::Requests;
use super::store::{Objects, OpenUpload, Store};

/// The store's name in errors.
const STORE: &str = "GCS";

/// Google's own server.
const GOOGLE: &str = "https://storage.googleapis.com";

/// The type by which Distribution marks what is no file yet: it keeps the end of an unfinished
/// upload under the upload's own key, and the name of the upload beside it.
const SESSION: &str = "application/x-docker-upload-session";

/// How many bytes of an upload such an object has at the most.
const LARGEST_SESSION: u64 = 256 * 1024;

/// How many pieces of an object are read and sent again at once.
const COPIED_AT_ONCE: usize = 2;

/// What is to be known of a bucket.
#[derive(Clone, Debug)]
pub struct GcsOptions {
    /// The bucket's name.
    pub bucket: String,
    /// The server, a scheme, a host and perhaps a port, where it is not Google's.
    pub endpoint: Option<String>,
    /// The folder in the bucket below which everything is kept.
    pub root: String,
    /// Who asks.
    pub credentials: GcsCredentials,
    /// The size of the parts of large files in bytes, at least 5 MiB.
    pub part: u64,
    /// How many requests are at work at once.
    pub concurrency: usize,
    /// How often requests are tried.
    pub retries: Retries,
}

impl GcsOptions {
    /// The server that `STORAGE_EMULATOR_HOST` names, as it does for Google's own libraries.
    pub fn emulator() -> Option<String> {
        emulator(&env::var("STORAGE_EMULATOR_HOST").ok()?)
    }

    /// The bucket, asked by `client`.
    pub(super) fn bucket(&self, client: reqwest::Client) -> Result<Bucket> {
        let client = Client {
            client,
            log: false,
            at_once: Some(Arc::new(Semaphore::new(self.concurrency))),
        };
        let endpoint = self.endpoint.as_deref().unwrap_or(GOOGLE);
        let builder = GoogleCloudStorageBuilder::new()
            .with_bucket_name(&self.bucket)
            .with_base_url(endpoint)
            .with_retry(self.retries.config())
            .with_http_connector(client.clone());
        let store = self.credentials.give(builder).build()?;
        let store = GcsStore {
            address: format!("{endpoint}/{}", self.bucket),
            credentials: match self.credentials {
                GcsCredentials::Nobody => None,
                _ => Some(Arc::clone(store.credentials())),
            },
            signs: self.credentials.can_sign(),
            requests: Requests::new(HttpClient::new(client), self.retries, STORE),
            store,
        };
        Ok(Bucket {
            name: self.bucket.clone(),
            store: Box::new(store),
            // Within a bucket, an object of any size is copied by one request.
            copying: CopyOptions {
                threshold: u64::MAX,
                part: self.part,
                concurrency: COPIED_AT_ONCE,
            },
            retries: self.retries,
        })
    }
}

/// A server by what names it: `host:port`, or behind a scheme, perhaps with the path at which
/// Google's other API is.
fn emulator(text: &str) -> Option<String> {
    let text = text.trim_end_matches('/');
    let text = text.strip_suffix("/storage/v1").unwrap_or(text);
    match text {
        "" => None,
        text if text.contains("://") => Some(text.to_owned()),
        text => Some(format!("http://{text}")),
    }
}

/// A bucket of Google's.
#[derive(Debug)]
struct GcsStore {
    store: GoogleCloudStorage,
    address: String,
    credentials: Option<GcpCredentialProvider>,
    /// Whether addresses can be signed.
    signs: bool,
    /// The requests that the store does not have.
    requests: Requests,
}

impl GcsStore {
    /// A request about the bucket itself.
    async fn request(&self, query: &Query) -> Result<HttpRequest> {
        let query = query.iter().map(|(name, value)| {
            let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
            format!("{name}={value}")
        });
        let address = format!("{}?{}", self.address, query.collect::<Vec<_>>().join("&"));
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = address
            .parse()
            .map_err(|error: http::uri::InvalidUri| self.requests.error(error))?;
        if let Some(credentials) = &self.credentials {
            let token = credentials.get_credential().await?;
            let value = HeaderValue::from_str(&format!("Bearer {}", token.bearer));
            let value = value.map_err(|error| self.requests.error(error))?;
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        Ok(request)
    }
}

#[async_trait]
impl Store for GcsStore {
    fn objects(&self) -> &dyn Objects {
        &self.store
    }

    fn most_parts(&self) -> usize {
        10_000
    }

    fn is_no_file(&self, attributes: &Attributes) -> bool {
        let kind = attributes.get(&Attribute::ContentType);
        kind.is_some_and(|kind| kind.as_ref() == SESSION)
    }

    fn may_be_no_file(&self, key: &str, size: u64) -> bool {
        size <= LARGEST_SESSION && key.contains("/_uploads/") && key.ends_with("/data")
    }

    async fn put(&self, key: &Path, content: PutPayload) -> Result<()> {
        self.store.put(key, content).await.map(drop)
    }

    async fn copy(&self, from: &Path, to: &Path) -> Result<()> {
        self.store.copy(from, to).await
    }

    async fn begin(&self, key: &Path) -> Result<String> {
        self.store.create_multipart(key).await
    }

    async fn put_part(
        &self,
        key: &Path,
        upload: &str,
        index: usize,
        content: PutPayload,
    ) -> Result<String> {
        let upload = upload.to_owned();
        let part = self.store.put_part(key, &upload, index, content).await?;
        Ok(part.content_id)
    }

    async fn complete(&self, key: &Path, upload: &str, parts: Vec<String>) -> Result<()> {
        let parts = parts.into_iter().map(|content_id| PartId { content_id });
        let upload = upload.to_owned();
        let completed = self.store.complete_multipart(key, &upload, parts.collect());
        completed.await.map(drop)
    }

    async fn abort(&self, key: &Path, upload: &str) -> Result<()> {
        self.store.abort_multipart(key, &upload.to_owned()).await
    }

    async fn open_uploads(&self, prefix: &str) -> Result<Vec<OpenUpload>> {
        let ask = async |query: Query| {
            let sent = self.requests.send(
                "",
                async || self.request(&query).await,
                |answer| UploadList::read(&answer.body),
            );
            sent.await
        };
        open_uploads::all(STORE, prefix, ask).await
    }

    async fn presigned(
        &self,
        method: Method,
        key: &Path,
        lasts: Duration,
    ) -> Result<Option<String>> {
        if !self.signs {
            return Ok(None);
        }
        let url = self.store.signed_url(method, key, lasts).await?;
        Ok(Some(url.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emulator_is_named_in_any_way() {
        let found = |text| emulator(text).unwrap_or_default();
        assert_eq!(found("localhost:9000"), "http://localhost:9000");
        assert_eq!(found("https://h/"), "https://h");
        assert_eq!(found("http://h:1/storage/v1/"), "http://h:1");
        assert_eq!(emulator(""), None);
    }
}
