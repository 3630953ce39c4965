//! A collector of traces: takes what OTLP over HTTP sends, and keeps it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use prost::Message as _;

/// One span, in plain types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its name.
    pub name: String,
    /// The trace it belongs to, in hexadecimal.
    pub trace: String,
    /// Its own name there.
    pub id: String,
    /// The span it is part of; empty for none.
    pub parent: String,
    /// The kind: 2 is a server's.
    pub kind: i32,
    /// Whether it failed.
    pub failed: bool,
    /// What is told of it.
    pub attributes: BTreeMap<String, String>,
    /// What is told of the process.
    pub resource: BTreeMap<String, String>,
}

/// A running collector. It ends with the test's process.
#[derive(Debug)]
pub struct Collector {
    /// Where it listens.
    pub addr: SocketAddr,
    spans: Arc<Mutex<Vec<Span>>>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Collector {
    /// Starts one on a free port.
    ///
    /// # Panics
    /// When there is none.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let addr = listener.local_addr().expect("it is bound");
        let collector = Self {
            addr,
            spans: Arc::default(),
            heads: Arc::default(),
        };
        let (spans, heads) = (Arc::clone(&collector.spans), Arc::clone(&collector.heads));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if let Some((head, body)) = receive(stream) {
                    let request = ExportTraceServiceRequest::decode(body.as_slice());
                    let request = request.expect("it is what OTLP says");
                    lock(&spans).extend(plain(request));
                    lock(&heads).push(head);
                }
            }
        });
        collector
    }

    /// The spans that came so far.
    pub fn spans(&self) -> Vec<Span> {
        lock(&self.spans).clone()
    }

    /// The lines and headers of the requests that came so far.
    pub fn heads(&self) -> Vec<String> {
        lock(&self.heads).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers one request, and gives its head in lower case, and its body.
fn receive(stream: TcpStream) -> Option<(String, Vec<u8>)> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    head.make_ascii_lowercase();
    let (_, length) = head.split_once("content-length: ")?;
    let length = length.lines().next()?.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    reader.get_mut().write_all(answer).ok()?;
    Some((head, body))
}

fn plain(request: ExportTraceServiceRequest) -> Vec<Span> {
    let mut spans = Vec::new();
    for of_resource in request.resource_spans {
        let resource = of_resource.resource.unwrap_or_default();
        let resource = texts(resource.attributes);
        for span in of_resource.scope_spans.into_iter().flat_map(|s| s.spans) {
            spans.push(Span {
                name: span.name,
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                kind: span.kind,
                failed: span.status.is_some_and(|status| status.code == 2),
                attributes: texts(span.attributes),
                resource: resource.clone(),
            });
        }
    }
    spans
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Option<AnyValue>| match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(yes)) => yes.to_string(),
        other => format!("{other:?}"),
    };
    let attributes = attributes.into_iter();
    attributes.map(|one| (one.key, text(one.value))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
