//! A receiver of notifications, which accepts them or not, as it is told to.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use crate::process::eventually;

/// What is done with a request.
#[derive(Clone, Copy, Debug)]
pub enum Reply {
    /// An answer with this status.
    Status(u16),
    /// The same, but after a while.
    Slow(u16, Duration),
    /// No answer, and a connection that stays.
    Hang,
    /// No answer, and a connection that ends.
    Close,
}

/// A receiver on a free port; it ends with the test's process.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// Where it listens.
    pub addr: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    script: VecDeque<Reply>,
    /// What is done when the script has ended.
    then: Reply,
    events: Vec<Value>,
    heads: Vec<String>,
}

impl Receiver {
    /// A receiver that accepts everything.
    ///
    /// # Panics
    /// When no port is free.
    pub fn start() -> Self {
        Self::listen(None)
    }

    /// The same behind TLS.
    ///
    /// # Panics
    /// When no port is free, or the certificate is not one.
    pub fn start_tls(certificate: CertificateDer<'static>, key: PrivateKeyDer<'static>) -> Self {
        let provider = rustls::crypto::ring::default_provider();
        let tls = ServerConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .expect("ring knows the defaults")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key);
        Self::listen(Some(Arc::new(tls.expect("a certificate and its key"))))
    }

    fn listen(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let addr = listener.local_addr().expect("it is bound");
        let state = Arc::new(Mutex::new(State {
            script: VecDeque::new(),
            then: Reply::Status(200),
            events: Vec::new(),
            heads: Vec::new(),
        }));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, tls) = (Arc::clone(&shared), tls.clone());
                // A client that goes away is none of its business.
                thread::spawn(move || match tls {
                    None => serve(stream, &state),
                    Some(tls) => {
                        let connection = ServerConnection::new(tls).expect("a good configuration");
                        serve(StreamOwned::new(connection, stream), &state)
                    }
                });
            }
        });
        Self { addr, state }
    }

    /// Does these with the next requests, and `then` with all that follow.
    ///
    /// # Panics
    /// When a thread of it did.
    pub fn answer(&self, script: &[Reply], then: Reply) {
        let mut state = self.state.lock().unwrap();
        state.script = script.iter().copied().collect();
        state.then = then;
    }

    /// The events of all requests, in the order in which they came, accepted or not.
    ///
    /// # Panics
    /// When a thread of it did.
    pub fn events(&self) -> Vec<Value> {
        self.state.lock().unwrap().events.clone()
    }

    /// The request lines and headers.
    ///
    /// # Panics
    /// When a thread of it did.
    pub fn heads(&self) -> Vec<String> {
        self.state.lock().unwrap().heads.clone()
    }

    /// Waits for this many events and gives all there are.
    ///
    /// # Panics
    /// When they do not come.
    pub fn wait_for(&self, number: usize) -> Vec<Value> {
        eventually("the events come", || self.events().len() >= number);
        self.events()
    }
}

fn serve(mut stream: impl Read + Write, state: &Mutex<State>) -> io::Result<()> {
    let mut unread = Vec::new();
    loop {
        let (head, body) = request(&mut stream, &mut unread)?;
        let envelope: Value = serde_json::from_slice(&body)?;
        let reply = {
            let mut state = state.lock().unwrap();
            let events = envelope["events"].as_array();
            state.events.extend(events.into_iter().flatten().cloned());
            state.heads.push(head);
            let then = state.then;
            state.script.pop_front().unwrap_or(then)
        };
        let status = match reply {
            Reply::Status(status) => status,
            Reply::Slow(status, time) => {
                thread::sleep(time);
                status
            }
            Reply::Hang => {
                stream.read_to_end(&mut unread)?;
                return Ok(());
            }
            Reply::Close => return Ok(()),
        };
        write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n")?;
        stream.flush()?;
    }
}

/// The next request's head and body.
fn request(stream: &mut impl Read, unread: &mut Vec<u8>) -> io::Result<(String, Vec<u8>)> {
    let end = loop {
        if let Some(at) = unread.windows(4).position(|at| at == b"\r\n\r\n") {
            break at + 4;
        }
        more(stream, unread)?;
    };
    let head = String::from_utf8_lossy(&unread[..end]).into_owned();
    unread.drain(..end);
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let length = name.eq_ignore_ascii_case("content-length");
        length.then(|| value.trim().parse().ok())?
    });
    let length: usize = length.unwrap_or(0);
    while unread.len() < length {
        more(stream, unread)?;
    }
    Ok((head, unread.drain(..length).collect()))
}

fn more(stream: &mut impl Read, unread: &mut Vec<u8>) -> io::Result<()> {
    let mut piece = [0; 16 * 1024];
    match stream.read(&mut piece)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        length => {
            unread.extend_from_slice(&piece[..length]);
            Ok(())
        }
    }
}
