//! Where a bucket is.

use std::net::IpAddr;

/// Where buckets are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Endpoint {
    /// The server: a scheme, a host and perhaps a port.
    base: String,
    /// Whether a bucket's name stands in the path and not before the host.
    path_style: bool,
}

impl S3Endpoint {
    /// A server that speaks the protocol: `host`, `host:port`, or either behind `http://` or
    /// `https://`. Without a scheme it is HTTPS when `secure`. An address, and `localhost`, has no
    /// names below it, so that the bucket's name goes into the path whatever `path_style` says.
    pub fn server(server: &str, secure: bool, path_style: bool) -> Self {
        let base = match server.contains("://") {
            true => server.to_owned(),
            false => format!("{}://{server}", scheme(secure)),
        };
        let base = base.trim_end_matches('/').to_owned();
        let path_style = path_style || !has_names_below(&base);
        Self { base, path_style }
    }

    /// Amazon's server for a region.
    pub fn amazon(region: &str, variant: Amazon) -> Self {
        let domain = match region.starts_with("cn-") {
            true => "amazonaws.com.cn",
            false => "amazonaws.com",
        };
        let dual = if variant.dual_stack { ".dualstack" } else { "" };
        let host = match (variant.accelerate, variant.fips) {
            (true, _) => format!("s3-accelerate{dual}.{domain}"),
            (false, true) => format!("s3-fips{dual}.{region}.{domain}"),
            (false, false) => format!("s3{dual}.{region}.{domain}"),
        };
        Self {
            base: format!("{}://{host}", scheme(variant.secure)),
            path_style: variant.path_style,
        }
    }

    /// The address of a bucket. One whose name has dots has no certificate of Amazon's for a name
    /// of its own, so that its name goes into the path.
    pub(super) fn of(&self, bucket: &str) -> String {
        let dotted = self.base.starts_with("https://") && bucket.contains('.');
        match self.base.split_once("://") {
            Some((scheme, host)) if !self.path_style && !dotted => {
                format!("{scheme}://{bucket}.{host}")
            }
            _ => format!("{}/{bucket}", self.base),
        }
    }
}

/// Which of Amazon's servers is meant.
#[derive(Clone, Copy, Debug, Default)]
pub struct Amazon {
    /// Whether it is asked over HTTPS.
    pub secure: bool,
    /// Whether a bucket's name stands in the path.
    pub path_style: bool,
    /// Those that have IPv6 addresses too.
    pub dual_stack: bool,
    /// Those at the edge of Amazon's network.
    pub accelerate: bool,
    /// Those with validated cryptography.
    pub fips: bool,
}

fn scheme(secure: bool) -> &'static str {
    if secure { "https" } else { "http" }
}

fn has_names_below(base: &str) -> bool {
    let authority = base.split_once("://").map_or(base, |(_, rest)| rest);
    let authority = authority.split('/').next().unwrap_or_default();
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if is_port(port) => host,
        _ => authority,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host != "localhost" && host.parse::<IpAddr>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_found() {
        let amazon = |variant| S3Endpoint::amazon("eu-west-1", variant).of("b");
        let variant = Amazon {
            secure: true,
            ..Amazon::default()
        };
        assert_eq!(amazon(variant), "https://b.s3.eu-west-1.amazonaws.com");
        let path_style = Amazon {
            path_style: true,
            ..variant
        };
        assert_eq!(amazon(path_style), "https://s3.eu-west-1.amazonaws.com/b");
        let dual_stack = Amazon {
            dual_stack: true,
            ..variant
        };
        assert_eq!(
            amazon(dual_stack),
            "https://b.s3.dualstack.eu-west-1.amazonaws.com"
        );
        let accelerate = Amazon {
            accelerate: true,
            ..variant
        };
        assert_eq!(amazon(accelerate), "https://b.s3-accelerate.amazonaws.com");
        let china = S3Endpoint::amazon("cn-north-1", variant);
        assert_eq!(china.of("b"), "https://b.s3.cn-north-1.amazonaws.com.cn");
        let dotted = S3Endpoint::amazon("eu-west-1", variant);
        assert_eq!(dotted.of("b.c"), "https://s3.eu-west-1.amazonaws.com/b.c");
    }

    #[test]
    fn other_servers_are_found() {
        let server = |text| S3Endpoint::server(text, false, false).of("b");
        assert_eq!(server("http://127.0.0.1:9000"), "http://127.0.0.1:9000/b");
        assert_eq!(server("[::1]:9000/"), "http://[::1]:9000/b");
        assert_eq!(server("localhost:9000"), "http://localhost:9000/b");
        assert_eq!(server("store.example"), "http://b.store.example");
        assert_eq!(server("https://store.example"), "https://b.store.example");
        let path_style = S3Endpoint::server("store.example:90", true, true);
        assert_eq!(path_style.of("b"), "https://store.example:90/b");
    }
}
