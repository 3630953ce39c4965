//! Amazon S3 and what speaks its protocol: how a bucket is found and asked.

mod credentials;
mod endpoint;
mod signed;

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::client::HttpClient;
use object_store::multipart::{MultipartStore as _, PartId};
use object_store::path::Path;
use object_store::{
    ClientOptions, HeaderMap, HeaderValue, ObjectStoreExt as _, PutPayload, Result,
};

pub use self::credentials::{CredentialsError, S3Credentials};
pub use self::endpoint::{Amazon, S3Endpoint};
use self::signed::Signed;
use super::bucket::{Bucket, CopyOptions};
use super::client::{Client, Retries};
use super::requests::generic;
use super::store::{Objects, OpenUpload, Store};

/// The store's name in errors.
const STORE: &str = "S3";

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
    pub(super) fn bucket(&self, client: reqwest::Client) -> Result<Bucket> {
        let client = Client {
            client,
            log: self.log_requests,
            at_once: None,
        };
        let store = self.builder(&client).build()?;
        let mut headers = HeaderMap::new();
        headers.insert(http::header::CONTENT_TYPE, CONTENT_TYPE);
        for (name, value) in [
            ("x-amz-storage-class", &self.storage_class),
            ("x-amz-acl", &self.acl),
        ] {
            if let Some(value) = value {
                let value = HeaderValue::from_str(value).map_err(|error| generic(STORE, error))?;
                headers.insert(name, value);
            }
        }
        let making = self
            .builder(&client)
            .with_credentials(Arc::clone(store.credentials()))
            .with_client_options(ClientOptions::new().with_default_headers(headers));
        let making = self.encrypted(making).build()?;
        let signed = Signed::new(self, &store, HttpClient::new(client));
        let store = S3Store {
            store,
            making,
            signed,
        };
        Ok(Bucket {
            name: self.bucket.clone(),
            store: Box::new(store),
            copying: self.copying,
            retries: self.retries,
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

/// A bucket of Amazon's, or of what speaks its protocol.
#[derive(Debug)]
struct S3Store {
    store: AmazonS3,
    /// The same, for requests that make objects: it says what each of them is to have.
    making: AmazonS3,
    /// The requests that neither has.
    signed: Signed,
}

#[async_trait]
impl Store for S3Store {
    fn objects(&self) -> &dyn Objects {
        &self.store
    }

    fn most_parts(&self) -> usize {
        10_000
    }

    async fn put(&self, key: &Path, content: PutPayload) -> Result<()> {
        self.making.put(key, content).await.map(drop)
    }

    async fn copy(&self, from: &Path, to: &Path) -> Result<()> {
        self.making.copy(from, to).await
    }

    async fn begin(&self, key: &Path) -> Result<String> {
        self.making.create_multipart(key).await
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

    async fn copy_part(
        &self,
        from: &Path,
        range: Range<u64>,
        to: &Path,
        upload: &str,
        index: usize,
    ) -> Result<String> {
        let (from, to) = (from.as_ref(), to.as_ref());
        self.signed.copy_part(from, range, to, upload, index).await
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
        self.signed.open_uploads(prefix).await
    }
}
