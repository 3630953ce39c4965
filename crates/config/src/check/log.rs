//! `log` and `reporting`.

use super::{Checker, is_address};
use crate::Config;
use crate::section::{HOOK_LEVELS, Hook};

impl Checker<'_> {
    pub(super) fn log(&mut self, config: &Config) {
        for module in config.log.levels.keys() {
            let part = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b':');
            if module.is_empty() || !module.bytes().all(part) {
                let key = format!("log.levels.{module}");
                self.wrong(
                    &key,
                    "this is no module, like wharfinger_storage or hyper::proto",
                );
            }
        }
        for (index, hook) in config.log.hooks.iter().enumerate() {
            if !hook.disabled {
                self.hook(&format!("log.hooks[{index}]"), hook);
            }
        }
        for name in config.reporting.keys() {
            let key = format!("reporting.{name}");
            let message = "error reporting to outside services does not exist, as in Distribution \
                           3; without this key the registry starts";
            self.wrong(&key, message);
        }
    }

    fn hook(&mut self, key: &str, hook: &Hook) {
        if hook.kind != "mail" {
            let message = format!("{:?} is no kind of hook; there is mail", hook.kind);
            self.wrong(&format!("{key}.type"), message);
            return;
        }
        let known = HOOK_LEVELS.map(|(name, _)| name).join(", ");
        if hook.levels.is_empty() {
            let message = format!("it is missing: what a mail is sent about, some of {known}");
            self.wrong(&format!("{key}.levels"), message);
        }
        for (index, level) in hook.levels.iter().enumerate() {
            if !HOOK_LEVELS
                .iter()
                .any(|(name, _)| name.eq_ignore_ascii_case(level))
            {
                let message = format!("{level:?} is not one of {known}");
                self.wrong(&format!("{key}.levels[{index}]"), message);
            }
        }
        let options = &hook.options;
        if !is_address(&options.smtp.addr) || options.smtp.addr.starts_with(':') {
            let message = format!(
                "{:?} is not host and port of a mail server, like mail.example.org:587",
                options.smtp.addr
            );
            self.wrong(&format!("{key}.options.smtp.addr"), message);
        }
        let is_mail = |text: &str| text.contains('@');
        if !is_mail(&options.from) {
            let message = format!("{:?} is no address like registry@example.org", options.from);
            self.wrong(&format!("{key}.options.from"), message);
        }
        if options.to.is_empty() {
            self.wrong(
                &format!("{key}.options.to"),
                "it is missing: who gets the mails",
            );
        }
        for (index, to) in options.to.iter().enumerate() {
            if !is_mail(to) {
                let message = format!("{to:?} is no address like admin@example.org");
                self.wrong(&format!("{key}.options.to[{index}]"), message);
            }
        }
    }
}
