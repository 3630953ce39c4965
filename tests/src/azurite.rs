//! Azurite, a server of the protocol of Azure Blob Storage, with a container in it.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::bucket::Store;
use crate::distribution::free_address;
use crate::http::{Answer, Http};
use crate::process::Service;
use crate::s3::texts;

/// The account's name.
pub const ACCOUNT: &str = "wharfinger";

/// The account's key: `a secret of the tests`, in the form that keys have.
const KEY: &str = "YSBzZWNyZXQgb2YgdGhlIHRlc3Rz";

/// What that key signed: anything may be done in the account until the year 2199.
pub const SAS: &str = "sv=2020-10-02&ss=b&srt=sco&sp=rwdlac&se=2199-01-01T00%3A00%3A00Z\
                       &sig=19p0pV8a1iWnZV1Rm7TfAykmNt2ERqrr4qMytf5yKfs%3D";

/// The container's name.
pub const CONTAINER: &str = "registry";

/// A running server.
#[derive(Debug)]
pub struct Azurite {
    service: Service,
    /// Where it is asked.
    pub addr: SocketAddr,
}

impl Azurite {
    /// A command that starts the server at an address.
    ///
    /// # Panics
    /// When it is not installed.
    pub fn command(addr: SocketAddr) -> Command {
        let program = "azurite/node_modules/azurite/dist/src/blob/main.js";
        let program = crate::target_folder().join(program);
        assert!(
            program.is_file(),
            "{} is missing: `cargo xtask test --only packages` installs it",
            program.display()
        );
        let mut command = Command::new("node");
        command.arg(program);
        command.args(["--inMemoryPersistence", "--disableTelemetry"]);
        command.args(["--blobHost", "127.0.0.1"]);
        command.args(["--blobPort", &addr.port().to_string()]);
        command.env("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{KEY}"));
        command
    }

    /// Asks for something by the token: of the blob with a key, or of the container. What is put
    /// is an append blob.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn ask(&self, method: &str, key: &str, query: &str, body: &[u8]) -> Answer {
        let path = match key {
            "" => format!("/{ACCOUNT}/{CONTAINER}"),
            key => Self::path(key),
        };
        let kind = match (method, query) {
            ("PUT", "") => ("x-ms-blob-type", "AppendBlob"),
            _ => ("x-ms-version", "2020-10-02"),
        };
        Http(self.addr).send(method, &format!("{path}?{query}&{SAS}"), &[kind], body)
    }
}

/// Azure's directory, as far as an application asks it for tokens: each says that it is good for an
/// hour. Azurite looks at what a token says, and not at its signature.
///
/// # Panics
/// When it cannot listen.
pub fn directory() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let addr = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            let asked = read_request(&mut connection).unwrap_or_default();
            let known = asked.starts_with("POST /the-tenant/oauth2/v2.0/token ")
                && asked.contains("client_id=the-client&client_secret=the-secret");
            let (status, body) = match known {
                true => ("200 OK", token()),
                false => ("401 Unauthorized", json!({"error": "invalid_client"})),
            };
            let body = body.to_string();
            let length = body.len();
            let _ = write!(
                connection,
                "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
            );
        }
    });
    addr
}

fn token() -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.expect("it is after 1970").as_secs();
    let claims = json!({
        "aud": "https://storage.azure.com", "iss": "https://sts.windows.net/the-tenant/",
        "iat": now - 60, "nbf": now - 60, "exp": now + 3600,
        "oid": "the-object", "tid": "the-tenant", "sub": "the-client",
    });
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let head = encode(&json!({"alg": "RS256", "typ": "JWT"}));
    let token = format!("{head}.{}.c2lnbmF0dXJl", encode(&claims));
    json!({"token_type": "Bearer", "expires_in": 3600, "access_token": token})
}

/// A request with its body, which is form data.
fn read_request(connection: &mut TcpStream) -> io::Result<String> {
    connection.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut reader = BufReader::new(connection);
    let (mut text, mut length) = (String::new(), 0);
    loop {
        let start = text.len();
        reader.read_line(&mut text)?;
        let line = text[start..].trim().to_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(text + &String::from_utf8_lossy(&body))
}

impl Store for Azurite {
    const SIGNED: &'static str = "sr=b";
    const NAME: &'static str = "storage.azure.container";
    const MISSING: &'static str = "ContainerNotFound";

    fn start(home: &Path) -> Self {
        let addr = free_address();
        let mut service = Service::start(&mut Self::command(addr), &home.join("azurite.log"));
        service.wait_until(|_| TcpStream::connect(addr).ok());
        let server = Self { service, addr };
        let made = server.ask("PUT", "", "restype=container", b"");
        assert_eq!(made.status, 201, "{made:?}");
        server
    }

    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn settings(addr: SocketAddr) -> Value {
        json!({"storage": {"azure": {
            "accountname": ACCOUNT, "accountkey": KEY,
            "credentials": {"type": "shared_key"},
            "serviceurl": format!("http://{addr}/{ACCOUNT}"),
            "container": CONTAINER, "rootdirectory": "/some/where",
            "chunksize": 5 * 1024 * 1024,
        }}})
    }

    fn path(key: &str) -> String {
        format!("/{ACCOUNT}/{CONTAINER}/{key}")
    }

    fn keys(&self) -> Vec<String> {
        let listed = self.ask("GET", "", "restype=container&comp=list", b"");
        texts(&String::from_utf8_lossy(&listed.body), "Name")
    }

    /// The names under which there is nothing but blocks.
    fn open_uploads(&self) -> Vec<String> {
        let query = "restype=container&comp=list&include=uncommittedblobs";
        let listed = self.ask("GET", "", query, b"");
        let names = texts(&String::from_utf8_lossy(&listed.body), "Name");
        let blocks = names.into_iter().filter(|name| name.contains("!blocks-"));
        blocks.collect()
    }

    fn parts(&self) -> usize {
        self.service.log().matches("comp=block&").count()
    }
}
