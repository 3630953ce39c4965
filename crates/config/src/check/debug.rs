//! `http.debug`.

use super::{Checker, is_address};
use crate::Config;

/// The paths of the second listener that are not metrics'.
const TAKEN: [&str; 3] = ["/debug/health", "/livez", "/readyz"];

impl Checker<'_> {
    pub(super) fn debug(&mut self, config: &Config) {
        let debug = &config.http.debug;
        let prometheus = &debug.prometheus;
        if !debug.addr.is_empty() && !is_address(&debug.addr) {
            let message = format!("{:?} is not host and port, like 127.0.0.1:5001", debug.addr);
            self.wrong("http.debug.addr", message);
        }
        let path = prometheus.path.as_str();
        if !path.is_empty() && !path.starts_with('/') {
            let message = format!("{path:?} is no path: it must begin with a slash, like /metrics");
            self.wrong("http.debug.prometheus.path", message);
        }
        if TAKEN.contains(&path) {
            let message = format!("{path} is something else there; /metrics is free");
            self.wrong("http.debug.prometheus.path", message);
        }
        if prometheus.enabled && debug.addr.is_empty() {
            let message =
                "it has no effect: metrics are served at http.debug.addr, which is not set";
            self.warn("http.debug.prometheus.enabled", message);
        }
    }
}
