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
                "this is no URL like https://registry.example.org",
            );
        }
        self.headers("http.headers", &http.headers);
    }
}
