//! How another registry is reached.

use super::{Checker, is_url};
use crate::Remote;

impl Checker<'_> {
    /// Looks at the keys below `key` that say how a registry is reached.
    pub(super) fn remote(&mut self, key: &str, remote: Remote<'_>) {
        let url = format!("{key}.remoteurl");
        if remote.remoteurl.is_empty() {
            let message =
                "it is missing: the registry's address, like https://registry.example.org";
            self.wrong(&url, message);
        } else if !is_url(remote.remoteurl) {
            let message = "this is no URL like https://registry.example.org";
            self.wrong(&url, message);
        } else if remote.remoteurl.contains('@') {
            let message =
                format!("a user and a password belong to {key}.username and {key}.password");
            self.wrong(&url, message);
        } else if remote.remoteurl.contains(['?', '#']) {
            let message = "nothing may follow the path: no query, no fragment";
            self.wrong(&url, message);
        }
        self.credentials(key, remote);
        let proxy = remote.proxy.expose();
        if !proxy.is_empty() && proxy != "direct" && !is_url(proxy) {
            let message = "this is neither the URL of a proxy, like http://proxy.example.org:3128, nor \
                           direct";
            self.wrong(&format!("{key}.proxy"), message);
        }
    }

    fn credentials(&mut self, key: &str, remote: Remote<'_>) {
        let Remote {
            username, password, ..
        } = remote;
        let has_user = !username.is_empty() || !password.is_empty();
        if !remote.dockerconfig.is_empty() && (has_user || remote.exec.is_some()) {
            let message = format!(
                "{key}.dockerconfig knows who to be; {key}.username, {key}.password and {key}.exec \
                 cannot be set besides"
            );
            self.wrong(&format!("{key}.dockerconfig"), message);
        }
        match remote.exec {
            Some(exec) if exec.command.is_empty() => {
                let message = "it is missing: the program that is asked for user and password";
                self.wrong(&format!("{key}.exec.command"), message);
            }
            Some(_) if has_user => {
                let message =
                    format!("the program is asked; {key}.username and {key}.password are not used");
                self.warn(&format!("{key}.exec"), message);
            }
            Some(_) => {}
            None if username.is_empty() != password.is_empty() => {
                let message =
                    format!("{key}.username and {key}.password go together; one is missing");
                self.wrong(&format!("{key}.username"), message);
            }
            None => {}
        }
    }
}
