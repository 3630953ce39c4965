//! `notifications`.

use super::Checker;
use crate::Config;

impl Checker<'_> {
    pub(super) fn notifications(&mut self, config: &Config) {
        for (index, endpoint) in config.notifications.endpoints.iter().enumerate() {
            if !endpoint.disabled {
                let key = format!("notifications.endpoints[{index}]");
                self.not_built(&key, "sending notifications is");
            }
        }
    }
}
