//! What a configuration asks for that cannot be: contradictions, values that make no sense, and
//! everything that is not built yet.

use regex::Regex;

use crate::node::{Node, Value};
use crate::problem::Problem;
use crate::section::{Config, DRIVERS, Platforms, Storage};

/// The only version of the format there is.
const VERSION: &str = "0.1";

/// # Errors
/// When the file is no configuration, or one of another version.
pub(crate) fn version(tree: &Node) -> Result<(), Problem> {
    let wrong = |node: &Node, key: &str, message: String| Problem {
        origin: node.origin.clone(),
        key: key.to_owned(),
        message,
    };
    if !matches!(tree.value, Value::Map(_)) {
        let message = format!("{} is no configuration: it must be a map", tree.kind());
        return Err(wrong(tree, "", message));
    }
    match tree.at(&["version"]) {
        Some(Node {
            value: Value::Scalar { text, .. },
            ..
        }) if text == VERSION => Ok(()),
        Some(node) => {
            let message = format!(
                "{} is not a version that is known: {VERSION} is",
                node.kind()
            );
            Err(wrong(node, "version", message))
        }
        None => {
            let message = format!("the line `version: {VERSION}` is missing");
            Err(wrong(tree, "version", message))
        }
    }
}

/// Everything that stands in the way of starting with this configuration.
pub(crate) fn check(config: &Config, tree: &Node) -> Vec<Problem> {
    let mut checker = Checker {
        tree,
        problems: Vec::new(),
    };
    checker.storage(&config.storage);
    checker.http(config);
    checker.manifests(config);
    checker.log(config);
    checker.later(config);
    checker.problems
}

struct Checker<'a> {
    tree: &'a Node,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    /// Reports `key`, at its place or that of the nearest key above it.
    fn wrong(&mut self, key: &str, message: impl Into<String>) {
        let path: Vec<&str> = key
            .split(['.', '[', ']'])
            .filter(|part| !part.is_empty())
            .collect();
        let place = (0..=path.len())
            .rev()
            .find_map(|length| self.tree.place(&path[..length]));
        self.problems.push(Problem {
            origin: place.unwrap_or(&self.tree.origin).clone(),
            key: key.to_owned(),
            message: message.into(),
        });
    }

    fn not_built(&mut self, key: &str, what: &str) {
        let message = format!("{what} not built yet; without this key the registry starts");
        self.wrong(key, message);
    }

    fn storage(&mut self, storage: &Storage) {
        let parameters = [&storage.s3, &storage.gcs, &storage.azure];
        let dropped = [&storage.oss, &storage.swift];
        let named = |name: &&&str| self.tree.at(&["storage", name]).is_some();
        let drivers: Vec<&str> = DRIVERS.iter().filter(named).copied().collect();
        match drivers.as_slice() {
            [] => {
                let all = DRIVERS[..5].join(", ");
                self.wrong("storage", format!("no driver is named; there are {all}"));
            }
            [_] => {}
            several => {
                let several = several.join(" and ");
                self.wrong(
                    "storage",
                    format!("there must be one driver, but there are {several}"),
                );
            }
        }
        for (name, _) in ["s3", "gcs", "azure"].iter().zip(parameters).filter(is_set) {
            let key = format!("storage.{name}");
            let message =
                format!("the driver {name} is not built yet; filesystem and inmemory are");
            self.wrong(&key, message);
        }
        for (name, _) in ["oss", "swift"].iter().zip(dropped).filter(is_set) {
            let key = format!("storage.{name}");
            let message = format!("the driver {name} does not exist, as in Distribution 3");
            self.wrong(&key, message);
        }
        if let Some(filesystem) = &storage.filesystem
            && filesystem.rootdirectory.is_empty()
        {
            self.wrong("storage.filesystem.rootdirectory", "the folder is missing");
        }
        match storage.cache.blobdescriptor.as_str() {
            "" | "inmemory" => {}
            "redis" => self.wrong(
                "storage.cache.blobdescriptor",
                "the cache in Redis is not built yet; inmemory is",
            ),
            other => self.wrong(
                "storage.cache.blobdescriptor",
                format!("{other:?} is no cache; there are inmemory and redis"),
            ),
        }
        let purging = &storage.maintenance.uploadpurging;
        if purging.enabled && purging.interval.is_zero() {
            self.wrong(
                "storage.maintenance.uploadpurging.interval",
                "the interval must be longer than nothing, like 24h",
            );
        }
        if purging.enabled && purging.age.is_zero() {
            self.wrong(
                "storage.maintenance.uploadpurging.age",
                "the age must be longer than nothing, like 168h, or uploads under way are lost",
            );
        }
    }

    fn http(&mut self, config: &Config) {
        let http = &config.http;
        match http.net.as_str() {
            "" | "tcp" => {}
            "unix" => self.not_built("http.net", "listening on a Unix socket is"),
            other => self.wrong(
                "http.net",
                format!("{other:?} is no kind of network; there is tcp"),
            ),
        }
        let prefix = &http.prefix;
        if !prefix.is_empty() && !(prefix.starts_with('/') && prefix.ends_with('/')) {
            self.wrong(
                "http.prefix",
                format!("{prefix:?} must begin and end with a slash, like /registry/"),
            );
        }
        if !http.host.is_empty() && !is_url(&http.host) {
            self.wrong(
                "http.host",
                format!(
                    "{:?} is no URL like https://registry.example.org",
                    http.host
                ),
            );
        }
        let tls = &http.tls;
        if !tls.certificate.is_empty() || !tls.key.is_empty() {
            self.not_built("http.tls", "TLS is");
        }
        if !tls.letsencrypt.cachefile.is_empty() || !tls.letsencrypt.hosts.is_empty() {
            self.not_built("http.tls.letsencrypt", "getting certificates is");
        }
        if !http.debug.addr.is_empty() {
            self.not_built(
                "http.debug",
                "the second listener, for metrics and health, is",
            );
        }
        for (name, values) in &http.headers {
            let key = format!("http.headers.{name}");
            let token = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
            if name.is_empty() || !name.bytes().all(token) {
                self.wrong(&key, format!("{name:?} cannot be the name of a header"));
            }
            if values
                .iter()
                .any(|value| value.bytes().any(|c| c < 0x20 && c != b'\t' || c == 0x7f))
            {
                self.wrong(&key, "a header cannot have control characters in its value");
            }
        }
    }

    fn manifests(&mut self, config: &Config) {
        let rules = &config.validation.manifests;
        for (list, patterns) in [("allow", &rules.urls.allow), ("deny", &rules.urls.deny)] {
            for (index, pattern) in patterns.iter().enumerate() {
                if let Err(error) = Regex::new(pattern) {
                    let key = format!("validation.manifests.urls.{list}[{index}]");
                    self.wrong(&key, format!("this is no regular expression: {error}"));
                }
            }
        }
        let indexes = &rules.indexes;
        if indexes.platforms == Platforms::List && indexes.platformlist.is_empty() {
            self.wrong(
                "validation.manifests.indexes.platformlist",
                "the list of platforms is missing; or set platforms to all or none",
            );
        }
    }

    fn log(&mut self, config: &Config) {
        for (index, hook) in config.log.hooks.iter().enumerate() {
            if !hook.disabled {
                self.not_built(&format!("log.hooks[{index}]"), "hooks of the log are");
            }
        }
        for (name, _) in &config.reporting {
            let key = format!("reporting.{name}");
            let message = "error reporting to outside services does not exist, as in Distribution \
                           3; without this key the registry starts";
            self.wrong(&key, message);
        }
    }

    /// Whole sections that later work brings.
    fn later(&mut self, config: &Config) {
        let auth = &config.auth;
        let methods = [
            ("silly", &auth.silly),
            ("htpasswd", &auth.htpasswd),
            ("token", &auth.token),
        ];
        let named: Vec<_> = methods
            .iter()
            .filter(|(_, method)| method.is_some())
            .collect();
        if named.len() + usize::from(auth.none.is_some()) > 1 {
            self.wrong("auth", "there can be one method only");
        }
        for (name, _) in named {
            // Starting without it would open the registry to everyone.
            self.wrong(
                &format!("auth.{name}"),
                "access control is not built yet; only a registry that lets everyone in can start",
            );
        }
        for (kind, middlewares) in &config.middleware {
            for (index, middleware) in middlewares.iter().enumerate() {
                if !middleware.disabled {
                    self.not_built(&format!("middleware.{kind}[{index}]"), "middleware is");
                }
            }
        }
        for (index, endpoint) in config.notifications.endpoints.iter().enumerate() {
            if !endpoint.disabled {
                let key = format!("notifications.endpoints[{index}]");
                self.not_built(&key, "sending notifications is");
            }
        }
        let health = &config.health;
        for (kind, some) in [
            ("file", !health.file.is_empty()),
            ("http", !health.http.is_empty()),
            ("tcp", !health.tcp.is_empty()),
        ] {
            if some {
                let what = format!("checking {kind} is");
                self.not_built(&format!("health.{kind}"), &what);
            }
        }
        if !config.proxy.remoteurl.is_empty() {
            self.not_built("proxy.remoteurl", "the pull-through cache is");
        }
        if !config.policy.repository.classes.is_empty() {
            self.not_built(
                "policy.repository.classes",
                "limiting classes of content is",
            );
        }
    }
}

fn is_set<T>((_, parameters): &(&&str, &Option<T>)) -> bool {
    parameters.is_some()
}

/// Whether this is an absolute URL with a host, as far as can be told without resolving it.
fn is_url(text: &str) -> bool {
    let rest = ["http://", "https://"]
        .iter()
        .find_map(|s| text.strip_prefix(s));
    rest.is_some_and(|rest| {
        let host = rest.split('/').next().unwrap_or_default();
        !host.is_empty() && !host.contains(char::is_whitespace)
    })
}
