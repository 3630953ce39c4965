//! The requests that `object_store` does not have, signed by its means.

use std::ops::Range;

use http::{HeaderValue, Method};
use object_store::Result;
use object_store::aws::{AmazonS3, AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{HttpClient, HttpRequest, HttpRequestBody};
use percent_encoding::utf8_percent_encode;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::super::open_uploads::{self, Query};
use super::super::requests::{KEY, Requests, VALUE};
use super::super::store::OpenUpload;
use super::{S3Options, STORE};

/// Sends requests that are signed here.
#[derive(Debug)]
pub(super) struct Signed {
    bucket: String,
    address: String,
    region: String,
    credentials: AwsCredentialProvider,
    requests: Requests,
}

#[derive(Debug, Deserialize)]
struct CopyPartResult {
    #[serde(rename = "ETag")]
    e_tag: String,
}

impl Signed {
    pub(super) fn new(options: &S3Options, store: &AmazonS3, client: HttpClient) -> Self {
        Self {
            bucket: options.bucket.clone(),
            address: options.endpoint.of(&options.bucket),
            region: options.region.clone(),
            credentials: store.credentials().clone(),
            requests: Requests::new(client, options.retries, STORE),
        }
    }

    /// Copies a range of an object into a part of a multipart upload (UploadPartCopy); gives the
    /// part's id.
    pub(super) async fn copy_part(
        &self,
        from: &str,
        range: Range<u64>,
        to: &str,
        upload: &str,
        index: usize,
    ) -> Result<String> {
        let number = (index + 1).to_string();
        let query = [("partNumber", number.as_str()), ("uploadId", upload)];
        let source = format!("/{}/{}", self.bucket, utf8_percent_encode(from, KEY));
        let bytes = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
        let headers = [
            ("x-amz-copy-source", source),
            ("x-amz-copy-source-range", bytes),
        ];
        let copied: CopyPartResult = self.send(Method::PUT, to, &query, &headers).await?;
        Ok(copied.e_tag)
    }

    /// The multipart uploads under way below `prefix` (ListMultipartUploads).
    pub(super) async fn open_uploads(&self, prefix: &str) -> Result<Vec<OpenUpload>> {
        let ask = async |query: Query| {
            let query: Vec<_> = query
                .iter()
                .map(|(name, value)| (*name, &**value))
                .collect();
            self.send(Method::GET, "", &query, &[]).await
        };
        open_uploads::all(STORE, prefix, ask).await
    }

    /// Sends a request without a body and reads the answer. An answer of success may hold an error.
    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        key: &str,
        query: &[(&str, &str)],
        headers: &[(&str, String)],
    ) -> Result<T> {
        let make = async || self.request(&method, key, query, headers).await;
        let sent = self.requests.send(key, make, |answer| {
            quick_xml::de::from_reader(answer.body.as_ref()).ok()
        });
        sent.await
    }

    async fn request(
        &self,
        method: &Method,
        key: &str,
        query: &[(&str, &str)],
        headers: &[(&str, String)],
    ) -> Result<HttpRequest> {
        let query: Vec<_> = query
            .iter()
            .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, VALUE)))
            .collect();
        let key = utf8_percent_encode(key, KEY);
        let address = format!("{}/{key}?{}", self.address, query.join("&"));
        let wrong = |error: http::Error| self.requests.error(error);
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = method.clone();
        *request.uri_mut() = address
            .parse()
            .map_err(|error: http::uri::InvalidUri| wrong(error.into()))?;
        for (name, value) in headers {
            let name = http::HeaderName::from_bytes(name.as_bytes());
            let name = name.map_err(|error| wrong(error.into()))?;
            let value = HeaderValue::from_str(value).map_err(|error| wrong(error.into()))?;
            request.headers_mut().insert(name, value);
        }
        let credential = self.credentials.get_credential().await?;
        AwsAuthorizer::new(&credential, "s3", &self.region).try_authorize(&mut request, None)?;
        Ok(request)
    }
}
