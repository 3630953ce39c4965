//! Logging: lines on standard error in Distribution's three forms, requests on standard output.

use std::fmt::{Debug, Write as _};
use std::io::Write as _;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber, span};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer};
use wharfinger_config::{Formatter, Level as ConfigLevel, Log};

/// The target of the lines about requests.
const ACCESS: &str = "access";

/// Starts logging as configured. The variable `RUST_LOG` overrides the level, by module where it
/// says so.
pub(crate) fn start(log: &Log) {
    let level = match log.level.unwrap_or_default() {
        ConfigLevel::Error => LevelFilter::ERROR,
        ConfigLevel::Warn => LevelFilter::WARN,
        ConfigLevel::Info => LevelFilter::INFO,
        ConfigLevel::Debug => LevelFilter::DEBUG,
    };
    let filter = match EnvFilter::try_from_default_env() {
        Ok(filter) => filter,
        // Requests are logged whatever the level, as in Distribution.
        Err(_) => EnvFilter::default()
            .add_directive(level.into())
            .add_directive("access=info".parse().expect("the directive is well formed")),
    };
    let lines = Lines {
        formatter: log.formatter,
        fields: log.fields.clone().into_iter().collect(),
        caller: log.reportcaller,
    };
    let subscriber = tracing_subscriber::registry().with(lines.with_filter(filter));
    // Only a second start in one process can fail, and then the first one's settings hold.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Writes each event as a line.
struct Lines {
    formatter: Formatter,
    fields: Map<String, Value>,
    caller: bool,
}

/// The fields of a span or an event.
#[derive(Default)]
struct Fields {
    message: String,
    fields: Map<String, Value>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        if field.name() == "message" {
            self.message = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
        } else {
            self.fields.insert(field.name().to_owned(), value);
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, Value::String(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(
        &self,
        attributes: &span::Attributes<'_>,
        id: &span::Id,
        context: Context<'_, S>,
    ) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut said = Fields::default();
        event.record(&mut said);
        let metadata = event.metadata();
        if metadata.target() == ACCESS {
            // Nobody can be told that standard output is closed.
            let _ = writeln!(std::io::stdout().lock(), "{}", said.message);
            return;
        }
        let mut fields = self.fields.clone();
        for span in context
            .event_scope(event)
            .into_iter()
            .flat_map(|scope| scope.from_root())
        {
            if let Some(of_span) = span.extensions().get::<Fields>() {
                for (name, value) in &of_span.fields {
                    fields.insert(format!("{}.{name}", span.name()), value.clone());
                }
            }
        }
        fields.append(&mut said.fields);
        if let (true, Some(file), Some(line)) = (self.caller, metadata.file(), metadata.line()) {
            fields.insert("file".to_owned(), format!("{file}:{line}").into());
        }
        let line = line(self.formatter, *metadata.level(), &said.message, fields);
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }
}

fn line(
    formatter: Formatter,
    level: Level,
    message: &str,
    mut fields: Map<String, Value>,
) -> String {
    let time = Timestamp::now().to_string();
    let level = match level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    };
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
