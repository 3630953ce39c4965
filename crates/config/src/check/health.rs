//! `health`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Checker, is_address, is_url};
use crate::duration::GoDuration;
use crate::{Config, Health, without_secrets};

/// Less than this is meant to be more: `10` is ten nanoseconds.
const SHORTEST: Duration = Duration::from_millis(1);

impl Checker<'_> {
    pub(super) fn health(&mut self, config: &Config) {
        let health = &config.health;
        self.length(
            "health.storagedriver.interval",
            health.storagedriver.interval,
        );
        for (index, check) in health.file.iter().enumerate() {
            let key = format!("health.file[{index}]");
            self.length(&format!("{key}.interval"), check.interval);
            if check.file.is_empty() {
                let message = "it is missing: the file that takes the registry out of service";
                self.wrong(&format!("{key}.file"), message);
            }
        }
        for (index, check) in health.http.iter().enumerate() {
            let key = format!("health.http[{index}]");
            self.length(&format!("{key}.interval"), check.interval);
            self.length(&format!("{key}.timeout"), check.timeout);
            self.secret_headers(&format!("{key}.headers"), &check.headers);
            if !is_url(&check.uri) {
                let message = "this is no URL like http://10.0.0.1:8080/up";
                self.wrong(&format!("{key}.uri"), message);
            }
            if !matches!(check.statuscode, 100..=599) {
                let message = format!("{} is no status of HTTP, like 200", check.statuscode);
                self.wrong(&format!("{key}.statuscode"), message);
            }
        }
        for (index, check) in health.tcp.iter().enumerate() {
            let key = format!("health.tcp[{index}]");
            self.length(&format!("{key}.interval"), check.interval);
            self.length(&format!("{key}.timeout"), check.timeout);
            if !is_address(&check.addr) {
                let message = format!("{:?} is not host and port, like 10.0.0.1:6379", check.addr);
                self.wrong(&format!("{key}.addr"), message);
            }
        }
        self.twice(health);
    }

    fn length(&mut self, key: &str, length: GoDuration) {
        if length.get() < SHORTEST {
            let message = format!("{length} is too short; is a unit missing, as in 10s?");
            self.wrong(key, message);
        }
    }

    /// Checks are told apart by what they look at, as far as that is shown.
    fn twice(&mut self, health: &Health) {
        let files = health.file.iter().map(|check| check.file.clone());
        let urls = health.http.iter().map(|check| without_secrets(&check.uri));
        let addresses = health.tcp.iter().map(|check| check.addr.clone());
        let keys = files
            .enumerate()
            .map(|(index, name)| (format!("health.file[{index}]"), name))
            .chain(
                urls.enumerate()
                    .map(|(i, name)| (format!("health.http[{i}]"), name)),
            )
            .chain(
                addresses
                    .enumerate()
                    .map(|(i, name)| (format!("health.tcp[{i}]"), name)),
            );
        let mut seen = BTreeMap::new();
        for (key, name) in keys.filter(|(_, name)| !name.is_empty()) {
            match seen.get(&name) {
                Some(first) => {
                    let message = format!("{first} looks at the same already");
                    self.wrong(&key, message);
                }
                None => {
                    seen.insert(name, key);
                }
            }
        }
    }
}
