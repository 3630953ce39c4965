//! `log` and `reporting`.

use super::Checker;
use crate::Config;

impl Checker<'_> {
    pub(super) fn log(&mut self, config: &Config) {
        for (index, hook) in config.log.hooks.iter().enumerate() {
            if !hook.disabled {
                self.not_built(&format!("log.hooks[{index}]"), "hooks of the log are");
            }
        }
        for name in config.reporting.keys() {
            let key = format!("reporting.{name}");
            let message = "error reporting to outside services does not exist, as in Distribution \
                           3; without this key the registry starts";
            self.wrong(&key, message);
        }
    }
}
