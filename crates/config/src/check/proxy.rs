//! `proxy`.

use std::collections::BTreeMap;

use wharfinger_oci::{NamePattern, RepositoryName};

use super::Checker;
use crate::Config;
use crate::section::{Proxy, Upstream};

impl Checker<'_> {
    pub(super) fn proxy(&mut self, config: &Config) {
        let proxy = &config.proxy;
        self.upstreams(proxy);
        if !proxy.is_used() {
            self.without_upstream(proxy);
            return;
        }
        self.remote("proxy", proxy.remote());
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
            dockerconfig,
            ca,
            proxy: through,
            ..
        } = proxy;
        let texts = [username, dockerconfig, ca];
        let is_set = texts.into_iter().any(|text| !text.is_empty());
        if is_set || !password.is_empty() || !through.is_empty() || exec.is_some() {
            let message = "it has no effect without proxy.remoteurl";
            self.warn("proxy", message);
        }
    }

    fn upstreams(&mut self, proxy: &Proxy) {
        let mut called = BTreeMap::new();
        let mut hosts = BTreeMap::new();
        for (index, upstream) in proxy.upstreams.iter().enumerate() {
            let key = format!("proxy.upstreams[{index}]");
            self.remote(&key, upstream.remote());
            self.name(&key, upstream, &proxy.upstreams[..index]);
            for (list, patterns) in [("allow", &upstream.allow), ("deny", &upstream.deny)] {
                for (place, pattern) in patterns.iter().enumerate() {
                    if let Err(error) = pattern.parse::<NamePattern>() {
                        self.wrong(&format!("{key}.{list}[{place}]"), error.to_string());
                    }
                }
            }
            self.once(&format!("{key}.ns"), index, &upstream.ns, &mut called);
            self.once(&format!("{key}.hosts"), index, &upstream.hosts, &mut hosts);
        }
        for (place, ns) in proxy.ns.iter().enumerate() {
            if let Some(other) = called.get(&ns.to_ascii_lowercase()) {
                let message = format!("proxy.upstreams[{other}] is asked for by it");
                self.wrong(&format!("proxy.ns[{place}]"), message);
            }
        }
        if proxy.upstreams.is_empty() && !proxy.ns.is_empty() {
            let message = "it has no effect without proxy.upstreams: ns is not looked at";
            self.warn("proxy.ns", message);
        }
    }

    fn name(&mut self, key: &str, upstream: &Upstream, before: &[Upstream]) {
        let name = &upstream.name;
        let key = format!("{key}.name");
        if name.is_empty() {
            let message = "it is missing: below which name it is kept, like docker.io";
            self.wrong(&key, message);
            return;
        }
        if let Err(error) = name.parse::<RepositoryName>() {
            self.wrong(&key, error.to_string());
        }
        let is_below = |name: &str, above: &str| {
            let rest = name.strip_prefix(above);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let other = before.iter().position(|other| {
            !other.name.is_empty() && (is_below(name, &other.name) || is_below(&other.name, name))
        });
        if let Some(other) = other {
            let message = format!(
                "proxy.upstreams[{other}] is called {:?}; each needs a name of its own, and none \
                 may lie below another's",
                before[other].name
            );
            self.wrong(&key, message);
        }
    }

    /// Looks at what may lead to one upstream alone.
    fn once(
        &mut self,
        key: &str,
        index: usize,
        values: &[String],
        known: &mut BTreeMap<String, usize>,
    ) {
        for (place, value) in values.iter().enumerate() {
            let key = format!("{key}[{place}]");
            if !is_host(value) {
                let message = format!(
                    "{value:?} is no host like registry.example.org or registry.example.org:5000"
                );
                self.wrong(&key, message);
            } else if let Some(other) = known.insert(value.to_ascii_lowercase(), index) {
                let message = format!("proxy.upstreams[{other}] is asked for by it too");
                self.wrong(&key, message);
            }
        }
    }
}

/// Whether a text can be a host, with a port or without.
fn is_host(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    !text.is_empty() && text.chars().all(is_part)
}
