//! An upstream for tests that serves what it is given, and misbehaves as a test decides.

#![allow(missing_docs, reason = "for tests alone")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use wharfinger_oci::Digest;

/// A request that came.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// With the query.
    pub path: String,
    headers: Vec<(String, String)>,
}

impl Request {
    /// A header's value, by its name in lower case; several are joined.
    pub fn header(&self, name: &str) -> Option<String> {
        let found = self.headers.iter().filter(|(known, _)| known == name);
        let values: Vec<&str> = found.map(|(_, value)| value.as_str()).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }
}

/// What is answered.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    cut: Option<usize>,
    hold: Option<(usize, watch::Receiver<bool>)>,
}

impl Reply {
    pub fn new(status: u16, body: impl AsRef<[u8]>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.as_ref().to_vec(),
            cut: None,
            hold: None,
        }
    }

    /// An error as registries tell it.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        let body = format!(r#"{{"errors":[{{"code":"{code}","message":"{message}"}}]}}"#);
        Self::new(status, body).header("content-type", "application/json")
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// Cuts the connection after so many bytes of the body.
    #[must_use]
    pub fn cut(mut self, after: usize) -> Self {
        self.cut = Some(after);
        self
    }

    /// Goes on after so many bytes of the body only when `gate` says `true`; after none, the whole
    /// answer waits.
    #[must_use]
    pub fn hold(mut self, after: usize, gate: watch::Receiver<bool>) -> Self {
        self.hold = Some((after, gate));
        self
    }
}

type Decide = dyn FnMut(&Request) -> Option<Reply> + Send;

#[derive(Default)]
struct State {
    manifests: BTreeMap<String, (String, Vec<u8>)>,
    blobs: BTreeMap<String, Vec<u8>>,
    requests: Vec<Request>,
    decide: Option<Box<Decide>>,
}

/// A running upstream. It goes on until the test's runtime ends.
#[derive(Clone)]
pub struct TestUpstream {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl TestUpstream {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::default(),
        };
        let serving = upstream.clone();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(connection));
            }
        });
        upstream
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Has a blob in every repository.
    pub fn blob(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::canonical(bytes);
        let mut state = self.state.lock().unwrap();
        state.blobs.insert(digest.to_string(), bytes.to_vec());
        digest
    }

    /// Has a manifest in every repository, under its digest and a tag.
    pub fn manifest(&self, tag: &str, media_type: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::canonical(bytes);
        let mut state = self.state.lock().unwrap();
        for key in [tag.to_owned(), digest.to_string()] {
            let manifest = (media_type.to_owned(), bytes.to_vec());
            state.manifests.insert(key, manifest);
        }
        digest
    }

    /// Answers from now on as `decide` says, and where that says nothing, as a good registry would.
    pub fn decide(&self, decide: impl FnMut(&Request) -> Option<Reply> + Send + 'static) {
        self.state.lock().unwrap().decide = Some(Box::new(decide));
    }

    /// Answers everything well from now on.
    pub fn behave(&self) {
        self.state.lock().unwrap().decide = None;
    }

    /// What came since this was last asked.
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }

    /// The same as method and path.
    pub fn asked(&self) -> Vec<String> {
        let requests = self.requests();
        let lines = requests
            .iter()
            .map(|one| format!("{} {}", one.method, one.path));
        lines.collect()
    }

    async fn serve(self, mut connection: TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match connection.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.lines();
        let mut first = lines.next().unwrap().split(' ');
        let headers = lines.filter_map(|line| line.split_once(": "));
        let request = Request {
            method: first.next().unwrap().to_owned(),
            path: first.next().unwrap().to_owned(),
            headers: headers
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                .collect(),
        };
        let reply = {
            let mut state = self.state.lock().unwrap();
            state.requests.push(request.clone());
            let decided = state.decide.as_mut().and_then(|decide| decide(&request));
            decided.unwrap_or_else(|| state.answer(&request))
        };
        // A client that has left is none of the test's business.
        let _ = send(&mut connection, &request, reply).await;
    }
}

async fn send(connection: &mut TcpStream, request: &Request, reply: Reply) -> std::io::Result<()> {
    let mut hold = reply.hold;
    if let Some((0, gate)) = &mut hold {
        let _ = gate.wait_for(|open| *open).await;
    }
    let mut head = format!("HTTP/1.1 {} Said\r\nconnection: close\r\n", reply.status);
    let has = |name: &str| reply.headers.iter().any(|(known, _)| known == name);
    if !has("content-length") && !has("transfer-encoding") {
        head += &format!("content-length: {}\r\n", reply.body.len());
    }
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    connection
        .write_all(format!("{head}\r\n").as_bytes())
        .await?;
    if request.method == "HEAD" {
        return Ok(());
    }
    let end = reply.cut.unwrap_or(reply.body.len()).min(reply.body.len());
    let mut at = 0;
    if let Some((after, mut gate)) = hold {
        at = after.min(end);
        connection.write_all(&reply.body[..at]).await?;
        connection.flush().await?;
        let _ = gate.wait_for(|open| *open).await;
    }
    connection.write_all(&reply.body[at..end]).await?;
    connection.shutdown().await
}

impl State {
    fn answer(&self, request: &Request) -> Reply {
        let path = request.path.split('?').next().unwrap();
        if path == "/v2/" {
            return Reply::new(200, "{}");
        }
        let (rest, reference) = path.rsplit_once('/').unwrap();
        let (_, kind) = rest.rsplit_once('/').unwrap();
        match kind {
            "manifests" => match self.manifests.get(reference) {
                Some((media_type, bytes)) => {
                    let digest = Digest::canonical(bytes);
                    let etag = format!("\"{digest}\"");
                    if request.header("if-none-match").as_ref() == Some(&etag) {
                        return Reply::new(304, "");
                    }
                    Reply::new(200, bytes)
                        .header("content-type", media_type)
                        .header("docker-content-digest", digest)
                }
                None => Reply::error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
            },
            "blobs" => match self.blobs.get(reference) {
                Some(bytes) => part(bytes, request),
                None => Reply::error(404, "BLOB_UNKNOWN", "blob unknown"),
            },
            "tags" => {
                let tags = self.manifests.keys().filter(|key| !key.contains(':'));
                let tags: Vec<String> = tags.map(|tag| format!("{tag:?}")).collect();
                let body = format!(r#"{{"name":"x","tags":[{}]}}"#, tags.join(","));
                Reply::new(200, body).header("content-type", "application/json")
            }
            _ => Reply::new(404, "404 page not found"),
        }
    }
}

/// A blob, or the part of it that is asked for.
pub fn part(bytes: &[u8], request: &Request) -> Reply {
    let range = request.header("range");
    let from = range.and_then(|range| {
        let (start, _) = range.strip_prefix("bytes=")?.split_once('-')?;
        start.parse::<usize>().ok()
    });
    match from {
        Some(from) if from < bytes.len() => {
            let told = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
            Reply::new(206, &bytes[from..]).header("content-range", told)
        }
        Some(_) => Reply::error(416, "RANGE_INVALID", "range"),
        None => Reply::new(200, bytes),
    }
}
