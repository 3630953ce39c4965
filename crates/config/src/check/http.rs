//! `http`.

use super::{Checker, is_url};
use crate::Config;

impl Checker<'_> {
    pub(super) fn http(&mut self, config: &Config) {
        let http = &config.http;
        match http.net.as_str() {
            "" | "tcp" => {}
            "unix" => self.not_built("http.net", "listening on a Unix socket is"),
            other => self.wrong(
                "http.net",
                format!("{other:?} is no kind of network; there is tcp"),
            ),
        }
        let prefix = &http.prefix;
        let framed = prefix.starts_with('/') && prefix.ends_with('/');
        if !framed && !prefix.is_empty() {
            self.wrong(
                "http.prefix",
                format!("{prefix:?} must begin and end with a slash, like /registry/"),
            );
        }
        if !http.host.is_empty() && !is_url(&http.host) {
            self.wrong(
                "http.host",
                format!(
                    "{:?} is no URL like https://registry.example.org",
                    http.host
                ),
            );
        }
        let tls = &http.tls;
        if !tls.certificate.is_empty() || !tls.key.is_empty() {
            self.not_built("http.tls", "TLS is");
        }
        if !tls.letsencrypt.cachefile.is_empty() || !tls.letsencrypt.hosts.is_empty() {
            self.not_built("http.tls.letsencrypt", "getting certificates is");
        }
        self.headers("http.headers", &http.headers);
    }
}
