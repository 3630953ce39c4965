//! Listings by page: `n`, `last` and the `Link` to the next page (OCI distribution specification,
//! "Listing Tags").

use http::HeaderValue;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use crate::call::Call;
use crate::error::{ApiError, Code, Result};

/// The part of a listing that a request asks for.
#[derive(Debug)]
pub(crate) struct Asked {
    /// How many entries at most; `None` for all.
    pub(crate) n: Option<usize>,
    /// The entry behind which to begin.
    pub(crate) last: Option<String>,
}

impl Asked {
    /// # Errors
    /// `PAGINATION_NUMBER_INVALID` when `n` is not a number.
    pub(crate) fn read(call: &Call) -> Result<Self> {
        let query = call.query();
        let n = match query.get("n") {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| {
                ApiError::with(Code::PAGINATION_NUMBER_INVALID, json!({ "n": text }))
            })?),
        };
        Ok(Self {
            n,
            last: query.get("last").map(std::borrow::Cow::into_owned),
        })
    }
}

/// The address of the page behind `last`, as a `Link` header.
pub(crate) fn next_link(call: &Call, n: usize, last: &str) -> HeaderValue {
    let last = utf8_percent_encode(last, NON_ALPHANUMERIC);
    link(call, &format!("last={last}&n={n}"))
}

/// A `Link` to what follows: the same path with another query, and the same registry where the
/// client says which one it means.
pub(crate) fn link(call: &Call, query: &str) -> HeaderValue {
    let path = call.request.uri.path();
    let ns = call.query().get("ns").map_or_else(String::new, |ns| {
        format!("&ns={}", utf8_percent_encode(&ns, NON_ALPHANUMERIC))
    });
    let link = format!("<{path}?{query}{ns}>; rel=\"next\"");
    HeaderValue::from_str(&link).unwrap_or(HeaderValue::from_static(""))
}
