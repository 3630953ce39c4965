//! `/v2/<name>/blobs/uploads/`: pushing and mounting blobs (OCI distribution specification,
//! "Pushing blobs").

use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};
use tracing::debug;
use wharfinger_auth::{Access, Action};
use wharfinger_oci::{Algorithm, Descriptor, RepositoryName};
use wharfinger_registry::{Error as RegistryError, Progress, Upload, UploadId};

use crate::answer::{DOCKER_CONTENT_DIGEST, digest_value, empty};
use crate::body::Body;
use crate::call::Call;
use crate::error::{ApiError, Code, Result};
use crate::event;
use crate::limits::Room;
use crate::range::content_range;
use crate::request_body::{BodyError, RequestBody};
use crate::route::{Route, parse_digest};
use crate::upload_state::UploadState;

const DOCKER_UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// Mounts a blob, or stores one that comes with the request, or opens an upload.
pub(crate) async fn post(
    call: &Call,
    name: &RepositoryName,
    body: RequestBody,
) -> Result<Response<Body>> {
    let query = call.query();
    let blobs = call.repository(name).blobs();
    if let Some(mount) = query.get("mount") {
        let digest = parse_digest(&mount)?;
        // Another registry's name, perhaps: then there is nothing to mount from.
        let from = call.mounts_from();
        let upstreams = &call.app().upstreams;
        let mounted = match &from {
            Some(Ok(from)) if !upstreams.deny(from) => blobs.mount(from, &digest).await?,
            Some(_) => None,
            None => {
                let readable = |name: &RepositoryName| {
                    let access = Access::repository(name.as_str(), Action::Pull);
                    call.grant.allows(&access) && !upstreams.deny(name)
                };
                blobs.mount_anywhere(&digest, readable).await?
            }
        };
        if let Some(descriptor) = mounted {
            let from = from.as_ref().and_then(|from| from.as_ref().ok());
            event::blob_mounted(call, name, &descriptor, from).await;
            return Ok(created(call, name, &descriptor));
        }
    }
    if let Some(digest) = query.get("digest") {
        let digest = parse_digest(&digest)?;
        let mut upload = blobs.create(digest.algorithm())?;
        if let Err(error) = append(&mut upload, call, body).await {
            // Nobody was told of the upload, so nobody will take it up.
            upload.cancel().await?;
            return Err(error.into());
        }
        let descriptor = upload.commit(&digest).await?;
        event::blob_pushed(call, name, &descriptor).await;
        return Ok(created(call, name, &descriptor));
    }
    let algorithm = match query.get("digest-algorithm") {
        None => Algorithm::CANONICAL,
        Some(text) => text.parse().map_err(|error: wharfinger_oci::DigestError| {
            ApiError::with(Code::DIGEST_INVALID, error.to_string())
        })?,
    };
    // It is its client that keeps it: the store gets to know of it when it has bytes.
    let opened = blobs.create(algorithm)?.progress();
    Ok(told(call, name, opened, algorithm, StatusCode::ACCEPTED))
}

/// Whether a request does no more than open an upload, which the store has no part in.
pub(crate) fn only_opens(call: &Call, route: &Route) -> bool {
    let query = call.query();
    let names_blob = || query.get("mount").is_some() || query.get("digest").is_some();
    matches!(route, Route::Uploads(_)) && call.request.method == Method::POST && !names_blob()
}

/// Says how far an upload has got.
pub(crate) async fn get(
    call: &Call,
    name: &RepositoryName,
    id: &UploadId,
) -> Result<Response<Body>> {
    // Who only wants to know may ask without the state.
    let state = check_state(call, name, id).ok();
    let known = state.as_ref().map(UploadState::told);
    let algorithm = state.map_or(Algorithm::CANONICAL, |state| state.algorithm());
    let blobs = call.repository(name).blobs();
    let progress = blobs.progress(id, known).await?;
    Ok(told(
        call,
        name,
        progress,
        algorithm,
        StatusCode::NO_CONTENT,
    ))
}

/// Takes a chunk.
pub(crate) async fn patch(
    call: &Call,
    name: &RepositoryName,
    id: &UploadId,
    body: RequestBody,
) -> Result<Response<Body>> {
    let (upload, end) = resume(call, name, id).await?;
    let upload = take(upload, end, call, body).await?;
    paused(call, name, upload, StatusCode::ACCEPTED).await
}

/// Takes the last chunk, if there is one, and ends the upload in a blob.
pub(crate) async fn put(
    call: &Call,
    name: &RepositoryName,
    id: &UploadId,
    body: RequestBody,
) -> Result<Response<Body>> {
    let query = call.query();
    let digest = query
        .get("digest")
        .ok_or_else(|| ApiError::with(Code::DIGEST_INVALID, "the digest parameter is missing"))?;
    let digest = parse_digest(&digest)?;
    let (mut upload, end) = resume(call, name, id).await?;
    upload.expect(digest.algorithm());
    let upload = take(upload, end, call, body).await?;
    let descriptor = upload.commit(&digest).await?;
    event::blob_pushed(call, name, &descriptor).await;
    Ok(created(call, name, &descriptor))
}

/// Ends an upload in nothing.
pub(crate) async fn delete(
    call: &Call,
    name: &RepositoryName,
    id: &UploadId,
) -> Result<Response<Body>> {
    let state = check_state(call, name, id)?;
    call.repository(name)
        .blobs()
        .resume(id, Some(state.told()), state.algorithm())
        .await?
        .cancel()
        .await?;
    let mut response = empty(StatusCode::NO_CONTENT);
    response
        .headers_mut()
        .insert(DOCKER_UPLOAD_UUID, id_value(id));
    Ok(response)
}

fn check_state(call: &Call, name: &RepositoryName, id: &UploadId) -> Result<UploadState> {
    let query = call.query();
    let state = query
        .get("_state")
        .and_then(|token| call.app().secret.verify(&token));
    state.filter(|state| state.is_of(name, id)).ok_or_else(|| {
        debug!(upload = %id, "an upload's state is not one that this registry signed for it");
        ApiError::with(
            Code::BLOB_UPLOAD_INVALID,
            "the location is not one that the registry gave for this upload",
        )
    })
}

/// Takes an upload up where the client thinks it is; with the offset that it must get to, if the
/// client tells one.
async fn resume(
    call: &Call,
    name: &RepositoryName,
    id: &UploadId,
) -> Result<(Upload, Option<u64>)> {
    let state = check_state(call, name, id)?;
    let blobs = call.repository(name).blobs();
    let upload = blobs
        .resume(id, Some(state.told()), state.algorithm())
        .await?;
    let offset = upload.offset();
    let chunk = match call.request.headers.get(header::CONTENT_RANGE) {
        None => None,
        Some(value) => {
            let range = value.to_str().ok().and_then(content_range);
            let range = range.ok_or_else(|| {
                ApiError::with(
                    Code::RANGE_INVALID,
                    "a Content-Range is written <first>-<last>",
                )
                .status(StatusCode::BAD_REQUEST)
            })?;
            Some(range)
        }
    };
    // A location from before a crash or a broken connection may know of another offset; a client
    // that says where its chunk begins is believed instead.
    let begins = chunk.as_ref().map_or(state.offset, |range| range.start);
    if begins != offset {
        let status = StatusCode::RANGE_NOT_SATISFIABLE;
        let told = told(call, name, upload.progress(), upload.algorithm(), status);
        let detail = format!("the upload goes on at {offset}, not at {begins}");
        let mut error = ApiError::with(Code::RANGE_INVALID, detail);
        for (name, value) in told.headers() {
            error = error.header(name.clone(), value.clone());
        }
        return Err(error);
    }
    let end = chunk.map(|range| range.end);
    if let (Some(end), Some(length)) = (end, content_length(call))
        && end - offset != length
    {
        let detail = "the Content-Range and the Content-Length differ";
        return Err(ApiError::with(Code::SIZE_INVALID, detail));
    }
    Ok((upload, end))
}

/// Appends a chunk, which must get the upload to `end` if there is one.
async fn take(
    mut upload: Upload,
    end: Option<u64>,
    call: &Call,
    body: RequestBody,
) -> Result<Upload> {
    match append(&mut upload, call, body).await {
        Ok(()) if end.is_none_or(|end| end == upload.offset()) => Ok(upload),
        Ok(()) => {
            upload.discard().await?;
            let detail = "the chunk has not the length of its Content-Range";
            Err(ApiError::with(Code::SIZE_INVALID, detail))
        }
        Err(Failure::Broken(error)) => {
            // The client is gone, or sent less than it announced: it may come back for the rest.
            upload.pause().await?;
            Err(error)
        }
        // Of a blob that is too large nothing is of use; a chunk can come again in smaller ones.
        Err(Failure::TooLarge(room)) => {
            if room.of_blob {
                upload.cancel().await?;
            } else {
                upload.discard().await?;
            }
            Err(room.error())
        }
        Err(Failure::Final(error)) => Err(error),
    }
}

fn content_length(call: &Call) -> Option<u64> {
    call.request
        .headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// Why a body could not be appended.
enum Failure {
    /// It broke off; what came before is there.
    Broken(ApiError),
    /// It has more bytes than are let come; those are there.
    TooLarge(Room),
    /// Nothing more can be done in this request.
    Final(ApiError),
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Broken(error) | Failure::Final(error) => error,
            Failure::TooLarge(room) => room.error(),
        }
    }
}

async fn append(
    upload: &mut Upload,
    call: &Call,
    body: RequestBody,
) -> std::result::Result<(), Failure> {
    if body.is_empty() {
        return Ok(());
    }
    let room = call.options().limits.room(upload.offset());
    if content_length(call).is_some_and(|length| length > room.bytes) {
        return Err(Failure::TooLarge(room));
    }
    let body = body.at(upload.offset()).at_most(room.bytes);
    let appended = upload.append(body).await;
    appended.map_err(|error| match error {
        RegistryError::Body(source) if is_too_large(&*source) => Failure::TooLarge(room),
        error @ RegistryError::Body(_) => Failure::Broken(error.into()),
        error => Failure::Final(error.into()),
    })
}

fn is_too_large(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(BodyError::TooLarge(_)))
}

/// Makes what was received durable, and says how far the upload has got.
async fn paused(
    call: &Call,
    name: &RepositoryName,
    upload: Upload,
    status: StatusCode,
) -> Result<Response<Body>> {
    let response = told(call, name, upload.progress(), upload.algorithm(), status);
    upload.pause().await?;
    Ok(response)
}

/// An answer that tells how far an upload has got, and where it goes on.
fn told(
    call: &Call,
    name: &RepositoryName,
    progress: Progress,
    algorithm: Algorithm,
    status: StatusCode,
) -> Response<Body> {
    let state = UploadState {
        name: name.to_string(),
        uuid: progress.id.to_string(),
        offset: progress.offset,
        started_at: progress.started_at,
        algorithm: UploadState::named(algorithm),
    };
    let token = call.app().secret.sign(&state);
    let mut response = empty(status);
    let headers = response.headers_mut();
    let location = call.locations().upload(name, &state.uuid, &token);
    headers.insert(header::LOCATION, location);
    headers.insert(DOCKER_UPLOAD_UUID, id_value(&progress.id));
    // Of nothing Distribution says `0-0` too, and clients know it.
    let range = format!("0-{}", state.offset.saturating_sub(1));
    if let Ok(range) = HeaderValue::from_str(&range) {
        headers.insert(header::RANGE, range);
    }
    response
}

fn created(call: &Call, name: &RepositoryName, descriptor: &Descriptor) -> Response<Body> {
    let mut response = empty(StatusCode::CREATED);
    let headers = response.headers_mut();
    let location = call.locations().blob(name, &descriptor.digest);
    headers.insert(header::LOCATION, location);
    headers.insert(DOCKER_CONTENT_DIGEST, digest_value(&descriptor.digest));
    response
}

fn id_value(id: &UploadId) -> HeaderValue {
    HeaderValue::from_str(&id.to_string()).unwrap_or(HeaderValue::from_static(""))
}
