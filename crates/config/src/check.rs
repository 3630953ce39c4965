//! What a configuration asks for that cannot be: contradictions, values that make no sense, and
//! everything that is not built yet.

mod access;
mod azure;
mod debug;
mod gcs;
mod health;
mod http;
mod limits;
mod log;
mod manifests;
mod middleware;
mod notifications;
mod proxy;
mod redis;
mod remote;
mod s3;
mod storage;
mod sync;
mod tls;

use crate::node::{Node, Value};
use crate::problem::Problem;
use crate::section::{Config, Headers, SecretHeaders};

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

/// Everything that stands in the way of starting with this configuration; what is odd but harmless
/// goes to `warnings`.
pub(crate) fn check(config: &Config, tree: &Node, warnings: &mut Vec<Problem>) -> Vec<Problem> {
    let mut checker = Checker {
        tree,
        problems: Vec::new(),
        warnings,
    };
    checker.storage(&config.storage);
    checker.redis(config);
    checker.http(config);
    checker.debug(config);
    checker.tls(config);
    checker.limits(config);
    checker.manifests(config);
    checker.log(config);
    checker.access(config);
    checker.health(config);
    checker.notifications(config);
    checker.middleware(config);
    checker.proxy(config);
    checker.sync(config);
    checker.problems
}

/// Whether a text can be the folder in a bucket below which everything is kept. An exclamation mark
/// is what tells the store's own objects from files.
fn is_folder_of_a_bucket(text: &str) -> bool {
    let root = text.trim_matches('/');
    let is_part = |part: &str| !matches!(part, "" | "." | "..");
    let printable = !root.contains(|c: char| c.is_control() || c == '!');
    root.is_empty() || printable && root.split('/').all(is_part)
}

/// A problem with `key`, at its place or that of the nearest key above it.
pub(crate) fn problem(tree: &Node, key: &str, message: String) -> Problem {
    let path: Vec<&str> = key
        .split(['.', '[', ']'])
        .filter(|part| !part.is_empty())
        .collect();
    let place = (0..=path.len())
        .rev()
        .find_map(|length| tree.place(&path[..length]));
    Problem {
        origin: place.unwrap_or(&tree.origin).clone(),
        key: key.to_owned(),
        message,
    }
}

struct Checker<'a> {
    tree: &'a Node,
    problems: Vec<Problem>,
    warnings: &'a mut Vec<Problem>,
}

impl Checker<'_> {
    /// Reports `key`.
    fn wrong(&mut self, key: &str, message: impl Into<String>) {
        self.problems.push(problem(self.tree, key, message.into()));
    }

    /// Checks that a header can be sent.
    fn header<'v>(&mut self, key: &str, name: &str, values: impl IntoIterator<Item = &'v str>) {
        let token = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
        if name.is_empty() || !name.bytes().all(token) {
            self.wrong(key, format!("{name:?} cannot be the name of a header"));
        }
        let control = |c: u8| c < 0x20 && c != b'\t' || c == 0x7f;
        if values.into_iter().any(|value| value.bytes().any(control)) {
            self.wrong(key, "a header cannot have control characters in its value");
        }
    }

    /// Warns of `key`.
    fn warn(&mut self, key: &str, message: impl Into<String>) {
        self.warnings.push(problem(self.tree, key, message.into()));
    }

    /// Looks at headers, which stand at `key`.
    fn headers(&mut self, key: &str, headers: &Headers) {
        for (name, values) in headers {
            let key = format!("{key}.{name}");
            self.header(&key, name, values.iter().map(String::as_str));
        }
    }

    /// Looks at headers whose values are never told.
    fn secret_headers(&mut self, key: &str, headers: &SecretHeaders) {
        for (name, values) in headers {
            let key = format!("{key}.{name}");
            self.header(&key, name, values.iter().map(|value| value.expose()));
        }
    }
}

/// Whether this is `host:port`; nothing in place of the host is this machine, or all of it.
fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let sane = !host.contains(|c: char| c.is_whitespace() || c == '/');
        sane && (bracketed || !host.contains(':')) && port.parse::<u16>().is_ok()
    })
}

/// Whether this is an absolute URL with a host, as far as can be told without resolving it. A
/// message about one that is not must not repeat it: there may be a password in it.
fn is_url(text: &str) -> bool {
    let rest = ["http://", "https://"]
        .iter()
        .find_map(|s| text.strip_prefix(s));
    rest.is_some_and(|rest| {
        let host = rest.split('/').next().unwrap_or_default();
        !host.is_empty() && !host.contains(char::is_whitespace)
    })
}
