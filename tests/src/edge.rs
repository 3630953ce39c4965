//! Servers that clients are sent to instead of the store: a web server on a folder, and one that
//! answers from a bucket as Amazon CloudFront does.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rsa::pkcs8::DecodePublicKey as _;
use rsa::{Pkcs1v15Sign, PublicKey};
use sha1::{Digest as _, Sha1};

use crate::distribution::free_address;
use crate::http::Http;
use crate::process::{Service, run};
use crate::s3::BUCKET;

/// nginx, which serves a folder below `/files/`.
#[derive(Debug)]
pub struct Nginx {
    /// Its process, whose log has a line for each request.
    pub service: Service,
    /// Where it is asked.
    pub addr: SocketAddr,
}

impl Nginx {
    /// Starts it on a folder, with its own files in `home`.
    ///
    /// # Panics
    /// With its log, when it does not start.
    pub fn start(home: &Path, folder: &Path) -> Self {
        let addr = free_address();
        let (home, folder) = (home.display(), folder.display());
        let text = format!(
            "daemon off; user root; pid {home}/nginx.pid; error_log stderr; events {{}}\n\
             http {{ access_log /dev/stdout; client_body_temp_path {home}/nginx-body;\n\
             proxy_temp_path {home}/nginx-proxy; fastcgi_temp_path {home}/nginx-fastcgi;\n\
             uwsgi_temp_path {home}/nginx-uwsgi; scgi_temp_path {home}/nginx-scgi;\n\
             server {{ listen {addr}; location /files/ {{ alias {folder}/; }} }} }}\n"
        );
        let file = format!("{home}/nginx.conf");
        fs::write(&file, text).expect("it can be written");
        let mut command = Command::new("nginx");
        command.args(["-e", "stderr", "-c", &file]);
        let log = format!("{home}/nginx.log");
        let mut service = Service::start(&mut command, Path::new(&log));
        service.wait_until(|_| TcpStream::connect(addr).ok());
        Self { service, addr }
    }
}

/// A key pair as CloudFront wants it, made by openssl: the private key in PKCS#1.
///
/// # Panics
/// When it cannot be made.
pub fn key_pair(home: &Path) -> (String, PublicKey) {
    let private = home.join("cloudfront.pem").display().to_string();
    let generate = ["genrsa", "-traditional", "-out", &private, "2048"];
    run(Command::new("openssl").args(generate));
    let public = run(Command::new("openssl").args(["rsa", "-pubout", "-in", &private]));
    let public = PublicKey::from_public_key_pem(&public).expect("openssl has written it");
    (private, public)
}

/// Answers from a bucket whatever is asked for by an address that was signed, and whatever is said
/// to be public. It goes on until the test process ends.
#[derive(Clone, Debug)]
pub struct Edge {
    /// Where it is asked.
    pub addr: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// The path and the content of the one thing that everybody gets.
    public: (String, String),
    /// Paths and statuses of answers.
    answered: Vec<(String, u16)>,
}

/// With what the edge itself is let in by the store.
const OWN_KEY: (&str, &str) = ("Authorization", "AWS edge:any");

/// The id of the key that it trusts.
pub const KEY_ID: &str = "K2JCJMDEHXQW5F";

impl Edge {
    /// Starts one before the bucket of the store at `store`; it trusts one key.
    ///
    /// # Panics
    /// When it cannot listen.
    pub fn start(store: SocketAddr, key: PublicKey) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let edge = Self {
            addr: listener.local_addr().expect("it is bound"),
            state: Arc::default(),
        };
        let serving = edge.clone();
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let _ = serving.serve(connection, store, &key);
            }
        });
        edge
    }

    /// Gives this to everybody who asks for `path`.
    pub fn publish(&self, path: &str, content: &str) {
        self.state().public = (path.to_owned(), content.to_owned());
    }

    /// The paths that were asked for, each with the status of the answer.
    pub fn answered(&self) -> Vec<(String, u16)> {
        self.state().answered.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(
        &self,
        mut connection: TcpStream,
        store: SocketAddr,
        key: &PublicKey,
    ) -> io::Result<()> {
        connection.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            connection.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut words = head.split(' ');
        let method = words.next().unwrap_or_default();
        let target = words.next().unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default();
        let (public, content) = self.state().public.clone();
        let (status, body) = if path == public {
            (200, content.into_bytes())
        } else if is_signed(&format!("http://{}", self.addr), target, key) {
            let got = Http(store).send("GET", &format!("/{BUCKET}{path}"), &[OWN_KEY], b"");
            (got.status, got.body)
        } else {
            (403, b"<Error><Code>AccessDenied</Code></Error>".to_vec())
        };
        self.state().answered.push((path.to_owned(), status));
        let length = body.len();
        write!(
            connection,
            "HTTP/1.1 {status} As Said\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        )?;
        match method {
            "HEAD" => Ok(()),
            _ => connection.write_all(&body),
        }
    }
}

/// Whether an address has a signature by a canned policy that is right and has not ended: the
/// policy is made of the address without the three parameters.
fn is_signed(host: &str, target: &str, key: &PublicKey) -> bool {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let parameter = |name: &str| {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let mut found = pairs
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value);
        found.next().unwrap_or_default()
    };
    let ends = parameter("Expires");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_secs());
    let signature = parameter("Signature");
    let signature = signature
        .replace('-', "+")
        .replace('_', "=")
        .replace('~', "/");
    let policy = format!(
        "{{\"Statement\":[{{\"Resource\":\"{host}{path}\",\"Condition\":\
         {{\"DateLessThan\":{{\"AWS:EpochTime\":{ends}}}}}}}]}}"
    );
    let scheme = Pkcs1v15Sign::new::<Sha1>();
    parameter("Key-Pair-Id") == KEY_ID
        && ends.parse().is_ok_and(|ends: u64| now < ends)
        && STANDARD.decode(signature).is_ok_and(|signature| {
            key.verify(scheme, &Sha1::digest(&policy), &signature)
                .is_ok()
        })
}
