//! The access log: a line a request, in the Apache combined form with the time it took behind it,
//! under the tracing target `access`.

use std::time::Duration;

use http::{HeaderMap, Uri, header};
use jiff::Timestamp;
use tracing::info;

use crate::call::Call;
use crate::peer::Peer;

/// What is known of a request before its answer is sent.
#[derive(Debug)]
pub(crate) struct Entry {
    client: Peer,
    line: String,
    referer: String,
    user_agent: String,
    arrived: Timestamp,
    /// Who sent it, once that is known.
    pub(crate) user: Option<String>,
}

impl Entry {
    pub(crate) fn new(call: &Call) -> Self {
        let request = &call.request;
        let line = format!(
            "{} {} {:?}",
            request.method,
            asked_for(&request.uri),
            request.version
        );
        Self {
            client: call.client,
            line,
            referer: text(&request.headers, header::REFERER),
            user_agent: text(&request.headers, header::USER_AGENT),
            arrived: Timestamp::now(),
            user: None,
        }
    }

    /// Writes the line when the answer has been sent, or has broken off after `bytes` of its body.
    pub(crate) fn write(&self, status: u16, bytes: u64, took: Duration) {
        let time = self.arrived.strftime("%d/%b/%Y:%H:%M:%S +0000");
        let user = self.user.as_deref();
        info!(
            target: "access",
            "{} - {} [{time}] \"{}\" {} {bytes} \"{}\" \"{}\" {}us",
            self.client.name(),
            user.map_or_else(|| "-".to_owned(), one_word),
            self.line,
            status,
            self.referer,
            self.user_agent,
            took.as_micros(),
        );
    }
}

/// Path and query without the state that clients carry: it is signed, and long, and says nothing
/// in a log.
pub(crate) fn asked_for(uri: &Uri) -> &str {
    let path = uri.path_and_query().map_or("*", |path| path.as_str());
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
