//! One line of the log.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tracing::Level;

/// The form of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Formatter {
    /// `key=value` pairs.
    #[default]
    Text,
    /// A JSON object.
    Json,
    /// A JSON object with Logstash's names.
    Logstash,
}

/// A level as Distribution calls it.
pub(super) fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

pub(super) fn line(
    formatter: Formatter,
    level: Level,
    message: &str,
    mut fields: Map<String, Value>,
) -> String {
    let time = Timestamp::now().to_string();
    let level = level_name(level);
    let head = match formatter {
        Formatter::Text => {
            let mut line = format!(
                "time={} level={level} msg={}",
                quoted(&time),
                quoted(message)
            );
            for (name, value) in &fields {
                let text = value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned);
                let _ = write!(line, " {name}={}", quoted(&text));
            }
            line.push('\n');
            return line;
        }
        Formatter::Json => json!({"time": time, "level": level, "msg": message}),
        Formatter::Logstash => {
            json!({"@timestamp": time, "@version": "1", "level": level, "message": message})
        }
    };
    let Value::Object(head) = head else {
        unreachable!("it is an object")
    };
    fields.extend(head);
    format!("{}\n", Value::Object(fields))
}

/// A value of a text line: in quotes unless it is one plain word, and never more than one line.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/@^+:".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_in_each_form() {
        let fields = || {
            let mut fields = Map::new();
            fields.insert("service".to_owned(), "registry".into());
            fields.insert("odd".to_owned(), "two\nlines \"quoted\"".into());
            fields.insert("count".to_owned(), 3.into());
            fields
        };
        let text = line(Formatter::Text, Level::WARN, "a message", fields());
        assert!(text.starts_with("time="), "{text}");
        assert!(
            text.ends_with(
                " level=warning msg=\"a message\" count=3 odd=\"two\\nlines \\\"quoted\\\"\" \
                 service=registry\n"
            ),
            "{text}"
        );
        for (formatter, message) in [(Formatter::Json, "msg"), (Formatter::Logstash, "message")] {
            let text = line(formatter, Level::INFO, "a message", fields());
            assert_eq!(text.matches('\n').count(), 1, "{text}");
            let value: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(value[message], "a message");
            assert_eq!(value["level"], "info");
            assert_eq!(value["service"], "registry");
            assert_eq!(value["count"], 3);
        }
    }
}
