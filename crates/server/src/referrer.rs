//! `/v2/<name>/referrers/<digest>` (OCI distribution specification, "Listing Referrers").

use http::{HeaderName, HeaderValue, Response, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;
use wharfinger_oci::manifest::MAX_SIZE;
use wharfinger_oci::{Digest, RepositoryName, media_type};
use wharfinger_proxy::Answer;

use crate::answer::{json_response, mark_stale};
use crate::body::Body;
use crate::call::Call;
use crate::error::Result;
use crate::pagination::link;

const OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

pub(crate) async fn list(
    call: &Call,
    name: &RepositoryName,
    subject: &Digest,
) -> Result<Response<Body>> {
    let query = call.query();
    let artifact_type = query.get("artifactType");
    let source = call.source(name);
    let listed = source.referrers(subject, artifact_type.as_deref());
    let Answer {
        content: mut found,
        stale,
    } = listed.await?;
    if let Some(last) = query
        .get("last")
        .and_then(|last| last.parse::<Digest>().ok())
    {
        found.retain(|descriptor| descriptor.digest > last);
    }
    // An index of more than a manifest's size is told in pages.
    let mut size = 200;
    let fitting = found.iter().position(|descriptor| {
        size += serde_json::to_vec(descriptor).map_or(0, |json| json.len() + 1);
        size > MAX_SIZE
    });
    let more = fitting.is_some();
    found.truncate(fitting.unwrap_or(found.len()).max(1));
    let mut response = json_response(&json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_IMAGE_INDEX,
        "manifests": found,
    }));
    let headers = response.headers_mut();
    let index = HeaderValue::from_static(media_type::OCI_IMAGE_INDEX);
    headers.insert(header::CONTENT_TYPE, index);
    if artifact_type.is_some() {
        headers.insert(
            OCI_FILTERS_APPLIED,
            HeaderValue::from_static("artifactType"),
        );
    }
    if let (true, Some(last)) = (more, found.last()) {
        let filter = artifact_type.map_or_else(String::new, |artifact_type| {
            format!(
                "&artifactType={}",
                utf8_percent_encode(&artifact_type, NON_ALPHANUMERIC)
            )
        });
        let next = link(call, &format!("last={}{filter}", last.digest));
        headers.insert(header::LINK, next);
    }
    mark_stale(headers, stale);
    Ok(response)
}
