//! The configuration: CNCF Distribution's file and environment variables, read into types.
//!
//! [`load`] reads a file and the environment over it, [`defaults`] what holds without a file.
//! Both give a [`Loaded`]: the [`Config`], what is odd but harmless, and what is wrong. A
//! configuration that asks for something that does not work yet is wrong: it is refused, never
//! half obeyed.

mod changes;
mod check;
mod decode;
mod duration;
mod environment;
mod network;
mod node;
mod print;
mod problem;
mod secret;
mod section;
mod size;

use std::path::Path;
use std::sync::Arc;

use saphyr_parser::Span;

pub use duration::{GoDuration, InvalidDuration};
pub use network::{InvalidNetwork, Network};
use node::{Node, Value};
pub use problem::{Error, Origin, Problem};
pub use secret::{Secret, SecretUrl, without_secrets};
pub use section::*;
pub use size::{ByteSize, InvalidSize};

/// What holds when no file is named.
const DEFAULTS: &str = include_str!("defaults.yml");

/// A configuration that was read.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What will be used.
    pub config: Config,
    /// What is odd but harmless: keys that nobody knows, keys that stand twice, values that have no
    /// effect.
    pub warnings: Vec<Problem>,
    /// What makes it impossible to start.
    pub problems: Vec<Problem>,
    tree: Node,
    /// Keys that arguments of the command line have set, and the arguments' names.
    arguments: Vec<(&'static str, &'static str)>,
}

impl Loaded {
    /// Listens on `addr` whatever else is said, because the argument `argument` says so. What looks
    /// like a path is a Unix socket.
    pub fn listen_on(&mut self, addr: String, argument: &'static str) {
        let net = if is_socket_path(&addr) { "unix" } else { "tcp" };
        net.clone_into(&mut self.config.http.net);
        self.config.http.addr = addr;
        self.problems
            .retain(|problem| !["http.addr", "http.net"].contains(&&*problem.key));
        self.arguments.push(("http.addr", argument));
    }

    /// Keeps everything in `folder` whatever else is said, because the argument `argument` says so.
    pub fn keep_in(&mut self, folder: String, argument: &'static str) {
        let storage = &mut self.config.storage;
        storage.inmemory = None;
        storage.filesystem.get_or_insert_default().rootdirectory = folder;
        self.arguments.push((section::FOLDER, argument));
    }

    /// A problem with the value of `key` that shows only when the value is used: a file that is
    /// not there, say. It is placed where the value stands, or the nearest key above it.
    pub fn problem(&self, key: &str, message: impl Into<String>) -> Problem {
        let mut problem = check::problem(&self.tree, key, message.into());
        if let Some((_, name)) = self.arguments.iter().find(|(set, _)| *set == key) {
            problem.origin = Origin::Argument(name);
        }
        problem
    }
}

/// Reads a file, and puts the variables of the environment over it.
///
/// # Errors
/// [`Error::Read`] when there is no such file; [`Error::Invalid`] when it is not YAML, when a
/// value has the wrong type, or when the version of the format is not 0.1. All else that is wrong
/// is in [`Loaded::problems`].
pub fn load(
    path: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(&path.display().to_string(), &text, environment)
}

/// What holds without a file, with the variables of the environment over it.
///
/// # Errors
/// [`Error::Invalid`] for a variable whose value is wrong.
pub fn defaults(environment: impl IntoIterator<Item = (String, String)>) -> Result<Loaded, Error> {
    parse("(built in)", DEFAULTS, environment)
}

/// Reads `text`, which came from the file called `name`.
///
/// # Errors
/// As [`load`].
pub fn parse(
    name: &str,
    text: &str,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, Error> {
    let file: Arc<str> = name.into();
    let origin = |span: Span| Origin::File {
        file: Arc::clone(&file),
        line: span.start.line().max(1),
        column: span.start.col() + 1,
    };
    let mut warnings = Vec::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut tree = Node::parse(text, &origin, &mut warnings)
        .map_err(|problem| Error::Invalid(vec![problem]))?;
    check::version(&tree).map_err(|problem| Error::Invalid(vec![problem]))?;
    environment::apply(&mut tree, environment, &mut warnings).map_err(Error::Invalid)?;
    spell_out(&mut tree);
    let mut config: Config =
        decode::decode(&tree, &mut warnings).map_err(|problem| Error::Invalid(vec![problem]))?;
    config.settle();
    let problems = check::check(&config, &tree, &mut warnings);
    Ok(Loaded {
        config,
        warnings,
        problems,
        tree,
        arguments: Vec::new(),
    })
}

/// Whether an address is that of a Unix socket: the path of a file, or an abstract name after `@`.
fn is_socket_path(addr: &str) -> bool {
    addr.contains('/') || addr.starts_with('@')
}

/// `storage: s3` is short for `storage: {s3: {}}`, and so is `auth: none`; a driver without
/// parameters is there all the same. `s3aws` is another name of `s3`, as in Distribution.
fn spell_out(tree: &mut Node) {
    let Value::Map(sections) = &mut tree.value else {
        return;
    };
    for (key, section) in sections {
        let names: &[&str] = match key.text.as_str() {
            "storage" => &section::DRIVERS,
            "auth" => &["none", "silly", "htpasswd", "token"],
            _ => continue,
        };
        section.spell_out();
        if let Value::Map(entries) = &mut section.value {
            for (key, node) in entries {
                if key.text == "s3aws" {
                    "s3".clone_into(&mut key.text);
                }
                if node.value == Value::Null && names.contains(&key.text.as_str()) {
                    node.value = Value::Map(Vec::new());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
