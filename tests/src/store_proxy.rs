//! A proxy before an object store, which counts what is asked of it and does it harm.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is answered by the store.
    Answered,
    /// The store never hears of it: a status and an error code are the answer.
    Refused(u16, &'static str),
    /// The store never hears of it, and the connection ends.
    Lost,
    /// The store does it, and the connection ends halfway through the answer.
    AnswerLost,
    /// The same, after so many bytes of the answer.
    AnswerTorn(usize),
    /// The store does it, and the head of the answer has the second text in place of the first.
    Altered(&'static str, &'static str),
}

/// A request, as far as a fate may depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The operation, by the name that the protocol gives it.
    pub operation: &'static str,
    /// The path, with the bucket's name.
    pub path: String,
    /// How many requests have come before it.
    pub before: usize,
}

/// Decides about requests.
type Fates = Box<dyn FnMut(&Asked) -> Fate + Send>;

/// A running proxy; it goes on until the test process ends.
#[derive(Clone)]
pub struct StoreProxy {
    /// Where it is asked.
    pub addr: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    fates: Fates,
    asked: Vec<Asked>,
}

impl fmt::Debug for StoreProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreProxy({})", self.addr)
    }
}

impl StoreProxy {
    /// Starts one before the store at `store`.
    ///
    /// # Panics
    /// When it cannot listen.
    pub fn start(store: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let proxy = Self {
            addr: listener.local_addr().expect("it is bound"),
            state: Arc::new(Mutex::new(State {
                fates: Box::new(|_| Fate::Answered),
                asked: Vec::new(),
            })),
        };
        let serving = proxy.clone();
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let proxy = serving.clone();
                thread::spawn(move || proxy.serve(connection, store));
            }
        });
        proxy
    }

    /// Decides about all requests from now on.
    pub fn decide(&self, fates: impl FnMut(&Asked) -> Fate + Send + 'static) {
        self.state().fates = Box::new(fates);
    }

    /// Forgets what was asked so far.
    pub fn count_anew(&self) {
        self.state().asked.clear();
    }

    /// How often each operation was asked for since then, but for where collection stands, which a
    /// node reads at its own times.
    pub fn counts(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        let state = self.state();
        let is_counted = |asked: &&Asked| {
            let path = asked.path.replace("%2F", "/").replace("%5F", "_");
            !path.contains("/_gc/state")
        };
        for asked in state.asked.iter().filter(is_counted) {
            *counts.entry(asked.operation).or_default() += 1;
        }
        counts
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves one request; the connection ends with it.
    fn serve(&self, mut connection: TcpStream, store: SocketAddr) {
        let _ = connection.set_read_timeout(Some(Duration::from_secs(60)));
        let _ = self.pass_on(&mut connection, store);
        let _ = connection.shutdown(Shutdown::Both);
    }

    fn pass_on(&self, connection: &mut TcpStream, store: SocketAddr) -> io::Result<()> {
        let (head, mut body) = read_head(connection)?;
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap_or_default().to_owned();
        let headers: Vec<_> = lines.filter_map(|line| line.split_once(':')).collect();
        let header = |name: &str| {
            let found = headers
                .iter()
                .find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.trim().to_owned())
        };
        let length = header("content-length").and_then(|length| length.parse().ok());
        let length: usize = length.unwrap_or(0);
        if header("expect").is_some() {
            connection.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let read = body.len();
        body.resize(length.max(read), 0);
        connection.read_exact(&mut body[read..])?;

        let copies = ["x-amz-copy-source", "x-goog-copy-source"];
        let copies = copies.iter().any(|name| header(name).is_some());
        let fate = {
            let mut state = self.state();
            let asked = Asked {
                operation: match header("x-ms-version") {
                    Some(_) => azure_operation(&first, header("x-ms-copy-source").is_some()),
                    None => operation(&first, copies),
                },
                path: first.split(' ').nth(1).unwrap_or_default().to_owned(),
                before: state.asked.len(),
            };
            let fate = (state.fates)(&asked);
            state.asked.push(asked);
            fate
        };
        match fate {
            Fate::Answered | Fate::AnswerLost | Fate::AnswerTorn(_) | Fate::Altered(..) => {}
            Fate::Lost => return Ok(()),
            Fate::Refused(status, code) => {
                let body =
                    format!("<Error><Code>{code}</Code><Message>As planned.</Message></Error>");
                let body = if first.starts_with("HEAD") { "" } else { &body };
                let head = format!(
                    "HTTP/1.1 {status} Refused\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                return connection
                    .write_all([head.as_bytes(), body.as_bytes()].concat().as_slice());
            }
        }
        let mut upstream = TcpStream::connect(store)?;
        upstream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let kept = headers
            .iter()
            .filter(|(name, _)| !["connection", "expect"].contains(&name.to_lowercase().as_str()));
        let kept: String = kept
            .map(|(name, value)| format!("{name}:{value}\r\n"))
            .collect();
        let head = format!("{first}\r\n{kept}Connection: close\r\n\r\n");
        upstream.write_all(head.as_bytes())?;
        upstream.write_all(&body)?;
        let mut answer = Vec::new();
        upstream.read_to_end(&mut answer)?;
        match fate {
            Fate::AnswerLost => answer.truncate(answer.len() / 2),
            Fate::Altered(one, other) => answer = altered(&answer, one, other),
            Fate::AnswerTorn(at) => answer.truncate(at),
            _ => {}
        }
        connection.write_all(&answer)
    }
}

/// An answer whose head has another text in place of one.
fn altered(answer: &[u8], one: &str, other: &str) -> Vec<u8> {
    let ends = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let (head, body) = answer.split_at(ends.unwrap_or(answer.len()));
    let head = String::from_utf8_lossy(head).replace(one, other);
    [head.as_bytes(), body].concat()
}

fn read_head(connection: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
    let mut received = Vec::new();
    loop {
        if let Some(end) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let body = received.split_off(end + 4);
            received.truncate(end);
            return Ok((String::from_utf8_lossy(&received).into_owned(), body));
        }
        let mut piece = [0; 16 * 1024];
        match connection.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => received.extend_from_slice(&piece[..n]),
        }
    }
}

/// The operation that a request's first line asks for, in Amazon's protocol.
fn operation(first: &str, copies: bool) -> &'static str {
    let (method, query) = method_and_query(first);
    let has = |name: &str| query.iter().any(|(known, _)| *known == name);
    match method {
        "HEAD" => "HeadObject",
        "GET" if has("uploads") => "ListMultipartUploads",
        "GET" if has("uploadId") => "ListParts",
        "GET" if has("list-type") || has("prefix") => "ListObjects",
        "GET" => "GetObject",
        "PUT" if has("uploadId") && copies => "UploadPartCopy",
        "PUT" if has("uploadId") => "UploadPart",
        "PUT" if copies => "CopyObject",
        "PUT" => "PutObject",
        "POST" if has("uploads") => "CreateMultipartUpload",
        "POST" if has("uploadId") => "CompleteMultipartUpload",
        "POST" if has("delete") => "DeleteObjects",
        "DELETE" if has("uploadId") => "AbortMultipartUpload",
        "DELETE" => "DeleteObject",
        _ => "other",
    }
}

/// The same in Azure's protocol.
fn azure_operation(first: &str, copies: bool) -> &'static str {
    let (method, query) = method_and_query(first);
    let component = query.iter().find(|(name, _)| *name == "comp");
    match (method, component.map_or("", |(_, value)| value)) {
        ("HEAD", _) => "GetBlobProperties",
        ("GET", "list") => "ListBlobs",
        ("GET", "") => "GetBlob",
        ("PUT", "block") => "PutBlock",
        ("PUT", "blocklist") => "PutBlockList",
        ("PUT", "copy") => "AbortCopyBlob",
        ("PUT", "") if copies => "CopyBlob",
        ("PUT", "") => "PutBlob",
        ("POST", "batch") => "BlobBatch",
        ("DELETE", "") => "DeleteBlob",
        _ => "other",
    }
}

/// What a request's first line has: the method, and the query's names with their values.
fn method_and_query(first: &str) -> (&str, Vec<(&str, &str)>) {
    let mut words = first.split(' ');
    let method = words.next().unwrap_or_default();
    let target = words.next().unwrap_or_default();
    let (_, query) = target.split_once('?').unwrap_or_default();
    let pairs = query.split('&');
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    (method, pairs.collect())
}
