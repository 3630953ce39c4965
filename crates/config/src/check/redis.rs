//! `redis`.

use std::time::Duration;

use super::{Checker, is_address};
use crate::{Config, Redis};

const CACHE: &str = "storage.cache.blobdescriptor";

/// Shorter times are slips: a number without a unit counts nanoseconds.
const SHORTEST: Duration = Duration::from_millis(1);

/// What a pool of connections would be told.
const POOL: [&str; 8] = [
    "poolfifo",
    "poolsize",
    "pooltimeout",
    "minidleconns",
    "maxidleconns",
    "maxactiveconns",
    "connmaxidletime",
    "connmaxlifetime",
];

/// The same in Distribution 2.x.
const OLD_POOL: [&str; 3] = ["maxidle", "maxactive", "idletimeout"];

/// What asking again would be told.
const RETRIES: [&str; 3] = ["maxretries", "minretrybackoff", "maxretrybackoff"];

/// What asking replicas would be told.
const REPLICAS: [&str; 3] = ["readonly", "routebylatency", "routerandomly"];

impl Checker<'_> {
    pub(super) fn redis(&mut self, config: &Config) {
        let redis = &config.redis;
        let written = self.tree.at(&["redis"]).is_some();
        if config.storage.cache.blobdescriptor != "redis" {
            if written {
                let message = format!("it has no effect: nothing uses it without {CACHE}: redis");
                self.warn("redis", message);
            }
            return;
        }
        if redis.addrs.is_empty() {
            let message = format!(
                "it is missing: where Redis is, like [10.0.0.1:6379]; {CACHE} wants to use it"
            );
            self.wrong("redis.addrs", message);
            return;
        }
        self.redis_addresses(redis);
        self.redis_numbers(redis);
        let tls = &redis.tls;
        if tls.key.is_empty() && !tls.certificate.is_empty() {
            let message = "it is missing: the file of the certificate's key";
            self.wrong("redis.tls.key", message);
        } else if tls.certificate.is_empty() && !tls.key.is_empty() {
            let message = "it is missing: the file of the key's certificate";
            self.wrong("redis.tls.certificate", message);
        }
        self.redis_without_effect(redis);
    }

    fn redis_addresses(&mut self, redis: &Redis) {
        let both = ["addr", "addrs"].map(|key| self.tree.at(&["redis", key]).is_some());
        if both == [true, true] {
            self.warn("redis.addr", "it has no effect beside redis.addrs");
        }
        let old = self.tree.at(&["redis", "addrs"]).is_none();
        for (index, address) in redis.addrs.iter().enumerate() {
            let key = match old {
                true => "redis.addr".to_owned(),
                false => format!("redis.addrs[{index}]"),
            };
            let socket = address.starts_with('/');
            if !socket && !is_address(address) {
                let message = format!("{address:?} is not host and port, like 10.0.0.1:6379");
                self.wrong(&key, message);
            } else if socket && (redis.addrs.len() > 1 || !redis.mastername.is_empty()) {
                let message = "sentinels and clusters are reached by host and port";
                self.wrong(&key, message);
            } else if socket && redis.is_secure() {
                self.wrong(&key, "there is no TLS on a Unix socket");
            }
        }
    }

    fn redis_numbers(&mut self, redis: &Redis) {
        if redis.is_cluster() && redis.db != 0 {
            let message = "a cluster has no database but 0; several redis.addrs without \
                           redis.mastername are a cluster";
            self.wrong("redis.db", message);
        }
        if !matches!(redis.protocol, 2 | 3) {
            let message = format!("{} is no version; there are 2 and 3", redis.protocol);
            self.wrong("redis.protocol", message);
        }
        if redis.keyprefix.contains(char::is_whitespace) || redis.keyprefix.contains(['{', '}']) {
            // Braces would put all keys of a cluster into one place.
            let message = "there can be no spaces and no braces in it";
            self.wrong("redis.keyprefix", message);
        }
        let times = [
            ("dialtimeout", redis.dialtimeout),
            ("readtimeout", redis.readtimeout),
            ("writetimeout", redis.writetimeout),
        ];
        for (name, time) in times {
            if !time.is_zero() && time.get() < SHORTEST {
                let message = format!("{time} is too short; write it with a unit, like 250ms");
                self.wrong(&format!("redis.{name}"), message);
            }
        }
    }

    /// Warns of what is said for nothing.
    fn redis_without_effect(&mut self, redis: &Redis) {
        let all = |names: &[&str]| names.iter().map(|name| format!("redis.{name}")).collect();
        let mut keys: Vec<String> = all(&POOL);
        keys.extend(OLD_POOL.map(|name| format!("redis.pool.{name}")));
        let pool = "it has no effect: one connection to each server carries all that is asked at \
                    once, and there is no pool";
        self.redis_unused(redis, &keys, pool);
        let retries = "it has no effect: what Redis does not answer is looked up in the store";
        self.redis_unused(redis, &all(&RETRIES), retries);
        let replicas = "it has no effect: replicas are behind, so only masters are asked";
        self.redis_unused(redis, &all(&REPLICAS), replicas);
        let unstable = "it has no effect: nothing that is not finished is used";
        self.redis_unused(redis, &all(&["unstableresp3"]), unstable);
        if redis.mastername.is_empty() {
            let sentinels = "it has no effect without redis.mastername: no sentinel is asked";
            self.redis_unused(
                redis,
                &all(&["sentinelusername", "sentinelpassword"]),
                sentinels,
            );
        }
        match redis.is_cluster() {
            true => {
                let own = "it has no effect with a cluster";
                let names = ["clientname", "disableidentity", "identitysuffix"];
                self.redis_unused(redis, &all(&names), own);
            }
            false => {
                let redirects = "it has no effect without a cluster: nobody redirects";
                self.redis_unused(redis, &all(&["maxredirects"]), redirects);
            }
        }
    }

    /// Warns of those keys that say something else than nothing.
    fn redis_unused(&mut self, redis: &Redis, keys: &[String], message: &str) {
        let plain = |redis: &Redis| serde_json::json!({"redis": redis});
        let (said, nothing) = (plain(redis), plain(&Redis::default()));
        for key in keys {
            let path = format!("/{}", key.replace('.', "/"));
            if said.pointer(&path) != nothing.pointer(&path) {
                self.warn(key, message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::parse;

    /// What is wrong with `redis`, and what is odd.
    fn check(redis: &str) -> (Vec<String>, Vec<String>) {
        let text = format!(
            "version: 0.1\nstorage: {{inmemory: , cache: {{blobdescriptor: redis}}}}\nredis: \
             {{{redis}}}"
        );
        let loaded = parse("c", &text, []).unwrap();
        let lines = |problems: &[crate::Problem]| {
            let lines = problems.iter().map(|p| format!("{}: {}", p.key, p.message));
            lines.collect()
        };
        (lines(&loaded.problems), lines(&loaded.warnings))
    }

    #[test]
    fn what_works_is_neither_wrong_nor_odd() {
        for redis in [
            "addr: 'localhost:6379'",
            "addrs: ['[::1]:6379'], db: 3, username: u, password: p, protocol: 2",
            "addrs: [/run/redis.sock], clientname: c, identitysuffix: s, disableidentity: true",
            "addrs: ['a:1', 'b:2'], mastername: m, sentinelusername: u, sentinelpassword: p, db: 1",
            "addrs: ['a:1', 'b:2'], maxredirects: 5, readtimeout: 10ms, tls: {enabled: true}",
            "addrs: ['a:1'], tls: {certificate: c, key: k, rootcas: [r]}, keyprefix: one",
            "addrs: ['a:1'], contexttimeoutenabled: true, dialtimeout: 10ms, writetimeout: 10ms",
        ] {
            assert_eq!(check(redis), (vec![], vec![]), "{redis}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (redis, message) in [
            (
                "db: 1",
                "redis.addrs: it is missing: where Redis is, like [10.0.0.1:6379]; \
                 storage.cache.blobdescriptor wants to use it",
            ),
            (
                "addr: redis",
                "redis.addr: \"redis\" is not host and port, like 10.0.0.1:6379",
            ),
            (
                "addrs: ['a:1', 'redis://b:1']",
                "redis.addrs[1]: \"redis://b:1\" is not host and port, like 10.0.0.1:6379",
            ),
            (
                "addrs: [/a, 'b:1']",
                "redis.addrs[0]: sentinels and clusters are reached by host and port",
            ),
            (
                "addrs: [/a], tls: {enabled: true}",
                "redis.addrs[0]: there is no TLS on a Unix socket",
            ),
            (
                "addrs: ['a:1', 'b:1'], db: 1",
                "redis.db: a cluster has no database but 0; several redis.addrs without \
                 redis.mastername are a cluster",
            ),
            (
                "addrs: ['a:1'], protocol: 4",
                "redis.protocol: 4 is no version; there are 2 and 3",
            ),
            (
                "addrs: ['a:1'], readtimeout: 10",
                "redis.readtimeout: 10ns is too short; write it with a unit, like 250ms",
            ),
            (
                "addrs: ['a:1'], tls: {certificate: c}",
                "redis.tls.key: it is missing: the file of the certificate's key",
            ),
            (
                "addrs: ['a:1'], tls: {key: k}",
                "redis.tls.certificate: it is missing: the file of the key's certificate",
            ),
            (
                "addrs: ['a:1'], keyprefix: '{a}'",
                "redis.keyprefix: there can be no spaces and no braces in it",
            ),
        ] {
            assert_eq!(check(redis).0, [message], "{redis}");
        }
    }

    #[test]
    fn what_has_no_effect_is_told_by_name() {
        let (wrong, odd) = check(
            "addr: 'x:1', addrs: ['a:1'], poolsize: 5, pool: {maxidle: 1}, maxretries: -1, readonly: \
             true, sentinelpassword: p, maxredirects: 1, unstableresp3: true",
        );
        assert_eq!(wrong, Vec::<String>::new());
        let keys: Vec<_> = odd.iter().map(|line| line.split(": ").next()).collect();
        let expected = [
            "redis.addr",
            "redis.poolsize",
            "redis.pool.maxidle",
            "redis.maxretries",
            "redis.readonly",
            "redis.unstableresp3",
            "redis.sentinelpassword",
            "redis.maxredirects",
        ];
        assert_eq!(keys, expected.map(Some));
        assert!(!odd.iter().any(|line| line.contains("password: p")));
        let (_, odd) = check("addrs: ['a:1', 'b:1'], clientname: c");
        assert_eq!(odd, ["redis.clientname: it has no effect with a cluster"]);
        let text = "version: 0.1\nstorage: inmemory\nredis: {addr: 'a:1'}";
        let loaded = parse("c", text, []).unwrap();
        let odd: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
        let message =
            "it has no effect: nothing uses it without storage.cache.blobdescriptor: redis";
        assert_eq!(odd, [format!("c:3:1: redis: {message}")]);
    }
}
