//! A service that gives out tokens (Docker's token authentication): it knows users by their
//! passwords and says in a signed token what each may do.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::DecodePrivateKey as _;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use wharfinger_oci::key::{PublicKey, base64url};

/// What the service calls itself, and the registry.
const ISSUER: &str = "the token service";
const SERVICE: &str = "registry.test";

/// A key that signs tokens, and its certificate.
#[derive(Debug)]
pub struct Issuer {
    key: SigningKey,
    certificate: String,
    id: String,
}

impl Issuer {
    /// One with a new key.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn new() -> Self {
        let pair = KeyPair::generate().expect("a key can be made");
        let params = CertificateParams::new(vec!["issuer.test".to_owned()]);
        let certificate = params.expect("the name is good").self_signed(&pair);
        let certificate = certificate.expect("it can be signed");
        let public = PublicKey::from_certificate(certificate.der()).expect("it has a key");
        Self {
            key: SigningKey::from_pkcs8_pem(&pair.serialize_pem()).expect("it is of P-256"),
            certificate: certificate.pem(),
            id: public.id(),
        }
    }

    /// Claims that are good now: `access` for a user.
    pub fn claims(user: &str, access: &Value) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.expect("it is after 1970").as_secs();
        json!({
            "iss": ISSUER, "aud": SERVICE, "sub": user, "iat": now, "nbf": now - 10,
            "exp": now + 300, "jti": format!("{now}"), "access": access,
        })
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Value) -> String {
        let header = json!({"typ": "JWT", "alg": "ES256", "kid": self.id});
        let part = |value: &Value| base64url::encode(value.to_string().as_bytes());
        let signed = format!("{}.{}", part(&header), part(claims));
        let signature: Signature = self.key.sign(signed.as_bytes());
        format!("{signed}.{}", base64url::encode(&signature.to_bytes()))
    }
}

impl Default for Issuer {
    fn default() -> Self {
        Self::new()
    }
}

/// A user: the password, and what may be done where. A place that ends in `*` is every repository
/// whose name begins so.
#[derive(Clone, Debug, Default)]
pub struct User {
    password: String,
    grants: Vec<(String, Vec<String>)>,
}

impl User {
    /// A user who may do nothing.
    pub fn new(password: &str) -> Self {
        Self {
            password: password.to_owned(),
            grants: Vec::new(),
        }
    }

    /// A user who may also do `actions`, joined by commas, at `place`.
    #[must_use]
    pub fn may(mut self, place: &str, actions: &str) -> Self {
        let actions = actions.split(',').map(str::to_owned).collect();
        self.grants.push((place.to_owned(), actions));
        self
    }

    fn allowed(&self, name: &str, actions: &str) -> Vec<&str> {
        let here = self.grants.iter().filter(|(place, _)| {
            let prefix = place.strip_suffix('*');
            place == name || prefix.is_some_and(|prefix| name.starts_with(prefix))
        });
        let granted: Vec<&str> = here.flat_map(|(_, a)| a).map(String::as_str).collect();
        let asked = actions.split(',');
        granted
            .into_iter()
            .filter(|granted| asked.clone().any(|asked| asked == *granted))
            .collect()
    }
}

#[derive(Debug)]
struct State {
    issuer: Issuer,
    /// By name; the empty name is whoever shows no password.
    users: BTreeMap<String, User>,
    /// The scopes that were asked for, in order.
    asked: Mutex<Vec<String>>,
    stopping: AtomicBool,
}

/// The running service.
#[derive(Debug)]
pub struct TokenService {
    state: Arc<State>,
    addr: SocketAddr,
    bundle: PathBuf,
    accepting: Option<JoinHandle<()>>,
}

impl TokenService {
    /// Starts it on a free port, with its certificate in `home`.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(home: &Path, users: impl IntoIterator<Item = (&'static str, User)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let addr = listener.local_addr().expect("it is bound");
        let users = users
            .into_iter()
            .map(|(name, user)| (name.to_owned(), user));
        let state = Arc::new(State {
            issuer: Issuer::new(),
            users: users.collect(),
            asked: Mutex::default(),
            stopping: AtomicBool::new(false),
        });
        let bundle = home.join("issuer.pem");
        fs::write(&bundle, &state.issuer.certificate).expect("a file can be written");
        let shared = Arc::clone(&state);
        let accepting = std::thread::spawn(move || {
            for connection in listener.incoming() {
                if shared.stopping.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || connection.and_then(|c| shared.answer(&c)));
            }
        });
        Self {
            state,
            addr,
            bundle,
            accepting: Some(accepting),
        }
    }

    /// Its section of a registry's configuration: `auth.token`.
    pub fn section(&self) -> Value {
        json!({
            "realm": format!("http://{}/token", self.addr),
            "service": SERVICE,
            "issuer": ISSUER,
            "rootcertbundle": self.bundle,
        })
    }

    /// The key it signs with.
    pub fn issuer(&self) -> &Issuer {
        &self.state.issuer
    }

    /// The scopes that it was asked for, in order.
    pub fn asked(&self) -> Vec<String> {
        self.state.asked.lock().expect("nobody panicked").clone()
    }
}

impl Drop for TokenService {
    fn drop(&mut self) {
        self.state.stopping.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.addr);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

impl State {
    fn answer(&self, connection: &TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(connection);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut shown = None;
        let mut length = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            let Some((name, value)) = header.trim_end().split_once(':') else {
                break;
            };
            match name.to_ascii_lowercase().as_str() {
                "authorization" => shown = Some(value.trim().to_owned()),
                "content-length" => length = value.trim().parse().unwrap_or(0),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let query = target.split_once('?').map_or("", |(_, query)| query);
        // GET as in Docker's token specification, POST as in OAuth 2.
        let form = format!("{query}&{}", String::from_utf8_lossy(&body));
        let parameters: Vec<(String, String)> = form
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (decode(name), decode(value)))
            .collect();
        let (status, answer) = match self.user(shown.as_deref(), &parameters) {
            Some((name, user)) => ("200 OK", self.token(name, user, &parameters)),
            None => (
                "401 Unauthorized",
                json!({"details": "wrong user or password"}),
            ),
        };
        let answer = answer.to_string();
        let mut writer = connection;
        write!(
            writer,
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{answer}",
            answer.len()
        )
    }

    /// Who asks; `None` for a wrong password.
    fn user(&self, shown: Option<&str>, parameters: &[(String, String)]) -> Option<(&str, &User)> {
        let get = |name: &str| {
            let found = parameters.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.as_str())
        };
        let (name, password) = match (shown, get("username"), get("refresh_token")) {
            (Some(shown), ..) => {
                let decoded = STANDARD.decode(shown.strip_prefix("Basic ")?).ok()?;
                let decoded = String::from_utf8(decoded).ok()?;
                let (name, password) = decoded.split_once(':')?;
                (name.to_owned(), password.to_owned())
            }
            (None, Some(name), _) => (name.to_owned(), get("password")?.to_owned()),
            // The refresh tokens that are given out are names and passwords.
            (None, None, Some(refresh)) => {
                let (name, password) = refresh.split_once(':')?;
                (name.to_owned(), password.to_owned())
            }
            (None, None, None) => (String::new(), String::new()),
        };
        let (name, user) = self.users.get_key_value(&name)?;
        (user.password == password).then_some((name.as_str(), user))
    }

    fn token(&self, name: &str, user: &User, parameters: &[(String, String)]) -> Value {
        let mut access = Vec::new();
        let scopes = parameters.iter().filter(|(key, _)| key == "scope");
        for scope in scopes.flat_map(|(_, value)| value.split(' ')) {
            self.asked
                .lock()
                .expect("nobody panicked")
                .push(scope.to_owned());
            // A name can have a colon before its port, so the actions are looked for from the end.
            if let Some((kind, rest)) = scope.split_once(':')
                && let Some((name, actions)) = rest.rsplit_once(':')
            {
                let actions = user.allowed(name, actions);
                access.push(json!({"type": kind, "name": name, "actions": actions}));
            }
        }
        let token = self
            .issuer
            .sign(&Issuer::claims(name, &Value::Array(access)));
        json!({
            "token": token, "access_token": token, "expires_in": 300,
            "refresh_token": format!("{name}:{}", user.password),
        })
    }
}

/// Takes the coding of forms off.
fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let hex: Vec<u8> = rest.by_ref().take(2).collect();
                let hex = String::from_utf8_lossy(&hex);
                u8::from_str_radix(&hex, 16).unwrap_or(b'?')
            }
            byte => byte,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
