//! The access log: a line a request, in the Apache combined form with the time it took behind it,
//! under the tracing target `access`.

use std::time::Instant;

use http::{HeaderMap, Response, header};
use http_body::Body as _;
use jiff::Timestamp;
use tracing::info;

use crate::body::Body;
use crate::call::Call;
use crate::handler::User;
use crate::peer::Peer;

/// What is known of a request before it is answered.
#[derive(Debug)]
pub(crate) struct Entry {
    peer: Peer,
    line: String,
    referer: String,
    user_agent: String,
    began: Instant,
}

impl Entry {
    pub(crate) fn new(call: &Call) -> Self {
        let request = &call.request;
        let line = format!(
            "{} {} {:?}",
            request.method,
            request
                .uri
                .path_and_query()
                .map_or("*", |path| without_state(path.as_str())),
            request.version
        );
        Self {
            peer: call.peer,
            line,
            referer: text(&request.headers, header::REFERER),
            user_agent: text(&request.headers, header::USER_AGENT),
            began: Instant::now(),
        }
    }

    pub(crate) fn write(self, response: &Response<Body>) {
        let bytes = response.body().size_hint().exact().unwrap_or(0);
        let time = Timestamp::now().strftime("%d/%b/%Y:%H:%M:%S +0000");
        let user = response.extensions().get::<User>();
        info!(
            target: "access",
            "{} - {} [{time}] \"{}\" {} {bytes} \"{}\" \"{}\" {}us",
            self.peer.ip().map_or_else(|| self.peer.to_string(), |ip| ip.to_string()),
            user.map_or_else(|| "-".to_owned(), |User(name)| one_word(name)),
            self.line,
            response.status().as_u16(),
            self.referer,
            self.user_agent,
            self.began.elapsed().as_micros(),
        );
    }
}

/// The state that clients carry is signed, and long: it says nothing in a log.
fn without_state(path: &str) -> &str {
    path.split_once("_state=")
        .map_or(path, |(path, _)| path.trim_end_matches(['?', '&']))
}

/// A name for a field that ends at a space.
fn one_word(name: &str) -> String {
    name.replace(' ', "_").escape_debug().to_string()
}

/// A header for a quoted field: what could end the field or the line is escaped.
fn text(headers: &HeaderMap, name: header::HeaderName) -> String {
    let Some(value) = headers.get(name) else {
        return "-".to_owned();
    };
    String::from_utf8_lossy(value.as_bytes())
        .escape_debug()
        .to_string()
}
