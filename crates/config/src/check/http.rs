//! `http`.

use super::{Checker, is_url};
use crate::{Config, is_socket_path};

impl Checker<'_> {
    pub(super) fn http(&mut self, config: &Config) {
        let http = &config.http;
        match http.net.as_str() {
            "" | "tcp" => {}
            "unix" if is_socket_path(&http.addr) => {}
            "unix" => self.wrong(
                "http.addr",
                format!(
                    "{:?} is no path of a Unix socket, like /run/wharfinger/registry.sock",
                    http.addr
                ),
            ),
            other => self.wrong(
                "http.net",
                format!("{other:?} is no kind of network; there are tcp and unix"),
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
        if !http.debug.addr.is_empty() {
            self.not_built(
                "http.debug",
                "the second listener, for metrics and health, is",
            );
        }
        for (name, values) in &http.headers {
            let key = format!("http.headers.{name}");
            let token = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
            if name.is_empty() || !name.bytes().all(token) {
                self.wrong(&key, format!("{name:?} cannot be the name of a header"));
            }
            if values
                .iter()
                .any(|value| value.bytes().any(|c| c < 0x20 && c != b'\t' || c == 0x7f))
            {
                self.wrong(&key, "a header cannot have control characters in its value");
            }
        }
    }
}
