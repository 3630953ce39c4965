//! What handlers tell of: events, for whoever wants to know (`notifications`).
//!
//! Nothing is made where nobody does. Pulls are told of and forgotten; whatever changed the
//! registry is answered only when the event is kept as safely as its receivers are to get it.

use std::net::IpAddr;

use http::{HeaderName, header};
use wharfinger_auth::basic;
use wharfinger_notify::{Action, Event, Kept, Reference, Request, Target};
use wharfinger_oci::manifest::Manifest;
use wharfinger_oci::{Descriptor, Digest, RepositoryName, Tag};
use wharfinger_registry::Served;

use crate::call::Call;

pub(crate) fn blob_pulled(call: &Call, name: &RepositoryName, blob: &Descriptor) {
    // Nobody waits: the answer changes nothing.
    drop(tell(call, Action::Pull, &blob.media_type, || {
        content(name, blob, &call.locations().blob(name, &blob.digest))
    }));
}

pub(crate) async fn blob_pushed(call: &Call, name: &RepositoryName, blob: &Descriptor) {
    let told = tell(call, Action::Push, &blob.media_type, || {
        content(name, blob, &call.locations().blob(name, &blob.digest))
    });
    told.wait().await;
}

/// `from` is the repository that the client named.
pub(crate) async fn blob_mounted(
    call: &Call,
    name: &RepositoryName,
    blob: &Descriptor,
    from: Option<&RepositoryName>,
) {
    let told = tell(call, Action::Mount, &blob.media_type, || Target {
        from_repository: from.cloned(),
        ..content(name, blob, &call.locations().blob(name, &blob.digest))
    });
    told.wait().await;
}

/// A blob, or a manifest, is gone from a repository.
pub(crate) async fn deleted(call: &Call, name: &RepositoryName, digest: &Digest) {
    let told = tell(call, Action::Delete, "", || Target {
        digest: Some(*digest),
        ..Target::in_repository(name.clone())
    });
    told.wait().await;
}

pub(crate) async fn tag_deleted(call: &Call, name: &RepositoryName, tag: &Tag) {
    let told = tell(call, Action::Delete, "", || Target {
        tag: Some(tag.clone()),
        ..Target::in_repository(name.clone())
    });
    told.wait().await;
}

/// `tag` is what was asked for, if it was a tag.
pub(crate) fn manifest_pulled(
    call: &Call,
    name: &RepositoryName,
    served: &Served,
    tag: Option<&Tag>,
) {
    let media_type = &served.descriptor.media_type;
    drop(tell(call, Action::Pull, media_type, || {
        manifest(call, name, &served.descriptor, &served.bytes, tag)
    }));
}

/// One event for each of the tags; one without, where there is none.
pub(crate) async fn manifest_pushed(
    call: &Call,
    name: &RepositoryName,
    descriptor: &Descriptor,
    pushed: &Manifest,
    tags: &[Tag],
) {
    let each: Vec<Option<&Tag>> = match tags {
        [] => vec![None],
        tags => tags.iter().map(Some).collect(),
    };
    for tag in each {
        let told = tell(call, Action::Push, &descriptor.media_type, || {
            manifest(call, name, descriptor, pushed.bytes(), tag)
        });
        told.wait().await;
    }
}

fn tell(call: &Call, action: Action, media_type: &str, target: impl FnOnce() -> Target) -> Kept {
    let Some(notifications) = &call.options().notifications else {
        return Kept::default();
    };
    if !notifications.sink.wants(action, media_type) {
        return Kept::default();
    }
    let event = Event::new(action, target(), request(call), actor(call));
    notifications.sink.emit(event)
}

fn content(name: &RepositoryName, descriptor: &Descriptor, url: &http::HeaderValue) -> Target {
    Target {
        media_type: descriptor.media_type.clone(),
        digest: Some(descriptor.digest),
        size: descriptor.size,
        url: url.to_str().unwrap_or_default().to_owned(),
        ..Target::in_repository(name.clone())
    }
}

fn manifest(
    call: &Call,
    name: &RepositoryName,
    descriptor: &Descriptor,
    bytes: &[u8],
    tag: Option<&Tag>,
) -> Target {
    let told = call.options().notifications.as_ref();
    let references = match told.is_some_and(|told| told.include_references) {
        true => Reference::all_of(bytes),
        false => Vec::new(),
    };
    let url = call.locations().manifest(name, &descriptor.digest);
    Target {
        tag: tag.cloned(),
        references,
        ..content(name, descriptor, &url)
    }
}

fn request(call: &Call) -> Request {
    let request = &call.request;
    let host = match request.uri.authority() {
        Some(authority) => authority.to_string(),
        None => text(call, header::HOST).to_owned(),
    };
    Request {
        id: call.id.to_str().unwrap_or_default().to_owned(),
        addr: client(call),
        host,
        method: request.method.to_string(),
        useragent: text(call, header::USER_AGENT).to_owned(),
    }
}

/// The client's address as a proxy tells it, or else the connection's other end. Believed as in
/// Distribution: it is told, nothing depends on it.
fn client(call: &Call) -> String {
    let forwarded = text(call, HeaderName::from_static("x-forwarded-for"));
    let first = forwarded.split(',').next().unwrap_or_default();
    for told in [first, text(call, HeaderName::from_static("x-real-ip"))] {
        let told = told.trim();
        if told.parse::<IpAddr>().is_ok() {
            return told.to_owned();
        }
    }
    call.client.to_string()
}

/// The user who was let in. Where the registry asks nobody who they are, a proxy in front may have:
/// the name in the credentials that it passes on.
fn actor(call: &Call) -> String {
    if !call.grant.user.is_empty() || call.options().access.is_some() {
        return call.grant.user.clone();
    }
    basic(text(call, header::AUTHORIZATION)).map_or_else(String::new, |(user, _)| user)
}

fn text(call: &Call, name: HeaderName) -> &str {
    let value = call.request.headers.get(name);
    value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}
