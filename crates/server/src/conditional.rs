//! Conditional requests (RFC 9110, section 13). An entity tag is the digest in quotes.

use http::{HeaderMap, header};
use wharfinger_oci::Digest;

/// Whether the client has what it asks for already (`If-None-Match`). Distribution takes digests
/// without quotes too.
pub(crate) fn not_modified(headers: &HeaderMap, digest: &Digest) -> bool {
    matches(headers, header::IF_NONE_MATCH, digest).unwrap_or(false)
}

/// Whether the client wants only something else than what there is (`If-Match`).
pub(crate) fn precondition_failed(headers: &HeaderMap, digest: &Digest) -> bool {
    matches(headers, header::IF_MATCH, digest) == Some(false)
}

/// Whether a `Range` header counts: without `If-Range`, or when that names what there is.
pub(crate) fn range_applies(headers: &HeaderMap, digest: &Digest) -> bool {
    let Some(value) = headers.get(header::IF_RANGE) else {
        return true;
    };
    // Only a strong entity tag may match; a date never does, as none is told.
    value
        .to_str()
        .is_ok_and(|tag| tag.trim().trim_matches('"') == digest.to_string())
}

fn matches(headers: &HeaderMap, name: http::HeaderName, digest: &Digest) -> Option<bool> {
    if !headers.contains_key(&name) {
        return None;
    }
    let digest = digest.to_string();
    let tags = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok());
    Some(tags.flat_map(|tags| tags.split(',')).any(|tag| {
        let tag = tag.trim();
        let strong = tag.strip_prefix("W/").unwrap_or(tag);
        tag == "*" || strong.trim_matches('"') == digest
    }))
}
