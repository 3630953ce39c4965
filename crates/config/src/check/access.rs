//! `auth` and `policy`.

use super::Checker;
use crate::Config;

impl Checker<'_> {
    pub(super) fn access(&mut self, config: &Config) {
        let auth = &config.auth;
        let methods = [
            auth.none.is_some(),
            auth.silly.is_some(),
            auth.htpasswd.is_some(),
            auth.token.is_some(),
        ];
        if methods.into_iter().filter(|named| *named).count() > 1 {
            self.wrong("auth", "there can be one method only");
        }
        if let Some(silly) = &auth.silly {
            self.needed(
                "auth.silly.realm",
                &silly.realm,
                "where clients get a token",
            );
            self.needed(
                "auth.silly.service",
                &silly.service,
                "the registry's name there",
            );
        }
        if let Some(htpasswd) = &auth.htpasswd {
            let realm = "what clients show to people who are asked for a password";
            self.needed("auth.htpasswd.realm", &htpasswd.realm, realm);
            self.needed("auth.htpasswd.path", &htpasswd.path, "the file of users");
        }
        if let Some(token) = &auth.token {
            self.needed(
                "auth.token.realm",
                &token.realm,
                "the URL where clients get tokens",
            );
            let service = "the audience that tokens must have";
            self.needed("auth.token.service", &token.service, service);
            self.needed(
                "auth.token.issuer",
                &token.issuer,
                "the issuer that tokens must have",
            );
            let path = &token.autoredirectpath;
            if !path.is_empty() && !path.starts_with('/') {
                let message = format!("{path:?} is no path: it must begin with a slash");
                self.wrong("auth.token.autoredirectpath", message);
            }
        }
        for (index, class) in config.policy.repository.classes.iter().enumerate() {
            if !["image", "plugin"].contains(&class.as_str()) {
                let key = format!("policy.repository.classes[{index}]");
                self.wrong(
                    &key,
                    format!("{class:?} is no class; there are image and plugin"),
                );
            }
        }
    }

    fn needed(&mut self, key: &str, value: &str, what: &str) {
        if value.is_empty() {
            self.wrong(key, format!("it is missing: {what}"));
        }
    }
}
