//! The requests that `object_store` does not have, signed by its means.

use std::ops::Range;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use http_body_util::BodyExt as _;
use object_store::aws::{AmazonS3, AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{HttpClient, HttpErrorKind, HttpRequest, HttpRequestBody};
use object_store::{Error, Result};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Retries, S3Options, generic};

/// What stands as it is in a key within an address, as the signature has it.
const KEY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

/// The same for a value in a query.
const VALUE: &AsciiSet = &KEY.add(b'/');

/// Sends requests that are signed here.
#[derive(Debug)]
pub(in crate::object) struct Signed {
    bucket: String,
    address: String,
    region: String,
    credentials: AwsCredentialProvider,
    client: HttpClient,
    retries: Retries,
}

/// A multipart upload that is neither complete nor given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::object) struct OpenUpload {
    pub(in crate::object) key: String,
    pub(in crate::object) id: String,
    pub(in crate::object) begun: SystemTime,
}

#[derive(Debug, Deserialize)]
struct CopyPartResult {
    #[serde(rename = "ETag")]
    e_tag: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UploadList {
    #[serde(default, rename = "Upload")]
    uploads: Vec<UploadEntry>,
    #[serde(default)]
    is_truncated: bool,
    next_key_marker: Option<String>,
    next_upload_id_marker: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UploadEntry {
    key: String,
    upload_id: String,
    initiated: String,
}

impl Signed {
    pub(super) fn new(options: &S3Options, store: &AmazonS3, client: HttpClient) -> Self {
        Self {
            bucket: options.bucket.clone(),
            address: options.endpoint.of(&options.bucket),
            region: options.region.clone(),
            credentials: store.credentials().clone(),
            client,
            retries: options.retries,
        }
    }

    pub(in crate::object) fn retries(&self) -> Retries {
        self.retries
    }

    pub(in crate::object) fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Copies a range of an object into a part of a multipart upload (UploadPartCopy); gives the
    /// part's id.
    pub(in crate::object) async fn copy_part(
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
    pub(in crate::object) async fn open_uploads(&self, prefix: &str) -> Result<Vec<OpenUpload>> {
        let mut uploads = Vec::new();
        let mut after: Option<(String, String)> = None;
        loop {
            let mut query = vec![("uploads", ""), ("prefix", prefix)];
            if let Some((key, id)) = &after {
                query.push(("key-marker", key));
                query.push(("upload-id-marker", id));
            }
            let list: UploadList = self.send(Method::GET, "", &query, &[]).await?;
            for entry in list.uploads {
                uploads.push(OpenUpload {
                    begun: time(&entry.initiated)?,
                    key: entry.key,
                    id: entry.upload_id,
                });
            }
            after = match (list.is_truncated, list.next_key_marker) {
                (true, Some(key)) => Some((key, list.next_upload_id_marker.unwrap_or_default())),
                _ => return Ok(uploads),
            };
        }
    }

    /// Sends a request without a body, again and again where that makes sense, and reads the
    /// answer. An answer of success may hold an error: the store begins it before it is done.
    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        key: &str,
        query: &[(&str, &str)],
        headers: &[(&str, String)],
    ) -> Result<T> {
        let began = Instant::now();
        let mut tried = 0;
        loop {
            let (error, again) = match self.try_once(&method, key, query, headers).await? {
                Ok((status, body)) if status.is_success() => {
                    match quick_xml::de::from_reader(body.as_ref()) {
                        Ok(answer) => return Ok(answer),
                        Err(_) => (generic(text(status, &body).into()), true),
                    }
                }
                Ok((StatusCode::NOT_FOUND, body)) => {
                    let source = text(StatusCode::NOT_FOUND, &body).into();
                    let path = key.to_owned();
                    return Err(Error::NotFound { path, source });
                }
                Ok((StatusCode::FORBIDDEN, body)) => {
                    let source = text(StatusCode::FORBIDDEN, &body).into();
                    let path = key.to_owned();
                    return Err(Error::PermissionDenied { path, source });
                }
                Ok((status, body)) => {
                    let again = status.is_server_error() || status.as_u16() == 429;
                    (generic(text(status, &body).into()), again)
                }
                Err(error) => {
                    let again = !matches!(error.kind(), HttpErrorKind::Unknown);
                    (generic(error.into()), again)
                }
            };
            if !again || tried >= self.retries.most || began.elapsed() >= self.retries.within {
                return Err(error);
            }
            tried += 1;
            let wait = Duration::from_millis(100 << tried.min(5));
            tokio::time::sleep(wait.mul_f64(0.5 + jitter() / 2.0)).await;
        }
    }

    async fn try_once(
        &self,
        method: &Method,
        key: &str,
        query: &[(&str, &str)],
        headers: &[(&str, String)],
    ) -> Result<Result<(StatusCode, Bytes), object_store::client::HttpError>> {
        let query: Vec<_> = query
            .iter()
            .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, VALUE)))
            .collect();
        let key = utf8_percent_encode(key, KEY);
        let address = format!("{}/{key}?{}", self.address, query.join("&"));
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = method.clone();
        *request.uri_mut() = address
            .parse()
            .map_err(|error: http::uri::InvalidUri| generic(error.into()))?;
        for (name, value) in headers {
            let name = http::HeaderName::from_bytes(name.as_bytes())
                .map_err(|error| generic(error.into()))?;
            let value = HeaderValue::from_str(value).map_err(|error| generic(error.into()))?;
            request.headers_mut().insert(name, value);
        }
        let credential = self.credentials.get_credential().await?;
        AwsAuthorizer::new(&credential, "s3", &self.region).try_authorize(&mut request, None)?;
        let answered = async {
            let answer = self.client.execute(request).await?;
            let status = answer.status();
            let body = answer.into_body().collect().await?.to_bytes();
            Ok((status, body))
        };
        Ok(answered.await)
    }
}

fn text(status: StatusCode, body: &[u8]) -> String {
    format!("status {status}: {}", String::from_utf8_lossy(body))
}

/// A number from 0 to 1.
fn jitter() -> f64 {
    let (bits, _) = uuid::Uuid::new_v4().as_u64_pair();
    f64::from((bits >> 32) as u32) / f64::from(u32::MAX)
}

fn time(text: &str) -> Result<SystemTime> {
    let time: jiff::Timestamp = text
        .parse()
        .map_err(|error: jiff::Error| generic(error.into()))?;
    Ok(time.into())
}
