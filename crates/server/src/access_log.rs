//! The access log: a line a request, in the Apache combined form with the time it took behind it,
//! under the tracing target `access`.

use std::borrow::Cow;
use std::time::Duration;

use http::{HeaderMap, Uri, header};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
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
            line: quotable(line),
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
pub(crate) fn asked_for(uri: &Uri) -> Cow<'_, str> {
    let path = uri.path_and_query().map_or("*", |path| path.as_str());
    let Some((before, query)) = path.split_once('?') else {
        return path.into();
    };
    let is_state = |pair: &&str| {
        let (name, _) = pair.split_once('=').unwrap_or((pair, ""));
        percent_decode_str(name).eq(b"_state".iter().copied())
    };
    if !query.split('&').any(|pair| is_state(&pair)) {
        return path.into();
    }
    let kept: Vec<_> = query.split('&').filter(|pair| !is_state(pair)).collect();
    match kept.as_slice() {
        [] => before.into(),
        kept => format!("{before}?{}", kept.join("&")).into(),
    }
}

/// A name for a field that ends at a space.
fn one_word(name: &str) -> String {
    name.replace(' ', "_").escape_debug().to_string()
}

/// A text for a quoted field: what could end the field or the line is escaped.
fn quotable(text: String) -> String {
    let plain = |c: u8| (b' '..=b'~').contains(&c) && c != b'"' && c != b'\\';
    if text.bytes().all(plain) {
        return text;
    }
    text.escape_debug().to_string()
}

/// A header for a quoted field.
fn text(headers: &HeaderMap, name: header::HeaderName) -> String {
    let Some(value) = headers.get(name) else {
        return "-".to_owned();
    };
    quotable(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_uploads_is_left_out_and_nothing_else() {
        for (asked, told) in [
            ("/v2/", "/v2/"),
            ("/v2/a/tags/list?n=5", "/v2/a/tags/list?n=5"),
            ("/u?_state=x", "/u"),
            ("/u?_state=x&digest=d", "/u?digest=d"),
            ("/u?digest=d&_st%61te=x", "/u?digest=d"),
            ("/u?digest=d&_state=x&_state", "/u?digest=d"),
            ("/u?my_state=x", "/u?my_state=x"),
        ] {
            assert_eq!(asked_for(&asked.parse().unwrap()), told);
        }
    }

    #[test]
    fn a_quoted_field_stays_one() {
        for (said, told) in [
            ("GET /v2/ HTTP/1.1", "GET /v2/ HTTP/1.1"),
            ("GET /a\"b", "GET /a\\\"b"),
            ("a\u{9b}b\n", "a\\u{9b}b\\n"),
        ] {
            assert_eq!(quotable(said.to_owned()), told);
        }
    }
}
