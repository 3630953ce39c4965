//! A YAML document as a tree in which every value knows where it stands.

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use crate::problem::{Origin, Problem};

/// How deep a document may nest; a configuration needs about eight levels.
const MAX_DEPTH: usize = 64;
/// How many values a document may have, those repeated by aliases included.
const MAX_NODES: usize = 100_000;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) origin: Origin,
}

/// A value as it was written: what a scalar means depends on who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    Scalar {
        text: String,
        /// Whether it was written in quotes, and so is text whatever it looks like.
        quoted: bool,
    },
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) origin: Origin,
}

impl Node {
    pub(crate) fn new(value: Value, origin: Origin) -> Self {
        Self { value, origin }
    }

    /// What the value is, for messages.
    pub(crate) fn kind(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Scalar { text, .. } => format!("{text:?}"),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
        }
    }

    /// Makes `s3` what it is short for where a section is wanted: `{s3: {}}`.
    pub(crate) fn spell_out(&mut self) {
        if let Value::Scalar { text, .. } = &self.value {
            let key = Key {
                text: text.clone(),
                origin: self.origin.clone(),
            };
            let nothing = Self::new(Value::Map(Vec::new()), self.origin.clone());
            self.value = Value::Map(vec![(key, nothing)]);
        }
    }

    /// The value below these keys.
    pub(crate) fn at(&self, keys: &[&str]) -> Option<&Node> {
        keys.iter()
            .try_fold(self, |node, key| Some(node.entry(key)?.1))
    }

    /// Where to send a reader who looks for what is below these keys: to the value, or, where that
    /// is a whole section, to its key.
    pub(crate) fn place(&self, keys: &[&str]) -> Option<&Origin> {
        let Some((last, above)) = keys.split_last() else {
            return Some(&self.origin);
        };
        match self.at(above)?.entry(last)? {
            (Some(key), node) if matches!(node.value, Value::Map(_) | Value::List(_)) => {
                Some(&key.origin)
            }
            (_, node) => Some(&node.origin),
        }
    }

    fn entry(&self, key: &str) -> Option<(Option<&Key>, &Node)> {
        match &self.value {
            Value::Map(entries) => {
                let (key, node) = entries.iter().find(|(k, _)| k.text == key)?;
                Some((Some(key), node))
            }
            Value::List(items) => Some((None, items.get(key.parse::<usize>().ok()?)?)),
            Value::Null | Value::Scalar { .. } => None,
        }
    }

    /// The document in `text`. What is odd but harmless goes into `warnings`.
    ///
    /// # Errors
    /// When `text` is not one YAML document, or is deeper or larger than any configuration.
    pub(crate) fn parse(
        text: &str,
        origin_of: &dyn Fn(Span) -> Origin,
        warnings: &mut Vec<Problem>,
    ) -> Result<Self, Problem> {
        let mut reader = Reader {
            events: Parser::new_from_str(text),
            origin_of,
            anchors: Vec::new(),
            nodes: 0,
            warnings,
        };
        reader.document()
    }
}

struct Reader<'a> {
    events: Parser<'a, saphyr_parser::StrInput<'a>>,
    origin_of: &'a dyn Fn(Span) -> Origin,
    anchors: Vec<(usize, Node)>,
    nodes: usize,
    warnings: &'a mut Vec<Problem>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Problem> {
        match self.events.next() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                let mark = *error.marker();
                let span = Span {
                    start: mark,
                    end: mark,
                };
                let message = format!("this is not YAML: {}", error.info());
                Err(self.problem(span, message))
            }
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn problem(&self, span: Span, message: impl Into<String>) -> Problem {
        Problem {
            origin: (self.origin_of)(span),
            key: String::new(),
            message: message.into(),
        }
    }

    fn document(&mut self) -> Result<Node, Problem> {
        let mut document = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::StreamStart
                | Event::Nothing
                | Event::DocumentStart(_)
                | Event::DocumentEnd => {}
                event if document.is_none() => document = Some(self.node(event, span, 0)?),
                _ => return Err(self.problem(span, "only one document may be in the file")),
            }
        }
        let nothing = || Node::new(Value::Null, (self.origin_of)(Span::default()));
        Ok(document.unwrap_or_else(nothing))
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Problem> {
        self.nodes += 1;
        if depth > MAX_DEPTH || self.nodes > MAX_NODES {
            return Err(self.problem(span, "this is deeper or larger than any configuration"));
        }
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let quoted = style != ScalarStyle::Plain
                    || tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str");
                let null = !quoted && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let value = if null {
                    Value::Null
                } else {
                    Value::Scalar {
                        text: text.into_owned(),
                        quoted,
                    }
                };
                (value, anchor)
            }
            Event::SequenceStart(anchor, _) => (self.list(depth)?, anchor),
            Event::MappingStart(anchor, _) => (self.map(depth)?, anchor),
            Event::Alias(anchor) => {
                let found = self.anchors.iter().rev().find(|(id, _)| *id == anchor);
                let Some((_, node)) = found else {
                    return Err(self.problem(span, "this alias has no anchor"));
                };
                let node = node.clone();
                self.nodes += size(&node);
                return Ok(node);
            }
            _ => return Err(self.problem(span, "this is not a value")),
        };
        let node = Node::new(value, (self.origin_of)(span));
        if anchor != 0 {
            self.anchors.push((anchor, node.clone()));
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Value, Problem> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(Value::List(items));
            }
            items.push(self.node(event, span, depth + 1)?);
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, Problem> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut merged = Vec::new();
        loop {
            let (event, span) = self.next()?;
            let text = match event {
                Event::MappingEnd => break,
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err(self.problem(span, "a key must be plain text")),
            };
            let (event, value_span) = self.next()?;
            let node = self.node(event, value_span, depth + 1)?;
            if text == "<<" {
                merged.push(node);
                continue;
            }
            let origin = (self.origin_of)(span);
            if let Some(earlier) = entries.iter().position(|(key, _)| key.text == text) {
                // Distribution takes the last one, and says nothing.
                let first = entries.remove(earlier).0.origin;
                self.warnings.push(Problem {
                    origin: origin.clone(),
                    key: text.clone(),
                    message: format!("this key stands at {first} already; the last one counts"),
                });
            }
            entries.push((Key { text, origin }, node));
        }
        for node in merged {
            merge(&mut entries, node);
        }
        Ok(Value::Map(entries))
    }
}

/// YAML 1.1's merge key: adds what is not there yet.
fn merge(entries: &mut Vec<(Key, Node)>, node: Node) {
    match node.value {
        Value::Map(more) => {
            for (key, value) in more {
                if entries.iter().all(|(k, _)| k.text != key.text) {
                    entries.push((key, value));
                }
            }
        }
        Value::List(items) => items.into_iter().for_each(|item| merge(entries, item)),
        Value::Null | Value::Scalar { .. } => {}
    }
}

fn size(node: &Node) -> usize {
    match &node.value {
        Value::Null | Value::Scalar { .. } => 1,
        Value::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Map(entries) => 1 + entries.iter().map(|(_, node)| size(node)).sum::<usize>(),
    }
}
