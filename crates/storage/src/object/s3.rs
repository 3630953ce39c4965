//! Amazon S3 and what speaks its protocol: how a bucket is found and asked.

mod credentials;
mod endpoint;
mod signed;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use object_store::aws::AmazonS3Builder;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService,
};
use object_store::{BackoffConfig, ClientOptions, HeaderMap, HeaderValue, RetryConfig};
use tracing::{debug, info};

pub use self::credentials::{CredentialsError, S3Credentials};
pub use self::endpoint::{Amazon, S3Endpoint};
pub(super) use self::signed::{OpenUpload, Signed};
use super::bucket::Bucket;

/// The type that Distribution gives to all that it writes.
const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// How the objects of a bucket are to be encrypted by the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum S3Encryption {
    /// With keys that the store holds.
    Store,
    /// With a key of the key management service, by its name.
    Kms(String),
}

/// How files are copied within a bucket.
#[derive(Clone, Copy, Debug)]
pub struct CopyOptions {
    /// Larger files are copied part by part, in bytes.
    pub threshold: u64,
    /// The size of those parts in bytes.
    pub part: u64,
    /// How many of them are copied at once.
    pub concurrency: usize,
}

/// How often and how long a request is tried.
#[derive(Clone, Copy, Debug)]
pub struct Retries {
    /// How often it is sent again.
    pub most: usize,
    /// For how long it is sent again.
    pub within: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            most: 6,
            within: Duration::from_secs(60),
        }
    }
}

/// What is to be known of a bucket.
#[derive(Clone, Debug)]
pub struct S3Options {
    /// The bucket's name.
    pub bucket: String,
    /// The region that requests are signed for.
    pub region: String,
    /// Where it is.
    pub endpoint: S3Endpoint,
    /// The folder in the bucket below which everything is kept.
    pub root: String,
    /// Who asks.
    pub credentials: S3Credentials,
    /// How objects are to be encrypted.
    pub encryption: Option<S3Encryption>,
    /// The storage class of objects, where it is not the store's own default.
    pub storage_class: Option<String>,
    /// The access list of objects, where it is not the store's own default.
    pub acl: Option<String>,
    /// The size of the parts of large files in bytes, at least 5 MiB.
    pub part: u64,
    /// How files are copied.
    pub copying: CopyOptions,
    /// How often requests are tried.
    pub retries: Retries,
    /// Whether each request is told in the log.
    pub log_requests: bool,
}

impl S3Options {
    /// The bucket, asked by `client`.
    pub(super) fn bucket(&self, client: reqwest::Client) -> object_store::Result<Bucket> {
        let client = Client {
            client,
            log: self.log_requests,
        };
        let store = self.builder(&client).build()?;
        let mut headers = HeaderMap::new();
        headers.insert(http::header::CONTENT_TYPE, CONTENT_TYPE);
        for (name, value) in [
            ("x-amz-storage-class", &self.storage_class),
            ("x-amz-acl", &self.acl),
        ] {
            if let Some(value) = value {
                let value = HeaderValue::from_str(value).map_err(|error| generic(error.into()))?;
                headers.insert(name, value);
            }
        }
        let making = self
            .builder(&client)
            .with_credentials(Arc::clone(store.credentials()))
            .with_client_options(ClientOptions::new().with_default_headers(headers));
        let making = self.encrypted(making).build()?;
        let signed = Signed::new(self, &store, HttpClient::new(client));
        Ok(Bucket {
            store,
            making,
            signed,
            copying: self.copying,
        })
    }

    fn builder(&self, client: &Client) -> AmazonS3Builder {
        let builder = AmazonS3Builder::new()
            .with_bucket_name(&self.bucket)
            .with_region(&self.region)
            .with_endpoint(self.endpoint.of(&self.bucket))
            // The endpoint has the bucket in it, in whatever style.
            .with_virtual_hosted_style_request(true)
            .with_retry(self.retries.config())
            .with_http_connector(client.clone());
        self.credentials.give(builder)
    }

    fn encrypted(&self, builder: AmazonS3Builder) -> AmazonS3Builder {
        match &self.encryption {
            None => builder,
            Some(S3Encryption::Store) => {
                let key = "aws_server_side_encryption".parse();
                builder.with_config(key.expect("it is a key of the builder's"), "AES256")
            }
            Some(S3Encryption::Kms(name)) => builder.with_sse_kms_encryption(name),
        }
    }
}

impl Retries {
    fn config(self) -> RetryConfig {
        RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(5),
                base: 2.0,
            },
            max_retries: self.most,
            retry_timeout: self.within,
        }
    }
}

/// The client that all requests go through.
#[derive(Clone)]
struct Client {
    client: reqwest::Client,
    log: bool,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl HttpConnector for Client {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Client {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let began = std::time::Instant::now();
        let answer = HttpService::call(&self.client, request).await;
        let status = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
        let ms = began.elapsed().as_millis();
        match self.log {
            true => info!(%method, path, status, ms, "a request to the store"),
            false => debug!(%method, path, status, ms, "a request to the store"),
        }
        answer
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

fn generic(source: BoxError) -> object_store::Error {
    object_store::Error::Generic {
        store: "S3",
        source,
    }
}
