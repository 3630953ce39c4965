//! Absolute URLs, taken apart and put together as Go does it, whose addresses clients of
//! Distribution have been given: nothing is left out or written otherwise that need not be.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use thiserror::Error;

/// What Go writes in a path as `%` and two digits.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b',')
    .remove(b'/')
    .remove(b':')
    .remove(b';')
    .remove(b'=')
    .remove(b'@');

/// A text is no absolute URL of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("this is no URL of http or https, like https://store.example/registry")]
pub struct InvalidUrl;

/// An absolute URL of HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    /// In small letters.
    pub(super) scheme: String,
    /// Host and port, with whoever stands before an `@`.
    pub(super) authority: String,
    /// Empty, or from the slash on, as it is written.
    pub(super) path: String,
    /// From the `?` or `#` on.
    pub(super) rest: String,
}

impl Url {
    pub(super) fn parse(text: &str) -> Result<Self, InvalidUrl> {
        let (scheme, rest) = text.split_once("://").ok_or(InvalidUrl)?;
        let scheme = scheme.to_ascii_lowercase();
        let (rest, behind) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let printable = text.bytes().all(|c| c.is_ascii_graphic());
        if !matches!(scheme.as_str(), "http" | "https") || authority.is_empty() || !printable {
            return Err(InvalidUrl);
        }
        Ok(Self {
            scheme,
            authority: authority.to_owned(),
            path: path.to_owned(),
            rest: behind.to_owned(),
        })
    }

    /// Host and port alone.
    pub(super) fn host(&self) -> &str {
        let at = self.authority.rfind('@').map_or(0, |at| at + 1);
        &self.authority[at..]
    }

    /// What the path says.
    pub(super) fn decoded_path(&self) -> String {
        percent_decode_str(&self.path)
            .decode_utf8_lossy()
            .into_owned()
    }

    /// Says another path.
    pub(super) fn set_path(&mut self, path: &str) {
        let slash = if path.is_empty() || path.starts_with('/') {
            ""
        } else {
            "/"
        };
        self.path = format!("{slash}{}", utf8_percent_encode(path, ESCAPED));
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            scheme,
            authority,
            path,
            rest,
        } = self;
        write!(f, "{scheme}://{authority}{path}{rest}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_apart_is_put_together_the_same() {
        for text in [
            "https://h",
            "http://u:p@h:443/",
            "https://[::1]:5443/a%20b/c?x=%2F&y#z",
            "https://h?x=/y",
        ] {
            assert_eq!(Url::parse(text).unwrap().to_string(), text);
        }
        let url = Url::parse("HTTPS://u:p@[::1]:1/a%20b").unwrap();
        assert_eq!(
            (url.host(), url.decoded_path().as_str()),
            ("[::1]:1", "/a b")
        );
        assert!(url.to_string().starts_with("https://"));
        for text in [
            "",
            "h",
            "h/a",
            "ftp://h",
            "https://",
            "https:///a",
            "https://h/a b",
        ] {
            assert_eq!(Url::parse(text), Err(InvalidUrl), "{text}");
        }
    }
}
