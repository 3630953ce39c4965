//! `/v2/<name>/tags/list`.

use http::{Response, header};
use serde::Serialize;
use wharfinger_oci::RepositoryName;
use wharfinger_proxy::Answer;

use crate::answer::{json_response, mark_stale};
use crate::body::Body;
use crate::call::Call;
use crate::error::Result;
use crate::pagination::{Asked, next_link};

/// The answer's body.
#[derive(Serialize)]
struct Tags<'a> {
    name: &'a str,
    tags: &'a [&'a str],
}

pub(crate) async fn list(call: &Call, name: &RepositoryName) -> Result<Response<Body>> {
    let asked = Asked::read(call)?;
    let limit = asked.n.map(|n| n.min(call.options().tags_max));
    let source = call.source(name);
    let listed = source.tags(asked.last.as_deref(), limit);
    let Answer {
        content: page,
        stale,
    } = listed.await?;
    let tags: Vec<&str> = page.items.iter().map(wharfinger_oci::Tag::as_str).collect();
    let mut response = json_response(&Tags {
        name: call.called.as_ref().unwrap_or(name).as_str(),
        tags: &tags,
    });
    if let (true, Some(limit), Some(last)) = (page.more, limit, tags.last()) {
        response
            .headers_mut()
            .insert(header::LINK, next_link(call, limit, last));
    }
    mark_stale(response.headers_mut(), stale);
    Ok(response)
}
