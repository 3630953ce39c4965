//! `/v2/<name>/manifests/<reference>`.

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use wharfinger_oci::manifest::{MAX_SIZE, Manifest};
use wharfinger_oci::{Digest, Reference, RepositoryName, Tag, media_type};
use wharfinger_proxy::Answer;
use wharfinger_registry::{Error as RegistryError, Served};

use crate::answer::{DOCKER_CONTENT_DIGEST, digest_value, empty, etag, mark_stale, number};
use crate::body::Body;
use crate::call::Call;
use crate::conditional::{not_modified, precondition_failed};
use crate::error::{ApiError, Code, Result};
use crate::request_body::RequestBody;
use crate::source::Source;
use crate::{event, policy};

const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");

/// The media types of manifests that list others.
const LISTS: [&str; 2] = [
    media_type::DOCKER_MANIFEST_LIST,
    media_type::OCI_IMAGE_INDEX,
];

pub(crate) async fn get(
    call: &Call,
    name: &RepositoryName,
    reference: &Reference,
) -> Result<Response<Body>> {
    let source = call.source(name);
    let Answer { content, stale } = source.manifest(reference, &call.request.method).await?;
    let served = match reference {
        Reference::Tag(_) if LISTS.contains(&&*content.descriptor.media_type) => {
            Box::pin(for_old_client(&source, &call.request.headers, content)).await?
        }
        _ => content,
    };
    let digest = served.descriptor.digest;
    if precondition_failed(&call.request.headers, &digest) {
        return Ok(empty(StatusCode::PRECONDITION_FAILED));
    }
    let mut response = empty(StatusCode::OK);
    if not_modified(&call.request.headers, &digest) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        let tag = match reference {
            Reference::Digest(_) => None,
            Reference::Tag(tag) => Some(tag),
        };
        event::manifest_pulled(call, name, &served, tag);
        let length = number(served.bytes.len() as u64);
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, length);
        if call.request.method == Method::GET {
            *response.body_mut() = Body::Full(served.bytes);
        }
        let media_type = HeaderValue::from_str(&served.descriptor.media_type);
        let media_type = media_type.map_err(|_| ApiError::new(Code::UNKNOWN))?;
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, media_type);
    }
    let headers = response.headers_mut();
    headers.insert(header::ETAG, etag(&digest));
    headers.insert(DOCKER_CONTENT_DIGEST, digest_value(&digest));
    mark_stale(headers, stale);
    Ok(response)
}

/// Of a list that a tag stands for, what it is to a client that says which manifests it takes, and
/// takes no lists: the manifest for `linux/amd64`, as Distribution serves it. Everybody else gets the
/// list.
async fn for_old_client(source: &Source, headers: &HeaderMap, served: Served) -> Result<Served> {
    let accepted: Vec<String> = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|one| {
            one.split(';')
                .next()
                .unwrap_or_default()
                .trim()
                .to_ascii_lowercase()
        })
        .collect();
    let takes = |wanted: &[&str]| accepted.iter().any(|one| wanted.contains(&one.as_str()));
    let images = [media_type::DOCKER_MANIFEST, media_type::OCI_IMAGE_MANIFEST];
    if !takes(&images) || takes(&LISTS) || takes(&["*/*", "application/*"]) {
        return Ok(served);
    }
    let media_type = served.descriptor.media_type.clone();
    let list = Manifest::parse(Some(&media_type), served.bytes.clone());
    let amd64 = list
        .iter()
        .flat_map(Manifest::references)
        .find_map(|reference| {
            (reference.platform == Some(("linux", "amd64"))).then_some(reference.digest)
        });
    match amd64 {
        Some(digest) => {
            let digest = Reference::Digest(digest);
            Ok(source.manifest(&digest, &Method::GET).await?.content)
        }
        None => Ok(served),
    }
}

pub(crate) async fn put(
    call: &Call,
    name: &RepositoryName,
    reference: &Reference,
    body: RequestBody,
) -> Result<Response<Body>> {
    let content_type = match call.request.headers.get(header::CONTENT_TYPE) {
        None => None,
        Some(value) => Some(value.to_str().map_err(|_| {
            ApiError::with(Code::MANIFEST_INVALID, "the Content-Type is not readable")
        })?),
    };
    let manifest = read(call, body).await?;
    let manifest = Manifest::parse(content_type, manifest)
        .map_err(|error| ApiError::from(RegistryError::from(error)))?;
    policy::check(call, name, &manifest)?;
    let (digest, tags) = match reference {
        Reference::Tag(tag) => (Digest::canonical(manifest.payload()), vec![tag.clone()]),
        Reference::Digest(digest) => (*digest, tag_parameters(call)?),
    };
    let descriptor = call
        .repository(name)
        .manifests()
        .put(&manifest, &digest, &tags)
        .await?;
    event::manifest_pushed(call, name, &descriptor, &manifest, &tags).await;

    let mut response = empty(StatusCode::CREATED);
    let headers = response.headers_mut();
    let location = call.locations().manifest(name, &descriptor.digest);
    headers.insert(header::LOCATION, location);
    headers.insert(DOCKER_CONTENT_DIGEST, digest_value(&descriptor.digest));
    if let Some(subject) = manifest.subject() {
        headers.insert(OCI_SUBJECT, digest_value(&subject.digest));
    }
    if let Reference::Digest(_) = reference {
        for tag in &tags {
            if let Ok(tag) = HeaderValue::from_str(tag.as_str()) {
                headers.append(OCI_TAG, tag);
            }
        }
    }
    Ok(response)
}

/// The `tag` parameters of a push by digest (OCI distribution specification, "Pushing Manifests").
fn tag_parameters(call: &Call) -> Result<Vec<Tag>> {
    let query = call.query();
    let mut tags = Vec::new();
    for text in query.all("tag") {
        let tag: Tag = text.parse().map_err(|error: wharfinger_oci::TagError| {
            ApiError::with(Code::TAG_INVALID, error.to_string())
        })?;
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Ok(tags)
}

async fn read(call: &Call, mut body: RequestBody) -> Result<Bytes> {
    let most = call.options().limits.manifest_size.min(MAX_SIZE);
    let too_large = || ApiError::too_large(Code::MANIFEST_INVALID, "a manifest", most as u64);
    let length = call
        .request
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok());
    if length
        .and_then(|text| text.parse().ok())
        .is_some_and(|length: usize| length > most)
    {
        return Err(too_large());
    }
    let mut manifest = BytesMut::new();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| RegistryError::Body(Box::new(error)))?;
        if manifest.len() + piece.len() > most {
            return Err(too_large());
        }
        manifest.extend_from_slice(&piece);
    }
    Ok(manifest.freeze())
}

pub(crate) async fn delete(
    call: &Call,
    name: &RepositoryName,
    reference: &Reference,
) -> Result<Response<Body>> {
    let repository = call.repository(name);
    match reference {
        Reference::Digest(digest) => {
            let tags = repository.manifests().delete(digest).await?;
            event::deleted(call, name, digest).await;
            for tag in &tags {
                event::tag_deleted(call, name, tag).await;
            }
        }
        Reference::Tag(tag) => {
            repository.tags().delete(tag).await?;
            event::tag_deleted(call, name, tag).await;
        }
    }
    Ok(empty(StatusCode::ACCEPTED))
}
