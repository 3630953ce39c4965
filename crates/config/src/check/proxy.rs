//! `proxy`.

use super::Checker;
use crate::Config;
use crate::section::Proxy;

impl Checker<'_> {
    pub(super) fn proxy(&mut self, config: &Config) {
        let proxy = &config.proxy;
        if !proxy.is_used() {
            self.without_upstream(proxy);
            return;
        }
        self.remote("proxy", proxy.remote());
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
