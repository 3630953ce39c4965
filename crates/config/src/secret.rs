//! What must never be printed.

use std::cell::Cell;
use std::fmt;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

/// What stands in place of a secret.
pub(crate) const HIDDEN: &str = "(hidden)";

thread_local! {
    static EXPOSED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`, in which serialization shows secrets: for comparing them, never for printing.
pub(crate) fn exposed<T>(work: impl FnOnce() -> T) -> T {
    struct Hide(bool);
    impl Drop for Hide {
        fn drop(&mut self) {
            EXPOSED.set(self.0);
        }
    }
    let _hide = Hide(EXPOSED.replace(true));
    work()
}

/// A text that neither `Debug` nor serialization shows.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub(crate) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "none" } else { HIDDEN })
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self.0.as_str() {
            secret if EXPOSED.get() => secret,
            "" => "",
            _ => HIDDEN,
        })
    }
}

/// Whether the value of a free-form parameter is a secret, by its name: passwords, keys and
/// tokens are; paths of files and identifiers are not.
fn is_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    let sounds_secret = [
        "secret",
        "password",
        "key",
        "token",
        "sas",
        "authorization",
        "cookie",
    ]
    .iter()
    .any(|word| name.contains(word));
    let tells_where = ["file", "path", "id", "url", "uri", "type", "realm"]
        .iter()
        .any(|ending| name.ends_with(ending));
    sounds_secret && !tells_where
}

/// Hides what is secret below a value: what may be in URLs, and, where the parameters are free-form,
/// what sounds like a secret.
pub(crate) fn hide(value: &mut Value, free_form: bool) {
    match value {
        Value::Object(entries) => {
            for (name, value) in entries {
                let leaf = matches!(value, Value::String(_) | Value::Number(_) | Value::Array(_));
                if free_form && leaf && is_secret(name) {
                    *value = HIDDEN.into();
                } else {
                    hide(value, free_form);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| hide(item, free_form)),
        Value::String(text) => *text = without_secrets(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A URL without what may let its user in: user and password, and the query.
pub fn without_secrets(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let (rest, query) = match rest.find(['?', '#']) {
        Some(at) => (&rest[..at], "?(hidden)"),
        None => (rest, ""),
    };
    let end = rest.find('/').unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://{HIDDEN}{}{query}", &rest[at..]),
        None => format!("{scheme}://{rest}{query}"),
    }
}

/// A URL of which neither `Debug` nor serialization show more than scheme, host and port: whoever
/// knows the rest may be let in.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// The URL itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn shown(&self) -> String {
        let Some((scheme, rest)) = self.0.split_once("://") else {
            return if self.is_empty() { "" } else { HIDDEN }.to_owned();
        };
        let (authority, path) = match rest.find(['/', '?', '#']) {
            Some(at) if &rest[at..] == "/" => (&rest[..at], "/"),
            Some(at) => (&rest[..at], "/(hidden)"),
            None => (rest, ""),
        };
        match authority.rfind('@') {
            Some(at) => format!("{scheme}://{HIDDEN}{}{path}", &authority[at..]),
            None => format!("{scheme}://{authority}{path}"),
        }
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

impl Serialize for SecretUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if EXPOSED.get() {
            serializer.serialize_str(&self.0)
        } else {
            serializer.serialize_str(&self.shown())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_are_hidden_wherever_they_stand() {
        let mut value = json!({
            "accesskey": "a", "secretkey": "b", "keyid": "c", "keyfile": "/d", "encrypt": true,
            "credentials": {"private_key": "e", "client_email": "f"},
            "headers": [{"Authorization": ["Bearer g"]}],
            "url": "https://user:pass@host/path@x",
            "v4auth": true, "bucket": "b", "skipverify": false, "token": {"realm": "r"},
        });
        hide(&mut value, true);
        assert_eq!(
            value,
            json!({
                "accesskey": HIDDEN, "secretkey": HIDDEN, "keyid": "c", "keyfile": "/d",
                "encrypt": true,
                "credentials": {"private_key": HIDDEN, "client_email": "f"},
                "headers": [{"Authorization": HIDDEN}],
                "url": "https://(hidden)@host/path@x",
                "v4auth": true, "bucket": "b", "skipverify": false, "token": {"realm": "r"},
            })
        );
        assert_eq!(format!("{:?}", Secret("x".to_owned())), HIDDEN);
    }

    #[test]
    fn of_urls_only_what_lets_nobody_in_is_shown() {
        for (url, less, least) in [
            ("", "", ""),
            ("https://h", "https://h", "https://h"),
            ("https://h:1/", "https://h:1/", "https://h:1/"),
            ("https://h/hook/x", "https://h/hook/x", "https://h/(hidden)"),
            (
                "https://h/a?token=x",
                "https://h/a?(hidden)",
                "https://h/(hidden)",
            ),
            (
                "https://h?token=x@y",
                "https://h?(hidden)",
                "https://h/(hidden)",
            ),
            (
                "https://token@h/",
                "https://(hidden)@h/",
                "https://(hidden)@h/",
            ),
            (
                "https://u:p@q@h/a@b",
                "https://(hidden)@h/a@b",
                "https://(hidden)@h/(hidden)",
            ),
            ("secret", "secret", HIDDEN),
        ] {
            assert_eq!(without_secrets(url), less);
            let shown = SecretUrl(url.to_owned()).shown();
            assert_eq!(shown, least);
            assert_eq!(SecretUrl(shown.clone()).shown(), shown);
        }
    }
}
