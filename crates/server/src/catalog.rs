//! `/v2/_catalog`.

use http::{Response, header};
use serde::Serialize;
use serde_json::json;
use wharfinger_oci::RepositoryName;
use wharfinger_registry::Page;

use crate::answer::json_response;
use crate::body::Body;
use crate::call::Call;
use crate::error::{ApiError, Code, Result};
use crate::naming;
use crate::pagination::{Asked, next_link};

/// How many entries an answer has when the client does not say.
const DEFAULT_ENTRIES: usize = 100;

/// The answer's body.
#[derive(Serialize)]
struct Repositories<'a> {
    repositories: &'a [&'a str],
}

pub(crate) async fn list(call: &Call) -> Result<Response<Body>> {
    let asked = Asked::read(call)?;
    let max = call.options().catalog_max;
    let limit = match asked.n {
        Some(n) if n > max => {
            return Err(ApiError::with(
                Code::PAGINATION_NUMBER_INVALID,
                json!({ "n": n }),
            ));
        }
        Some(n) => n,
        None => DEFAULT_ENTRIES.min(max),
    };
    let upstreams = &call.app().upstreams;
    let host = upstreams
        .have_names()
        .then(|| naming::host(&call.request))
        .flatten();
    let kept = host.and_then(|host| upstreams.at_host(&host));
    let page = match (limit, kept) {
        (0, _) => Page {
            items: Vec::new(),
            more: false,
        },
        (limit, None) => {
            let last = asked.last.as_deref();
            call.registry().catalog(last, limit).await?
        }
        (limit, Some(kept)) => below(call, &kept.name, asked.last, limit).await?,
    };
    let names: Vec<&str> = page.items.iter().map(|name| name.as_str()).collect();
    let mut response = json_response(&Repositories {
        repositories: &names,
    });
    if let (true, Some(last)) = (page.more, names.last()) {
        response
            .headers_mut()
            .insert(header::LINK, next_link(call, limit, last));
    }
    Ok(response)
}

/// What is kept of an upstream, by its own names: clients that reach it by a host of its own know
/// no others.
async fn below(
    call: &Call,
    above: &RepositoryName,
    last: Option<String>,
    limit: usize,
) -> Result<Page<RepositoryName>> {
    // In path order all of them follow upon the name that they lie below.
    let last = match last {
        None => above.to_string(),
        Some(last) => format!("{above}/{last}"),
    };
    let Page { items, mut more } = call.registry().catalog(Some(&last), limit).await?;
    let all = items.len();
    let there = items.iter().map_while(|name| name.below(above));
    let items: Vec<_> = there.filter_map(|name| name.parse().ok()).collect();
    more &= items.len() == all;
    Ok(Page { items, more })
}
