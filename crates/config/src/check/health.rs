//! `health`.

use super::Checker;
use crate::Config;

impl Checker<'_> {
    pub(super) fn health(&mut self, config: &Config) {
        let health = &config.health;
        for (kind, some) in [
            ("file", !health.file.is_empty()),
            ("http", !health.http.is_empty()),
            ("tcp", !health.tcp.is_empty()),
        ] {
            if some {
                let what = format!("checking {kind} is");
                self.not_built(&format!("health.{kind}"), &what);
            }
        }
    }
}
