//! Printing what will be used, as YAML without the secrets.

use std::fmt::Write as _;

use serde_json::Value;

use crate::Config;
use crate::secret;

/// The sections that always have an effect.
const CORE: [&str; 7] = [
    "log",
    "storage",
    "http",
    "health",
    "validation",
    "catalog",
    "tags",
];

impl Config {
    /// The configuration as YAML, sections in alphabetical order, secrets hidden, what is empty or not
    /// in use left out.
    pub fn to_yaml(&self) -> String {
        let tree = |config: &Self| serde_json::to_value(config).expect("it is plain data");
        let mut value = tree(self);
        let unused = tree(&Self::default());
        if let Value::Object(sections) = &mut value {
            sections.remove("version");
            sections
                .retain(|name, section| CORE.contains(&name.as_str()) || *section != unused[name]);
            for (name, section) in sections {
                // The secrets of these have types that hide them; the others have free-form parts.
                let typed = matches!(name.as_str(), "http" | "redis" | "proxy" | "compatibility");
                secret::hide(section, !typed);
            }
        }
        let mut text = format!("version: {}\n", self.version);
        map(&value, 0, &mut text);
        text
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => !entries.is_empty() && entries.values().all(is_empty),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn map(value: &Value, indent: usize, text: &mut String) {
    let Value::Object(entries) = value else {
        return;
    };
    for (key, value) in entries.iter().filter(|(_, value)| !is_empty(value)) {
        let _ = write!(text, "{:indent$}{}:", "", scalar(key));
        after_mark(value, indent, text);
    }
}

/// What stands behind `key:` or `-`.
fn after_mark(value: &Value, indent: usize, text: &mut String) {
    match value {
        Value::Object(entries) if entries.is_empty() => text.push_str(" {}\n"),
        Value::Array(items) if items.is_empty() => text.push_str(" []\n"),
        Value::Object(_) => {
            text.push('\n');
            map(value, indent + 2, text);
        }
        Value::Array(items) => {
            text.push('\n');
            for item in items {
                let _ = write!(text, "{:1$}-", "", indent + 2);
                after_mark(item, indent + 2, text);
            }
        }
        Value::String(plain) => {
            let _ = writeln!(text, " {}", scalar(plain));
        }
        other => {
            let _ = writeln!(text, " {other}");
        }
    }
}

/// Text, in quotes (JSON's are YAML's too) where YAML would take it for something else.
fn scalar(text: &str) -> String {
    let plain = !text.is_empty()
        && text
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || b"./_-+()".contains(&c))
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && !["true", "false", "yes", "no", "on", "off", "y", "n", "null"]
            .contains(&text.to_lowercase().as_str());
    if plain {
        text.to_owned()
    } else {
        Value::from(text).to_string()
    }
}
