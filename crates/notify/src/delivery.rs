//! One attempt to hand an event over.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use reqwest::{Response, Url, redirect};
use thiserror::Error;
use tokio::time::timeout;

use crate::Format;
use crate::event::envelope;

/// How many redirects are followed, as by Distribution.
const MAX_REDIRECTS: usize = 10;

/// Answers of up to this many bytes are read, so that the connection can be used again.
const READABLE: u64 = 16 * 1024;

/// Where events are sent, and what is said besides. Neither `Debug` nor `Display` show more than
/// the scheme, the host and the port, for the rest may hold secrets.
#[derive(Clone, PartialEq)]
pub struct Receiver {
    url: Url,
    headers: HeaderMap,
}

/// Why nothing can be sent there.
#[derive(Debug, Error)]
pub enum InvalidReceiver {
    /// The URL is none of http or https.
    #[error("this is no URL that events can be sent to: {0}")]
    Url(String),
    /// A header cannot be sent.
    #[error("this header cannot be sent: {1}")]
    Header(String, String),
}

impl Receiver {
    /// A receiver at `url`, which may hold a user and a password, with headers for each request.
    ///
    /// # Errors
    /// [`InvalidReceiver`] says what cannot be used; it never repeats a value.
    pub fn new<'a>(
        url: &str,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, InvalidReceiver> {
        let mut url = Url::parse(url).map_err(|error| InvalidReceiver::Url(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            let reason = format!("its scheme is {:?}, not http or https", url.scheme());
            return Err(InvalidReceiver::Url(reason));
        }
        let mut all = HeaderMap::new();
        if let Some(credentials) = take_credentials(&mut url) {
            all.insert(header::AUTHORIZATION, credentials);
        }
        let mut seen = Vec::new();
        for (name, value) in headers {
            let wrong =
                |error: &dyn Error| InvalidReceiver::Header(name.to_owned(), error.to_string());
            let key: HeaderName = name.parse().map_err(|error| wrong(&error))?;
            let mut value = HeaderValue::from_str(value).map_err(|error| wrong(&error))?;
            value.set_sensitive(true);
            if !seen.contains(&key) {
                // What is said expressly goes before what the URL says.
                all.remove(&key);
                seen.push(key.clone());
            }
            all.append(key, value);
        }
        Ok(Self { url, headers: all })
    }

    /// Whether TLS is spoken with it.
    pub(crate) fn is_secure(&self) -> bool {
        self.url.scheme() == "https"
    }
}

/// User and password of a URL as a header. They are cut out, so that they cannot be shown.
fn take_credentials(url: &mut Url) -> Option<HeaderValue> {
    let decoded = |text: &str| {
        let bytes: Vec<u8> = percent_encoding::percent_decode_str(text).collect();
        bytes
    };
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut pair = decoded(url.username());
    pair.push(b':');
    pair.extend(decoded(url.password().unwrap_or_default()));
    // A URL with a host can be without them.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    let basic = format!("Basic {}", STANDARD.encode(pair));
    let mut value = HeaderValue::from_str(&basic).ok()?;
    value.set_sensitive(true);
    Some(value)
}

impl fmt::Display for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url.origin().ascii_serialization())
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Receiver({self})")
    }
}

/// What came of an attempt.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The receiver has it.
    Accepted {
        status: StatusCode,
        /// Whether the last request of a chain of redirects had no event in it.
        empty: bool,
    },
    /// The receiver did not want it.
    Refused(StatusCode),
    /// No answer came, for this reason.
    Failed(String),
}

/// Why no client can be made.
#[derive(Debug, Error)]
#[error("the HTTP client cannot be started: {0}")]
pub(crate) struct ClientError(String);

/// Sends events.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    /// Whether any certificate can be trusted.
    pub(crate) trusts_any: bool,
}

impl Client {
    /// A client that trusts the certificate authorities of the machine.
    pub(crate) fn new() -> Result<Self, ClientError> {
        let authorities = wharfinger_client::authorities();
        let trusts_any = !authorities.is_empty();
        let http = wharfinger_client::builder(authorities)
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|error| ClientError(wharfinger_client::chain(&error)))?;
        Ok(Self { http, trusts_any })
    }

    /// Hands an event over. Takes at most a bit longer than `within`.
    pub(crate) async fn send(
        &self,
        receiver: &Receiver,
        format: Format,
        event: &[u8],
        within: Duration,
    ) -> Outcome {
        let body = Bytes::from(envelope(event));
        let (response, empty) = match timeout(within, self.follow(receiver, format, body)).await {
            Ok(Ok(followed)) => followed,
            Ok(Err(reason)) => return Outcome::Failed(reason),
            Err(_) => return Outcome::Failed(format!("no answer came within {within:?}")),
        };
        let status = response.status();
        if response
            .content_length()
            .is_some_and(|length| length <= READABLE)
        {
            let _ = timeout(within, response.bytes()).await;
        }
        if status.is_success() || status.is_redirection() {
            Outcome::Accepted { status, empty }
        } else {
            Outcome::Refused(status)
        }
    }

    /// The last answer of a chain of redirects, and whether its request had no event in it. They
    /// are followed as Distribution follows them: 307 and 308 with the same request, 301, 302 and
    /// 303 with a GET. Headers of the configuration go to the configured host only, and never
    /// from https to http.
    async fn follow(
        &self,
        receiver: &Receiver,
        format: Format,
        body: Bytes,
    ) -> Result<(Response, bool), String> {
        let content_type = HeaderValue::from_static(format.media_type());
        let mut url = receiver.url.clone();
        let mut body = Some(body);
        for _ in 0..MAX_REDIRECTS {
            let method = if body.is_some() {
                Method::POST
            } else {
                Method::GET
            };
            let mut headers = HeaderMap::new();
            if body.is_some() {
                headers.insert(header::CONTENT_TYPE, content_type.clone());
            }
            if url.host() == receiver.url.host()
                && (url.scheme() == "https" || !receiver.is_secure())
            {
                for name in receiver.headers.keys() {
                    headers.remove(name);
                    for value in receiver.headers.get_all(name) {
                        headers.append(name, value.clone());
                    }
                }
            }
            let mut request = self.http.request(method, url.clone()).headers(headers);
            if let Some(body) = &body {
                request = request.body(body.clone());
            }
            let response = request.send().await;
            let response =
                response.map_err(|error| wharfinger_client::chain(&error.without_url()))?;
            let Some(next) = location(&response) else {
                return Ok((response, body.is_none()));
            };
            if !matches!(response.status().as_u16(), 307 | 308) {
                body = None;
            }
            url = next;
        }
        Err(format!("it was redirected {MAX_REDIRECTS} times"))
    }
}

/// Where an answer redirects to, if it does.
fn location(response: &Response) -> Option<Url> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = response.headers().get(header::LOCATION)?.to_str().ok()?;
    let next = response.url().join(location).ok()?;
    matches!(next.scheme(), "http" | "https").then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_of_a_receiver_is_shown() {
        let headers = [("Authorization", "Bearer s3cret"), ("X-Token", "s3cret")];
        let receiver = Receiver::new("https://ann:s3cret@h:1/s3cret?t=s3cret", headers).unwrap();
        assert_eq!(receiver.to_string(), "https://h:1");
        let debug = format!("{receiver:?} {:?}", receiver.headers);
        assert!(!debug.contains("s3cret"), "{debug}");
        // Expressly goes before the URL.
        assert_eq!(receiver.headers["authorization"], "Bearer s3cret");
        let plain = Receiver::new("http://ann:p%40ss@h/", []).unwrap();
        assert_eq!(plain.headers["authorization"], "Basic YW5uOnBAc3M=");
        assert_eq!(plain.url.as_str(), "http://h/");
        for url in ["ftp://h/", "h/events", "http://", "http://h:99999/"] {
            assert!(Receiver::new(url, []).is_err(), "{url}");
        }
        let error = Receiver::new("http://h/", [("X", "s3cret\n")]).unwrap_err();
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
}
