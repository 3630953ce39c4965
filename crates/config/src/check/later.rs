//! Sections that later work brings.

use super::Checker;
use crate::Config;

impl Checker<'_> {
    pub(super) fn later(&mut self, config: &Config) {
        if !config.proxy.remoteurl.is_empty() {
            self.not_built("proxy.remoteurl", "the pull-through cache is");
        }
    }
}
