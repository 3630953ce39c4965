//! Conditional requests (RFC 9110, section 13). An entity tag is the digest in quotes.

use http::{HeaderMap, header};
use wharfinger_oci::Digest;

/// Whether the client has what it asks for already (`If-None-Match`). Distribution takes digests
/// without quotes too.
pub(crate) fn not_modified(headers: &HeaderMap, digest: &Digest) -> bool {
    let weak = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag) == quoted(digest);
    matches(headers, header::IF_NONE_MATCH, |tag| {
        weak(tag) || tag == digest.to_string()
    })
    .unwrap_or(false)
}

/// Whether the client wants only something else than what there is (`If-Match`, which compares
/// strongly).
pub(crate) fn precondition_failed(headers: &HeaderMap, digest: &Digest) -> bool {
    matches(headers, header::IF_MATCH, |tag| tag == quoted(digest)) == Some(false)
}

/// Whether a `Range` header counts: without `If-Range`, or when that names what there is.
pub(crate) fn range_applies(headers: &HeaderMap, digest: &Digest) -> bool {
    let Some(value) = headers.get(header::IF_RANGE) else {
        return true;
    };
    // Only a strong entity tag may match; a date never does, as none is told.
    value.to_str().is_ok_and(|tag| tag.trim() == quoted(digest))
}

fn quoted(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

/// Whether one of a header's tags is `*` or is matched by `is_it`; `None` without the header.
fn matches(
    headers: &HeaderMap,
    name: http::HeaderName,
    is_it: impl Fn(&str) -> bool,
) -> Option<bool> {
    if !headers.contains_key(&name) {
        return None;
    }
    let tags = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut tags = tags.flat_map(|tags| tags.split(',')).map(str::trim);
    Some(tags.any(|tag| tag == "*" || is_it(tag)))
}
