//! `log`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Parameters;
use crate::secret::Secret;

/// What is logged, and how.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Log {
    /// The log of requests.
    pub accesslog: AccessLog,
    /// How much is logged. Always set in what [`crate::load`] gives.
    pub level: Option<Level>,
    /// How much single modules log.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub levels: BTreeMap<String, Level>,
    /// In which form.
    pub formatter: Formatter,
    /// What every line says besides.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: Parameters,
    /// What else happens when something is logged.
    pub hooks: Vec<Hook>,
    /// Whether each line names the place in the code that it comes from.
    pub reportcaller: bool,
}

/// `log.accesslog`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AccessLog {
    /// Whether it is switched off.
    pub disabled: bool,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Failures only.
    Error,
    /// And what may become one.
    Warn,
    /// And what happens in general.
    #[default]
    Info,
    /// And what happens in detail.
    Debug,
}

/// The levels that set a hook off: Distribution's names, each with ours.
pub(crate) const HOOK_LEVELS: [(&str, Level); 7] = [
    ("panic", Level::Error),
    ("fatal", Level::Error),
    ("error", Level::Error),
    ("warn", Level::Warn),
    ("warning", Level::Warn),
    ("info", Level::Info),
    ("debug", Level::Debug),
];

/// The form of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Formatter {
    /// `key=value` pairs.
    #[default]
    Text,
    /// A JSON object.
    Json,
    /// A JSON object with Logstash's names.
    Logstash,
}

/// One of `log.hooks`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Hook {
    /// Whether it is left out.
    pub disabled: bool,
    /// Its kind: `mail`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The levels that set it off.
    pub levels: Vec<String>,
    /// What it is told.
    pub options: HookOptions,
}

impl Hook {
    /// What its `levels` come to.
    pub fn levels(&self) -> Vec<Level> {
        let mut levels = Vec::new();
        for (name, level) in HOOK_LEVELS {
            let named = self.levels.iter().any(|one| one.eq_ignore_ascii_case(name));
            if named && !levels.contains(&level) {
                levels.push(level);
            }
        }
        levels
    }
}

/// `options` of a hook.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HookOptions {
    /// The mail server.
    pub smtp: Smtp,
    /// The sender.
    pub from: String,
    /// The receivers.
    pub to: Vec<String>,
}

/// The mail server of a hook.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Smtp {
    /// Host and port.
    pub addr: String,
    /// The user.
    pub username: String,
    /// The user's password.
    pub password: Secret,
    /// Whether the server's certificate is not checked.
    pub insecure: bool,
}
