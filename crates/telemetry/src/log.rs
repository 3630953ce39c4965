//! The log: lines on standard error in Distribution's three forms, requests on standard output.

mod line;
mod mail;
mod wanted;

use std::fmt::{self, Debug, Write as _};
use std::io::Write as _;
use std::ops::Range;
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber, span};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer, Registry};

pub use line::Formatter;
pub use mail::{MailError, MailOptions, Mails};
use wanted::Wanted;

/// The target of the lines about requests.
const ACCESS: &str = "access";

/// The target of spans for traces.
const TRACE: &str = "trace";

/// What is logged, and how.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// How much is logged. The variable `RUST_LOG` overrides it, by module where it says so.
    pub level: LevelFilter,
    /// The same for single modules: `wharfinger_storage`, say.
    pub levels: Vec<(String, LevelFilter)>,
    /// The form of lines.
    pub formatter: Formatter,
    /// What every line says besides.
    pub fields: Map<String, Value>,
    /// Whether each line names the place in the code that it comes from.
    pub caller: bool,
}

impl LogOptions {
    fn filter(&self) -> EnvFilter {
        let directive = |text: &str| text.parse().expect("the directive is well formed");
        match EnvFilter::try_from_default_env() {
            Ok(filter) => filter,
            Err(_) => {
                // What libraries say below a warning is about themselves, not the registry.
                let libraries = self.level.min(LevelFilter::WARN);
                let mut filter = EnvFilter::default()
                    .add_directive(libraries.into())
                    .add_directive(directive(&format!("wharfinger={}", self.level)))
                    .add_directive(directive(&format!("response={}", self.level)))
                    // Requests are logged whatever the level, as in Distribution.
                    .add_directive(directive("access=info"));
                for (module, level) in &self.levels {
                    // What cannot be a module's name names no module.
                    if let Ok(directive) = format!("{module}={level}").parse() {
                        filter = filter.add_directive(directive);
                    }
                }
                filter
            }
        }
    }
}

/// Changes what is logged, and how, while the process runs.
#[derive(Debug)]
pub(crate) struct Handle {
    wanted: Wanted,
    options: Arc<ArcSwap<LogOptions>>,
}

impl Handle {
    pub(crate) fn reload(&self, options: LogOptions) {
        let filter = options.filter();
        self.options.store(Arc::new(options));
        self.wanted.change(filter);
    }
}

/// The layer that writes lines, and what changes it. Where it is `alone`, nobody else listens.
pub(crate) fn lines(
    options: LogOptions,
    mails: &[Mails],
    alone: bool,
) -> (Box<dyn Layer<Registry> + Send + Sync>, Handle) {
    let wanted = Wanted::new(options.filter());
    let options = Arc::new(ArcSwap::from_pointee(options));
    let lines = Lines {
        options: Arc::clone(&options),
        mails: mails.to_vec(),
    };
    let handle = Handle {
        wanted: wanted.clone(),
        options,
    };
    // A filter of one layer among others has each span marked with whom it concerns, and has that
    // looked up whenever the span is entered or left.
    let lines = match alone {
        true => wanted.and_then(lines).boxed(),
        false => lines.with_filter(wanted).boxed(),
    };
    (lines, handle)
}

/// Writes each event as a line.
struct Lines {
    options: Arc<ArcSwap<LogOptions>>,
    mails: Vec<Mails>,
}

/// The fields of a span. Every request has one, and most are never written down: so all texts are in
/// one piece of memory.
struct SpanFields {
    texts: String,
    fields: Vec<(&'static str, SpanField)>,
}

enum SpanField {
    Text(Range<usize>),
    Other(Value),
}

impl SpanFields {
    /// About what a request's texts take.
    const TEXTS: usize = 256;

    fn of(attributes: &span::Attributes<'_>) -> Self {
        let mut fields = Self {
            texts: String::with_capacity(Self::TEXTS),
            fields: Vec::with_capacity(attributes.fields().len()),
        };
        attributes.record(&mut fields);
        fields
    }

    /// What is recorded twice counts as the last.
    fn set(&mut self, name: &'static str, field: SpanField) {
        match self.fields.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = field,
            None => self.fields.push((name, field)),
        }
    }

    fn write(&mut self, name: &'static str, text: fmt::Arguments<'_>) {
        let start = self.texts.len();
        // To write to memory does not fail.
        let _ = self.texts.write_fmt(text);
        self.set(name, SpanField::Text(start..self.texts.len()));
    }

    fn values(&self) -> impl Iterator<Item = (&'static str, Value)> {
        self.fields.iter().map(|(name, field)| {
            let value = match field {
                SpanField::Text(range) => self.texts[range.clone()].into(),
                SpanField::Other(value) => value.clone(),
            };
            (*name, value)
        })
    }
}

impl Visit for SpanFields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.write(field.name(), format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let start = self.texts.len();
        self.texts.push_str(value);
        self.set(field.name(), SpanField::Text(start..self.texts.len()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field.name(), SpanField::Other(value.into()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field.name(), SpanField::Other(value.into()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field.name(), SpanField::Other(value.into()));
    }
}

/// The fields of an event.
#[derive(Default)]
struct EventFields {
    message: String,
    fields: Map<String, Value>,
}

impl EventFields {
    fn set(&mut self, name: &'static str, value: Value) {
        if name == "message" {
            self.message = match value {
                Value::String(text) => text,
                other => other.to_string(),
            };
        } else {
            self.fields.insert(name.to_owned(), value);
        }
    }
}

impl Visit for EventFields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.set(field.name(), Value::String(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field.name(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field.name(), value.into());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(
        &self,
        attributes: &span::Attributes<'_>,
        id: &span::Id,
        context: Context<'_, S>,
    ) {
        // What is told to traces is more than a line has room for.
        if attributes.metadata().target() == TRACE {
            return;
        }
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(SpanFields::of(attributes));
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<SpanFields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut said = EventFields::default();
        event.record(&mut said);
        let metadata = event.metadata();
        if metadata.target() == ACCESS {
            // Nobody can be told that standard output is closed.
            let _ = writeln!(std::io::stdout().lock(), "{}", said.message);
            return;
        }
        let options = self.options.load();
        let mut fields = options.fields.clone();
        for span in context
            .event_scope(event)
            .into_iter()
            .flat_map(|scope| scope.from_root())
        {
            if let Some(of_span) = span.extensions().get::<SpanFields>() {
                let values = of_span.values();
                fields.extend(values.map(|(name, value)| (name.to_owned(), value)));
            }
        }
        fields.append(&mut said.fields);
        if let (true, Some(file), Some(line)) = (options.caller, metadata.file(), metadata.line()) {
            fields.insert("file".to_owned(), format!("{file}:{line}").into());
        }
        let level = *metadata.level();
        let line = line::line(options.formatter, level, &said.message, fields);
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
        // A mail about a mail that cannot be sent could not be sent either.
        if metadata.target() != mail::TARGET {
            for mails in &self.mails {
                mails.tell(level, &said.message, &line);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(level: LevelFilter, levels: &[(&str, LevelFilter)]) -> LogOptions {
        let levels = levels.iter();
        LogOptions {
            level,
            levels: levels
                .map(|(name, level)| ((*name).to_owned(), *level))
                .collect(),
            formatter: Formatter::Text,
            fields: Map::new(),
            caller: false,
        }
    }

    #[test]
    fn levels_are_by_module_and_requests_are_always_logged() {
        let levels = [
            ("wharfinger_storage", LevelFilter::DEBUG),
            ("hyper", LevelFilter::OFF),
            ("no module=", LevelFilter::DEBUG),
        ];
        let filter = options(LevelFilter::ERROR, &levels).filter().to_string();
        let mut directives: Vec<_> = filter.split(',').collect();
        directives.sort_unstable();
        let wanted = [
            "access=info",
            "error",
            "hyper=off",
            "response=error",
            "wharfinger=error",
            "wharfinger_storage=debug",
        ];
        assert_eq!(directives, wanted);
    }

    #[test]
    fn the_level_can_change_while_it_runs() {
        use tracing::{Level, enabled};
        use tracing_subscriber::layer::SubscriberExt as _;

        for alone in [true, false] {
            let (layer, handle) = lines(options(LevelFilter::WARN, &[]), &[], alone);
            let subscriber = tracing_subscriber::registry().with(layer);
            tracing::subscriber::with_default(subscriber, || {
                assert!(!enabled!(Level::INFO));
                handle.reload(options(
                    LevelFilter::DEBUG,
                    &[("hyper", LevelFilter::ERROR)],
                ));
                assert!(enabled!(Level::DEBUG));
                assert!(enabled!(target: "response", Level::DEBUG));
                assert!(enabled!(target: "h2", Level::WARN));
                assert!(!enabled!(target: "h2", Level::INFO));
                assert!(!enabled!(target: "hyper", Level::WARN));
                handle.reload(options(LevelFilter::ERROR, &[]));
                assert!(!enabled!(Level::WARN));
                assert!(enabled!(target: "access", Level::INFO));
            });
        }
    }

    #[test]
    fn what_is_recorded_twice_counts_as_the_last() {
        let mut fields = SpanFields {
            texts: String::new(),
            fields: Vec::new(),
        };
        fields.write("a", format_args!("{}", "one"));
        fields.set("b", SpanField::Other(2.into()));
        fields.write("c", format_args!("{:?}", "three"));
        fields.write("a", format_args!("four"));
        let values: Vec<_> = fields.values().collect();
        let wanted = [
            ("a", "four".into()),
            ("b", 2.into()),
            ("c", "\"three\"".into()),
        ];
        assert_eq!(values, wanted);
    }
}
