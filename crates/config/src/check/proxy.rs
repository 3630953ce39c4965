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
            let is_named = self.name(&key, upstream, &proxy.upstreams[..index]);
            for (list, patterns) in [("allow", &upstream.allow), ("deny", &upstream.deny)] {
                for (place, pattern) in patterns.iter().enumerate() {
                    if let Err(error) = pattern.parse::<NamePattern>() {
                        self.wrong(&format!("{key}.{list}[{place}]"), error.to_string());
                    }
                }
            }
            // Where nothing else is said it is the name.
            if is_named {
                self.once(&format!("{key}.ns"), index, &upstream.ns, &mut called);
            }
            self.once(&format!("{key}.hosts"), index, &upstream.hosts, &mut hosts);
        }
        for (place, ns) in proxy.ns.iter().enumerate() {
            if let Some(other) = called.get(&ns.to_ascii_lowercase()) {
                let message = format!("proxy.upstreams[{other}] is asked for by it");
                self.wrong(&format!("proxy.ns[{place}]"), message);
            }
        }
        if proxy.is_used() && !proxy.upstreams.is_empty() && proxy.ns.is_empty() {
            let message = "it is missing: by what containerd asks for what no upstream with a name \
                           has, like docker.io";
            self.warn("proxy.ns", message);
        }
        if proxy.upstreams.is_empty() && !proxy.ns.is_empty() {
            let message = "it has no effect without proxy.upstreams: ns is not looked at";
            self.warn("proxy.ns", message);
        }
    }

    /// Whether an upstream has a name that none of those before it stands in the way of.
    fn name(&mut self, key: &str, upstream: &Upstream, before: &[Upstream]) -> bool {
        let key = format!("{key}.name");
        if upstream.name.is_empty() {
            let message = "it is missing: below which name it is kept, like docker.io";
            self.wrong(&key, message);
            return false;
        }
        let name = match upstream.name.parse::<RepositoryName>() {
            Ok(name) => name,
            Err(error) => {
                self.wrong(&key, error.to_string());
                return false;
            }
        };
        let meets = |other: &Upstream| {
            other.name.parse().is_ok_and(|other: RepositoryName| {
                other == name || other.below(&name).is_some() || name.below(&other).is_some()
            })
        };
        let Some(other) = before.iter().position(meets) else {
            return true;
        };
        let message = format!(
            "proxy.upstreams[{other}] is called {:?}; each needs a name of its own, and none may \
             lie below another's",
            before[other].name
        );
        self.wrong(&key, message);
        false
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
