//! What a configuration asks for that cannot be: contradictions, values that make no sense, and
//! everything that is not built yet.

mod access;
mod health;
mod http;
mod later;
mod limits;
mod log;
mod manifests;
mod notifications;
mod storage;

use crate::node::{Node, Value};
use crate::problem::Problem;
use crate::section::Config;

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
    checker.limits(config);
    checker.manifests(config);
    checker.log(config);
    checker.access(config);
    checker.health(config);
    checker.notifications(config);
    checker.later(config);
    checker.problems
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
}

impl Checker<'_> {
    /// Reports `key`.
    fn wrong(&mut self, key: &str, message: impl Into<String>) {
        self.problems.push(problem(self.tree, key, message.into()));
    }

    fn not_built(&mut self, key: &str, what: &str) {
        let message = format!("{what} not built yet; without this key the registry starts");
        self.wrong(key, message);
    }
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
