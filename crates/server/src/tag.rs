//! `/v2/<name>/tags/list`.

use http::request::Parts;
use http::{Response, header};
use serde::Serialize;
use wharfinger_oci::RepositoryName;

use crate::answer::json_response;
use crate::app::App;
use crate::body::Body;
use crate::error::Result;
use crate::pagination::{Asked, next_link};

/// The answer's body.
#[derive(Serialize)]
struct Tags<'a> {
    name: &'a str,
    tags: &'a [&'a str],
}

pub(crate) async fn list(
    app: &App,
    request: &Parts,
    name: &RepositoryName,
) -> Result<Response<Body>> {
    let asked = Asked::read(request)?;
    let limit = asked.n.map(|n| n.min(app.options.tags_max));
    let page = app
        .registry
        .repository(name)
        .tags()
        .list(asked.last.as_deref(), limit)
        .await?;
    let tags: Vec<&str> = page.items.iter().map(wharfinger_oci::Tag::as_str).collect();
    let mut response = json_response(&Tags {
        name: name.as_str(),
        tags: &tags,
    });
    if let (true, Some(limit), Some(last)) = (page.more, limit, tags.last()) {
        response
            .headers_mut()
            .insert(header::LINK, next_link(request, limit, last));
    }
    Ok(response)
}
