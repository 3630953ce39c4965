//! `/v2/<name>/blobs/<digest>`.

use http::{HeaderValue, Method, Response, StatusCode, header};
use wharfinger_oci::{Digest, RepositoryName};

use crate::answer::{DOCKER_CONTENT_DIGEST, digest_value, empty, etag, number};
use crate::body::Body;
use crate::call::Call;
use crate::conditional::{not_modified, precondition_failed, range_applies};
use crate::error::{ApiError, Code, Result};
use crate::event;
use crate::range::{ByteRange, range};

/// Blobs never change; a client may keep one for a year, as Distribution tells it.
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("max-age=31536000");

pub(crate) async fn get(
    call: &Call,
    name: &RepositoryName,
    digest: &Digest,
) -> Result<Response<Body>> {
    let method = &call.request.method;
    let blob = call.source(name).blob(digest, method).await?;
    let descriptor = blob.descriptor();
    if let Some(url) = blob.redirect(method, call.client.ip()).await? {
        let mut response = empty(StatusCode::TEMPORARY_REDIRECT);
        let url = HeaderValue::from_str(&url).map_err(|_| ApiError::new(Code::UNKNOWN))?;
        response.headers_mut().insert(header::LOCATION, url);
        response
            .headers_mut()
            .insert(DOCKER_CONTENT_DIGEST, digest_value(digest));
        event::blob_pulled(call, name, descriptor);
        return Ok(response);
    }
    if precondition_failed(&call.request.headers, digest) {
        return Ok(empty(StatusCode::PRECONDITION_FAILED));
    }
    let size = descriptor.size;
    let mut response = empty(StatusCode::OK);
    if not_modified(&call.request.headers, digest) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        let part = match call
            .request
            .headers
            .get(header::RANGE)
            .and_then(|v| v.to_str().ok())
        {
            Some(asked) if range_applies(&call.request.headers, digest) => range(asked, size),
            _ => ByteRange::Whole,
        };
        let part = match part {
            ByteRange::Whole => 0..size,
            ByteRange::Part(part) => {
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                let told = format!("bytes {}-{}/{size}", part.start, part.end - 1);
                if let Ok(told) = HeaderValue::from_str(&told) {
                    response.headers_mut().insert(header::CONTENT_RANGE, told);
                }
                part
            }
            ByteRange::Unsatisfiable => {
                let told = HeaderValue::from_str(&format!("bytes */{size}"));
                let told = told.unwrap_or(HeaderValue::from_static("bytes */*"));
                return Err(ApiError::new(Code::RANGE_INVALID).header(header::CONTENT_RANGE, told));
            }
        };
        let length = number(part.end - part.start);
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, length);
        if call.request.method == Method::GET {
            let content = blob.open(part).await?;
            *response.body_mut() = Body::content(content, call.connection.files.as_ref());
        }
        let content_type = HeaderValue::from_static("application/octet-stream");
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, content_type);
    }
    event::blob_pulled(call, name, descriptor);
    let headers = response.headers_mut();
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CACHE_CONTROL, CACHE_CONTROL);
    headers.insert(header::ETAG, etag(digest));
    headers.insert(DOCKER_CONTENT_DIGEST, digest_value(digest));
    Ok(response)
}

pub(crate) async fn delete(
    call: &Call,
    name: &RepositoryName,
    digest: &Digest,
) -> Result<Response<Body>> {
    call.repository(name).blobs().delete(digest).await?;
    event::deleted(call, name, digest).await;
    let mut response = empty(StatusCode::ACCEPTED);
    response
        .headers_mut()
        .insert(DOCKER_CONTENT_DIGEST, digest_value(digest));
    Ok(response)
}
