//! An upstream's answers, and what they say when they say no.

use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use reqwest::Response;
use serde::Deserialize;

use crate::{Refusal, UpstreamError};

/// How much of the body of a refusal is read.
const LARGEST_REFUSAL: usize = 64 * 1024;

/// The longest an upstream is left alone because it says so.
const LONGEST_RETRY: Duration = Duration::from_secs(60 * 60);

/// Whom a question went to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) upstream: &'a str,
}

impl Asked<'_> {
    /// No answer came, or not to its end. What the client of HTTP says of itself may hold the
    /// address that a redirect led to, with a signature in it: its causes alone are told.
    pub(super) fn failed(&self, error: reqwest::Error) -> UpstreamError {
        let reason = match (error.is_timeout(), error.is_redirect()) {
            (true, _) => "it takes too long to answer".to_owned(),
            (_, true) => "it redirects again and again".to_owned(),
            _ => wharfinger_client::reason(&error.without_url()),
        };
        UpstreamError::Unreachable {
            upstream: self.upstream.to_owned(),
            reason,
        }
    }

    pub(super) fn wrong(&self, reason: impl Into<String>) -> UpstreamError {
        UpstreamError::Wrong {
            upstream: self.upstream.to_owned(),
            reason: reason.into(),
        }
    }
}

/// A body of at most `largest` bytes.
pub(super) async fn body(
    asked: &Asked<'_>,
    mut response: Response,
    largest: usize,
) -> Result<Bytes, UpstreamError> {
    let mut bytes = BytesMut::new();
    while let Some(piece) = response
        .chunk()
        .await
        .map_err(|error| asked.failed(error))?
    {
        if bytes.len() + piece.len() > largest {
            return Err(asked.wrong(format!("it is larger than {largest} bytes")));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.freeze())
}

/// What an answer says that is none of success.
pub(super) async fn refused(asked: &Asked<'_>, mut response: Response) -> UpstreamError {
    #[derive(Default, Deserialize)]
    struct Body {
        #[serde(default)]
        errors: Vec<Item>,
    }
    #[derive(Deserialize)]
    struct Item {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let status = response.status();
    let retry_after = retry_after(response.headers());
    let mut bytes = BytesMut::new();
    while let Ok(Some(piece)) = response.chunk().await {
        bytes.extend_from_slice(&piece);
        if bytes.len() > LARGEST_REFUSAL {
            break;
        }
    }
    let body: Body = serde_json::from_slice(&bytes).unwrap_or_default();
    let first = body.errors.into_iter().next();
    let (code, message) = first.map_or((None, String::new()), |item| {
        (
            Some(item.code).filter(|code| !code.is_empty()),
            item.message,
        )
    });
    UpstreamError::Refused {
        upstream: asked.upstream.to_owned(),
        refusal: Refusal {
            status,
            code,
            message,
            retry_after,
        },
    }
}

/// `Retry-After` in either form: seconds, or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let length = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let then = jiff::fmt::rfc2822::parse(text).ok()?;
            let then = SystemTime::from(then.timestamp());
            then.duration_since(SystemTime::now()).unwrap_or_default()
        }
    };
    Some(length.min(LONGEST_RETRY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_retry_after_are_read_and_bounded() {
        let read = |text: &str| {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, text.parse().unwrap())]);
            retry_after(&headers)
        };
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("999999999"), Some(LONGEST_RETRY));
        assert_eq!(read("Fri, 31 Dec 1999 23:59:59 GMT"), Some(Duration::ZERO));
        assert_eq!(read("Wed, 31 Dec 2200 23:59:59 GMT"), Some(LONGEST_RETRY));
        assert_eq!(read("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
