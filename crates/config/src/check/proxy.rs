//! `proxy`.

use super::{Checker, is_url};
use crate::Config;
use crate::section::Proxy;

impl Checker<'_> {
    pub(super) fn proxy(&mut self, config: &Config) {
        let proxy = &config.proxy;
        if !proxy.is_used() {
            self.without_upstream(proxy);
            return;
        }
        if !is_url(&proxy.remoteurl) {
            let message = "this is no URL like https://registry.example.org";
            self.wrong("proxy.remoteurl", message);
        } else if proxy.remoteurl.contains('@') {
            let message = "a user and a password belong to proxy.username and proxy.password";
            self.wrong("proxy.remoteurl", message);
        } else if proxy.remoteurl.contains(['?', '#']) {
            let message = "nothing may follow the path: no query, no fragment";
            self.wrong("proxy.remoteurl", message);
        }
        match &proxy.exec {
            Some(exec) if exec.command.is_empty() => {
                let message = "it is missing: the program that is asked for user and password";
                self.wrong("proxy.exec.command", message);
            }
            Some(_) if !proxy.username.is_empty() || !proxy.password.is_empty() => {
                let message =
                    "the program is asked; proxy.username and proxy.password are not used";
                self.warn("proxy.exec", message);
            }
            Some(_) => {}
            None if proxy.username.is_empty() != proxy.password.is_empty() => {
                let message = "proxy.username and proxy.password go together; one is missing";
                self.wrong("proxy.username", message);
            }
            None => {}
        }
        if proxy.ttl.is_some_and(|ttl| !ttl.is_zero()) {
            let message = "the removal of what is not used any more is not built yet; without this \
                           key, or with 0, everything is kept";
            self.wrong("proxy.ttl", message);
        }
    }

    fn without_upstream(&mut self, proxy: &Proxy) {
        let Proxy {
            username,
            password,
            exec,
            ..
        } = proxy;
        if !username.is_empty() || !password.is_empty() || exec.is_some() {
            let message = "it has no effect without proxy.remoteurl";
            self.warn("proxy", message);
        }
    }
}
