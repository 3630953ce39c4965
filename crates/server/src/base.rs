//! `/v2/`: whether the API is there.

use http::Response;
use serde_json::json;

use crate::body::Body;
use crate::pagination::json_response;

pub(crate) fn get() -> Response<Body> {
    json_response(&json!({}))
}
