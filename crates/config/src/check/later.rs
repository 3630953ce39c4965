//! Sections that later work brings.

use super::Checker;
use crate::Config;

impl Checker<'_> {
    pub(super) fn later(&mut self, config: &Config) {
        for (kind, middlewares) in &config.middleware {
            for (index, middleware) in middlewares.iter().enumerate() {
                if !middleware.disabled {
                    self.not_built(&format!("middleware.{kind}[{index}]"), "middleware is");
                }
            }
        }
        if !config.proxy.remoteurl.is_empty() {
            self.not_built("proxy.remoteurl", "the pull-through cache is");
        }
    }
}
