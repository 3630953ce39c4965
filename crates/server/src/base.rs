//! `/v2/`: whether the API is there.

use http::Response;
use serde_json::json;

use crate::answer::json_response;
use crate::body::Body;

pub(crate) fn get() -> Response<Body> {
    json_response(&json!({}))
}
