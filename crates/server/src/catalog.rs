//! `/v2/_catalog`.

use http::{Response, header};
use serde::Serialize;
use serde_json::json;

use crate::answer::json_response;
use crate::body::Body;
use crate::call::Call;
use crate::error::{ApiError, Code, Result};
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
    let max = call.options.catalog_max;
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
    let page = match limit {
        0 => wharfinger_registry::Page {
            items: Vec::new(),
            more: false,
        },
        limit => {
            call.registry()
                .catalog(asked.last.as_deref(), limit)
                .await?
        }
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
