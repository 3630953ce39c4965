//! The addresses that clients are told.

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Uri, header};
use wharfinger_oci::{Digest, RepositoryName};

use crate::Options;

/// Makes addresses as one request's client must be told them: with the scheme and host that it
/// sees, which a proxy in front may have changed.
#[derive(Debug)]
pub(crate) struct Locations {
    /// Everything before `v2/`.
    base: String,
}

impl Locations {
    pub(crate) fn new(options: &Options, request: &Parts, secure: bool) -> Self {
        let prefix = &options.prefix;
        if options.relative_urls {
            return Self {
                base: prefix.clone(),
            };
        }
        if let Some(host) = &options.host {
            return Self {
                base: format!("{}{prefix}", host.to_string().trim_end_matches('/')),
            };
        }
        let (scheme, host) = seen_by_client(&request.headers, &request.uri, secure);
        // HTTP/1.0 without a host: nothing better than a relative address is known.
        let base = host.map_or_else(
            || prefix.clone(),
            |host| format!("{scheme}://{host}{prefix}"),
        );
        Self { base }
    }

    pub(crate) fn blob(&self, name: &RepositoryName, digest: &Digest) -> HeaderValue {
        value(format!("{}v2/{name}/blobs/{digest}", self.base))
    }

    pub(crate) fn manifest(&self, name: &RepositoryName, digest: &Digest) -> HeaderValue {
        value(format!("{}v2/{name}/manifests/{digest}", self.base))
    }

    pub(crate) fn upload(&self, name: &RepositoryName, id: &str, state: &str) -> HeaderValue {
        let state = state.replace('=', "%3D");
        value(format!(
            "{}v2/{name}/blobs/uploads/{id}?_state={state}",
            self.base
        ))
    }
}

fn value(text: String) -> HeaderValue {
    HeaderValue::from_maybe_shared(bytes::Bytes::from(text))
        .unwrap_or(HeaderValue::from_static("/"))
}

/// Scheme and host by `Forwarded` (RFC 7239), else by `X-Forwarded-Proto` and `-Host`, else by the
/// connection and the request. A host that cannot be part of an address is not believed.
pub(crate) fn seen_by_client(
    headers: &HeaderMap,
    uri: &Uri,
    secure: bool,
) -> (String, Option<String>) {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let host_header = headers
        .get(header::HOST)
        .and_then(|value| value.to_str().ok());
    let own_scheme = match uri.scheme_str() {
        Some("https") => "https",
        _ if secure => "https",
        _ => "http",
    };
    let mut scheme = own_scheme.to_owned();
    let mut host = uri
        .authority()
        .map(|a| a.as_str())
        .or(host_header)
        .map(str::to_owned);
    if let Some(forwarded) = text("forwarded") {
        let first = forwarded.split(',').next().unwrap_or_default();
        for pair in first.split(';') {
            let Some((key, value)) = pair.split_once('=') else {
                continue;
            };
            let value = value.trim().trim_matches('"').to_owned();
            match key.trim().to_ascii_lowercase().as_str() {
                "proto" => scheme = value,
                "host" => host = Some(value),
                _ => {}
            }
        }
    } else {
        if let Some(proto) = text("x-forwarded-proto") {
            scheme = proto
                .split(',')
                .next()
                .unwrap_or_default()
                .trim()
                .to_owned();
        }
        if let Some(forwarded) = text("x-forwarded-host") {
            host = forwarded
                .split(',')
                .next()
                .map(|first| first.trim().to_owned());
        }
    }
    if !matches!(&*scheme, "http" | "https") {
        own_scheme.clone_into(&mut scheme);
    }
    (
        scheme,
        host.filter(|host| host.parse::<http::uri::Authority>().is_ok()),
    )
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn base_over(secure: bool, options: &Options, headers: &[(&str, &str)]) -> String {
        let mut request = Request::get("/v2/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Locations::new(options, &request.body(()).unwrap().into_parts().0, secure).base
    }

    fn base(options: &Options, headers: &[(&str, &str)]) -> String {
        base_over(false, options, headers)
    }

    #[test]
    fn clients_are_told_the_address_they_see() {
        let plain = Options::default();
        let cases: [(&[(&str, &str)], &str); 8] = [
            (&[("host", "r:5000")], "http://r:5000/"),
            (
                &[("host", "r"), ("x-forwarded-proto", "https")],
                "https://r/",
            ),
            (
                &[("host", "r"), ("x-forwarded-host", "a.b, c")],
                "http://a.b/",
            ),
            (
                &[
                    ("host", "r"),
                    ("forwarded", "for=1;proto=https;host=\"x:1\", host=y"),
                ],
                "https://x:1/",
            ),
            (
                &[
                    ("host", "r"),
                    ("forwarded", "proto=https"),
                    ("x-forwarded-host", "n"),
                ],
                "https://r/",
            ),
            (
                &[("host", "r"), ("x-forwarded-proto", "javascript")],
                "http://r/",
            ),
            (&[("x-forwarded-host", "a/b")], "/"),
            (&[], "/"),
        ];
        for (headers, expected) in cases {
            assert_eq!(base(&plain, headers), expected, "{headers:?}");
        }
        let host = [("host", "r:5000")];
        assert_eq!(base_over(true, &plain, &host), "https://r:5000/");
        let outside = [("host", "r"), ("x-forwarded-proto", "http")];
        assert_eq!(base_over(true, &plain, &outside), "http://r/");
        let relative = Options {
            relative_urls: true,
            prefix: "/p/".into(),
            ..Options::default()
        };
        assert_eq!(base(&relative, &[("host", "r")]), "/p/");
        let host = Some("https://hub.example/".parse().unwrap());
        let fixed = Options {
            host,
            ..Options::default()
        };
        assert_eq!(base(&fixed, &[("host", "r")]), "https://hub.example/");
    }
}
