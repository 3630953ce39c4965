//! A client that speaks HTTP/1.1 over a bare socket.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a test waits for an answer before it fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A request. Its header `Host` is the server's address unless it is given.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
    chunked: bool,
}

impl Request {
    pub fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            body: None,
            chunked: false,
        }
    }

    pub fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    pub fn post(path: &str) -> Self {
        Self::new("POST", path)
    }

    pub fn put(path: &str) -> Self {
        Self::new("PUT", path)
    }

    pub fn patch(path: &str) -> Self {
        Self::new("PATCH", path)
    }

    pub fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// A body with a `Content-Length`.
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = Some(body.as_ref().to_vec());
        self
    }

    /// A body of unknown length, in chunks of a few thousand bytes.
    pub fn streamed(mut self, body: impl AsRef<[u8]>) -> Self {
        self.chunked = true;
        self.body(body)
    }

    /// The request as it goes over the wire.
    pub fn to_bytes(&self, host: &str) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        let has = |name: &str| {
            self.headers
                .iter()
                .any(|(n, _)| n.eq_ignore_ascii_case(name))
        };
        if !has("host") {
            head += &format!("Host: {host}\r\n");
        }
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        let writes = matches!(&*self.method, "POST" | "PUT" | "PATCH");
        let body = self.body.as_deref().unwrap_or_default();
        if self.chunked {
            head += "Transfer-Encoding: chunked\r\n";
        } else if (writes || self.body.is_some()) && !has("content-length") {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        let mut bytes = (head + "\r\n").into_bytes();
        if self.chunked {
            for chunk in body.chunks(7001) {
                bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
        } else {
            bytes.extend_from_slice(body);
        }
        bytes
    }
}

/// An answer.
#[derive(Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = &self.body[..self.body.len().min(400)];
        let shown = String::from_utf8_lossy(shown);
        write!(f, "{} {:?} {shown}", self.status, self.headers)
    }
}

impl Reply {
    /// The first value of a header.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    /// Every value of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| &**value)
            .collect()
    }

    /// `Location` without scheme and host.
    pub fn location(&self) -> String {
        let location = self.get("location").expect("the answer has a Location");
        match location.split_once("://") {
            Some((_, rest)) => rest[rest.find('/').unwrap()..].to_owned(),
            None => location.to_owned(),
        }
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The codes of an error body; checks its form on the way.
    pub fn codes(&self) -> Vec<String> {
        assert_eq!(
            self.get("content-type"),
            Some("application/json"),
            "{self:?}"
        );
        let json = self.json();
        let errors = json["errors"].as_array().expect("an error body has errors");
        assert!(!errors.is_empty(), "{self:?}");
        errors
            .iter()
            .map(|error| {
                assert!(error["message"].is_string(), "{self:?}");
                error["code"]
                    .as_str()
                    .expect("an error has a code")
                    .to_owned()
            })
            .collect()
    }

    /// Checks that this is an error with this status and code.
    #[track_caller]
    pub fn is_error(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.codes()[0], code, "{self:?}");
    }
}

/// A connection that is kept until it is dropped.
pub struct Connection {
    stream: TcpStream,
    host: String,
    unread: Vec<u8>,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Self {
        Self {
            stream: TcpStream::connect(address).await.unwrap(),
            host: address.to_string(),
            unread: Vec::new(),
        }
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    /// Sends a request and waits for its answer.
    pub async fn send(&mut self, request: &Request) -> Reply {
        let bytes = request.to_bytes(&self.host);
        // The server may answer, and close, before it has read all of a body that it refuses.
        let _ = self.stream.write_all(&bytes).await;
        let head = request.method == "HEAD";
        let reply = self.reply(head).await;
        reply.unwrap_or_else(|| panic!("no answer to {} {}", request.method, request.path))
    }

    /// Sends bytes as they are.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends bytes, or tells that the connection has ended.
    pub async fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Sends nothing more, but goes on reading.
    pub async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// How many more bytes come before the connection ends, in whatever way.
    pub async fn read_to_end(&mut self) -> usize {
        tokio::time::timeout(PATIENCE, async { while self.more().await {} })
            .await
            .expect("the connection ends in time");
        self.unread.len()
    }

    /// Waits until an answer has begun, without reading of it.
    pub async fn wait_for_answer(&self) {
        let waiting = tokio::time::timeout(PATIENCE, self.stream.readable());
        waiting.await.expect("the server answers in time").unwrap();
    }

    /// Ends the connection with a reset, as a crashed client does.
    pub fn reset(self) {
        let _ = self.stream.set_zero_linger();
    }

    /// The next answer, or `None` when the connection ends before one begins. An answer that
    /// breaks off in the middle fails the test.
    pub async fn reply(&mut self, head: bool) -> Option<Reply> {
        tokio::time::timeout(PATIENCE, self.read_reply(head))
            .await
            .expect("the server answers in time")
    }

    async fn read_reply(&mut self, head: bool) -> Option<Reply> {
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.more().await {
                assert!(self.unread.is_empty(), "an answer broke off in its headers");
                return None;
            }
        };
        let text = String::from_utf8(self.unread.drain(..end).collect()).unwrap();
        let mut lines = text.split("\r\n");
        let status: u16 = lines
            .next()
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut reply = Reply {
            status,
            headers,
            body: Vec::new(),
        };
        if head || status < 200 || matches!(status, 204 | 304) {
            return Some(reply);
        }
        if let Some(length) = reply.get("content-length") {
            let length = length.parse().unwrap();
            self.fill(length).await;
            reply.body = self.unread.drain(..length).collect();
        } else if reply.get("transfer-encoding") == Some("chunked") {
            reply.body = self.chunks().await;
        } else {
            while self.more().await {}
            reply.body = std::mem::take(&mut self.unread);
        }
        Some(reply)
    }

    async fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line = loop {
                match self.unread.windows(2).position(|w| w == b"\r\n") {
                    Some(at) => break at,
                    None => assert!(self.more().await, "an answer broke off"),
                }
            };
            let size = String::from_utf8(self.unread.drain(..line + 2).collect()).unwrap();
            let size = usize::from_str_radix(size.trim(), 16).unwrap();
            self.fill(size + 2).await;
            body.extend(self.unread.drain(..size));
            self.unread.drain(..2);
            if size == 0 {
                return body;
            }
        }
    }

    async fn fill(&mut self, length: usize) {
        while self.unread.len() < length {
            assert!(self.more().await, "an answer broke off");
        }
    }

    async fn more(&mut self) -> bool {
        self.unread.reserve(64 * 1024);
        matches!(self.stream.read_buf(&mut self.unread).await, Ok(1..))
    }

    /// Whether the server ends the connection before it says anything more.
    pub async fn is_closed(&mut self) -> bool {
        let waiting = tokio::time::timeout(PATIENCE, self.more());
        !waiting.await.expect("the server says something or closes")
    }
}
