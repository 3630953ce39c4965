//! An HTTP proxy that makes tunnels (CONNECT, RFC 9110, section 9.3.6), to this machine alone.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// How long either side may say nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// The first byte of a TLS connection: a record of the handshake (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;

/// A running proxy; it goes on until the test process ends. Wherever it is asked to, its tunnels
/// lead to that port of this machine, and only TLS goes through them.
#[derive(Clone, Debug)]
pub struct TunnelProxy {
    /// Where it is asked.
    pub addr: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

/// What it does.
#[derive(Clone, Debug)]
enum Manners {
    /// Lets in who shows this.
    Opens { authorization: String },
    /// Answers everything with a status.
    Refuses(&'static str),
}

impl TunnelProxy {
    /// One that lets in a user with a password.
    ///
    /// # Panics
    /// When it cannot listen.
    pub fn start(username: &str, password: &str) -> Self {
        let login = STANDARD.encode(format!("{username}:{password}"));
        Self::with(Manners::Opens {
            authorization: format!("Basic {login}"),
        })
    }

    /// One that answers everything with a status, `502 Bad Gateway`.
    ///
    /// # Panics
    /// When it cannot listen.
    pub fn refusing(status: &'static str) -> Self {
        Self::with(Manners::Refuses(status))
    }

    fn with(manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let proxy = Self {
            addr: listener.local_addr().expect("it is bound"),
            asked: Arc::default(),
        };
        let serving = proxy.clone();
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (proxy, manners) = (serving.clone(), manners.clone());
                thread::spawn(move || proxy.serve(connection, &manners));
            }
        });
        proxy
    }

    /// What it was asked for since this was last asked, by method and target, and how that ended:
    /// `CONNECT registry.example:443: open`.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, asked: &str, outcome: &str) {
        let mut all = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(format!("{asked}: {outcome}"));
    }

    fn serve(&self, mut client: TcpStream, manners: &Manners) -> io::Result<()> {
        client.set_read_timeout(Some(PATIENCE))?;
        let head = read_head(&mut client)?;
        let mut lines = head.lines();
        let first = lines.next().unwrap_or_default();
        let asked = first.trim_end_matches(" HTTP/1.1");
        let shown = lines.find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("proxy-authorization")
                .then_some(value)
        });
        let status = match manners {
            Manners::Refuses(status) => status,
            Manners::Opens { authorization } if shown != Some(authorization) => {
                "407 Proxy Authentication Required"
            }
            Manners::Opens { .. } => match asked.strip_prefix("CONNECT ") {
                Some(target) => {
                    let port = target
                        .rsplit_once(':')
                        .and_then(|(_, port)| port.parse().ok());
                    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port.unwrap_or(0)))?;
                    self.note(asked, "open");
                    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
                    return pass_on(client, server);
                }
                None => "405 Method Not Allowed",
            },
        };
        self.note(asked, status);
        let head = format!(
            "HTTP/1.1 {status}\r\nProxy-Authenticate: Basic realm=\"proxy\"\r\n\
             Content-Length: 0\r\nConnection: close\r\n\r\n"
        );
        client.write_all(head.as_bytes())
    }
}

/// Passes on what either side says, until one ends.
fn pass_on(mut client: TcpStream, mut server: TcpStream) -> io::Result<()> {
    let mut first = [0];
    client.read_exact(&mut first)?;
    if first != [HANDSHAKE] {
        return Err(io::ErrorKind::InvalidData.into());
    }
    server.write_all(&first)?;
    let (mut back, mut forth) = (server.try_clone()?, client.try_clone()?);
    let answers = thread::spawn(move || {
        let ended = io::copy(&mut back, &mut forth);
        let _ = forth.shutdown(Shutdown::Both);
        ended
    });
    let ended = io::copy(&mut client, &mut server);
    let _ = server.shutdown(Shutdown::Both);
    let _ = answers.join();
    ended.map(|_| ())
}

fn read_head(client: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}
