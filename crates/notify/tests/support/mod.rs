//! A receiver of events that answers as it is told to.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use wharfinger_notify::{
    Action, EndpointOptions, Event, EventSink, Format, Kept, Notifier, Receiver, Request, Source,
    Target,
};

/// How long a test waits for something before it fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What a receiver does with a request.
#[derive(Clone, Debug)]
pub enum Reply {
    Status(u16),
    /// A status with a `Location`.
    Redirect(u16, String),
    /// No answer, and the connection stays open.
    Hang,
    /// No answer, and the connection ends.
    Close,
}

/// A request that a receiver got.
#[derive(Clone, Debug)]
pub struct Got {
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub at: Instant,
}

impl Got {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The one event in it.
    pub fn event(&self) -> Value {
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        let events = body["events"].as_array().unwrap();
        assert_eq!(events.len(), 1);
        events[0].clone()
    }

    /// What the event is about: its repository.
    pub fn repository(&self) -> String {
        self.event()["target"]["repository"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}

#[derive(Debug, Default)]
struct State {
    script: VecDeque<Reply>,
    got: Vec<Got>,
}

/// A receiver on a free port. It answers 200 where its script has ended.
#[derive(Debug)]
pub struct Endpoint {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    serving: JoinHandle<()>,
}

impl Endpoint {
    pub async fn start(script: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            script: script.into_iter().collect(),
            got: Vec::new(),
        }));
        let shared = Arc::clone(&state);
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self {
            address,
            state,
            serving,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}/events", self.address)
    }

    pub fn got(&self) -> Vec<Got> {
        self.state.lock().unwrap().got.clone()
    }

    /// Goes on with another script.
    pub fn answer(&self, script: impl IntoIterator<Item = Reply>) {
        self.state.lock().unwrap().script = script.into_iter().collect();
    }

    /// Waits for this many requests.
    pub async fn wait_for(&self, number: usize) -> Vec<Got> {
        eventually(|| self.got().len() >= number).await;
        self.got()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

pub async fn eventually(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "it does not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut unread = Vec::new();
    loop {
        let Some(got) = read(&mut stream, &mut unread).await else {
            return;
        };
        let reply = {
            let mut state = state.lock().unwrap();
            state.got.push(got);
            state.script.pop_front().unwrap_or(Reply::Status(200))
        };
        let answer = match reply {
            Reply::Status(status) => format!("HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\nok"),
            Reply::Redirect(status, location) => {
                format!("HTTP/1.1 {status} X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
            }
            Reply::Hang => {
                let _ = stream.read_buf(&mut unread).await;
                return;
            }
            Reply::Close => return,
        };
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Option<Got> {
    let end = loop {
        if let Some(at) = unread.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if !matches!(stream.read_buf(unread).await, Ok(1..)) {
            return None;
        }
    };
    let head = String::from_utf8(unread.drain(..end).collect()).unwrap();
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap().to_owned();
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let mut got = Got {
        line,
        headers,
        body: Vec::new(),
        at: Instant::now(),
    };
    let length = got
        .header("content-length")
        .map_or(0, |length| length.parse().unwrap());
    while unread.len() < length {
        if !matches!(stream.read_buf(unread).await, Ok(1..)) {
            return None;
        }
    }
    got.body = unread.drain(..length).collect();
    Some(got)
}

/// Options of an endpoint in memory, called `name`.
pub fn options(name: &str, url: &str) -> EndpointOptions {
    EndpointOptions {
        name: name.to_owned(),
        receiver: Receiver::new(url, []).unwrap(),
        format: Format::V1,
        timeout: Duration::from_secs(30),
        threshold: 3,
        backoff: Duration::from_millis(1),
        ignored_media_types: Vec::new(),
        ignored_actions: Vec::new(),
        queue_size: 1 << 20,
        queue_folder: None,
    }
}

pub fn notifier() -> Notifier {
    Notifier::new(Source {
        addr: "node:5000".to_owned(),
        instance_id: uuid::Uuid::new_v4(),
    })
}

/// Emits an event about a repository.
pub fn emit(notifier: &Notifier, action: Action, repository: &str, media_type: &str) -> Kept {
    let mut target = Target::in_repository(repository.parse().unwrap());
    target.media_type = media_type.into();
    let request = Request {
        id: "r".to_owned(),
        addr: "192.0.2.1:1".to_owned(),
        host: "registry.example".to_owned(),
        method: "PUT".to_owned(),
        useragent: "test".to_owned(),
    };
    notifier.emit(Event::new(action, target, request, String::new()))
}

/// Emits a push for a repository named after a number.
pub async fn push(notifier: &Notifier, number: usize) {
    emit(notifier, Action::Push, &format!("r{number}"), "t")
        .wait()
        .await;
}

/// What a notifier counts, as Prometheus reads it.
pub fn counted(notifier: &Notifier) -> String {
    let mut registry = prometheus_client::registry::Registry::default();
    let ours = registry.sub_registry_with_prefix("registry");
    notifier.metrics().register(ours);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    text
}
