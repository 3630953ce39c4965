//! The requests that are counted, and the registries that they go to.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use wharfinger_oci::Digest;

use crate::error::{Context, Error, Result};
use crate::fixture::{MANIFEST_TYPE, manifest, noise};
use crate::http::Client;

/// A JSON Web Key Set whose one key is a secret that is used here only.
const KEYS: &str = r#"{"keys":[{"kty":"oct","kid":"counted","alg":"HS256","k":"LWYvlEMEgS7_VodraVdudDwNrnBUI54Doj23UQWYjEQ"}]}"#;

/// A token that this key has signed: it allows `counted` to pull from and push to `counted/image`
/// until the year 2100.
const TOKEN: &str = "\
    eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiIsImtpZCI6ImNvdW50ZWQifQ.eyJpc3MiOiJjb3VudGVkI\
    iwiYXVkIjoiY291bnRlZCIsInN1YiI6ImNvdW50ZWQiLCJleHAiOjQxMDI0NDQ4MDAsIm5iZiI6MTcwM\
    DAwMDAwMCwiYWNjZXNzIjpbeyJ0eXBlIjoicmVwb3NpdG9yeSIsIm5hbWUiOiJjb3VudGVkL2ltYWdlI\
    iwiYWN0aW9ucyI6WyJwdWxsIiwicHVzaCJdfV19.ZQ-b0yI5fVgrE1dWcTM1gY5WNVgpFlbIIavAe1cD\
    OxM";

/// How a registry is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// As for the measurements of speed.
    Plain,
    /// With a log of requests, and with metrics.
    Watched,
    /// With tokens.
    Token,
}

impl Setting {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Watched, Self::Token];

    /// What its folder is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Watched => "watched",
            Self::Token => "token",
        }
    }

    /// Writes the configuration of a registry in `folder` and gives its path.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn write_config(self, folder: &Path, addr: SocketAddr) -> Result<PathBuf> {
        let quiet = "log:\n  level: error\n  accesslog:\n    disabled: true\n";
        let (log, http, auth) = match self {
            Self::Plain => (quiet, "", String::new()),
            Self::Watched => {
                let debug =
                    "  debug:\n    addr: 127.0.0.1:0\n    prometheus:\n      enabled: true\n";
                ("", debug, String::new())
            }
            Self::Token => {
                let keys = folder.join("keys.json");
                fs::write(&keys, KEYS).context("write a key")?;
                let auth = format!(
                    "auth:\n  token:\n    realm: http://localhost/token\n    service: counted\n    \
                     issuer: counted\n    jwks: {}\n",
                    keys.display()
                );
                (quiet, "", auth)
            }
        };
        let config = folder.join("config.yml");
        let text = format!(
            "version: 0.1\n{log}\
             storage:\n  filesystem:\n    rootdirectory: {}\n  cache:\n    blobdescriptor: inmemory\n\
             http:\n  addr: {addr}\n{http}{auth}",
            folder.join("data").display()
        );
        fs::write(&config, text).context("write a configuration")?;
        Ok(config)
    }

    fn authorization(self) -> String {
        match self {
            Self::Plain | Self::Watched => String::new(),
            Self::Token => format!("Authorization: Bearer {TOKEN}\r\n"),
        }
    }
}

/// What is in the registry.
struct Image {
    config: Vec<u8>,
    small: Vec<u8>,
    /// Too large to be kept in memory.
    large: Vec<u8>,
}

impl Image {
    fn new() -> Self {
        Self {
            config: br#"{"architecture":"amd64","os":"linux"}"#.to_vec(),
            small: noise(1, 1024),
            large: noise(2, 256 * 1024),
        }
    }

    fn manifest(&self) -> Vec<u8> {
        manifest(&self.config, &[&self.small, &self.large])
    }
}

/// A request that is sent again and again.
pub struct Request {
    /// What it is called.
    pub name: &'static str,
    bytes: Vec<u8>,
    status: u16,
}

impl Request {
    fn new(
        setting: Setting,
        name: &'static str,
        method: &str,
        path: &str,
        headers: &str,
        status: u16,
    ) -> Self {
        let authorization = setting.authorization();
        let length = if method == "POST" {
            "Content-Length: 0\r\n"
        } else {
            ""
        };
        let bytes = format!(
            "{method} /v2/{path} HTTP/1.1\r\nHost: registry.test:5000\r\n\
             User-Agent: counted/1.0\r\n{headers}{authorization}{length}\
             Accept-Encoding: gzip\r\n\r\n"
        );
        Self {
            name,
            bytes: bytes.into_bytes(),
            status,
        }
    }

    /// Sends it and reads the answer.
    ///
    /// # Errors
    /// [`Error::Status`] when the answer is not what it always is.
    pub fn send(&self, client: &mut Client) -> Result<()> {
        let answer = client.exchange(&self.bytes)?;
        if answer.status == self.status {
            return Ok(());
        }
        Err(Error::Status {
            request: self.name.to_owned(),
            status: answer.status,
            body: String::from_utf8_lossy(&answer.body).into_owned(),
        })
    }
}

/// Pushes what the requests ask for.
///
/// # Errors
/// When a push fails.
pub fn prepare(client: &mut Client, setting: Setting) -> Result<()> {
    let image = Image::new();
    let mut push = |method: &str, path: &str, kind: &str, body: &[u8]| {
        let mut request = format!(
            "{method} /v2/counted/image/{path} HTTP/1.1\r\nHost: registry.test:5000\r\n{}\
             Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            setting.authorization(),
            body.len()
        )
        .into_bytes();
        request.extend(body);
        let answer = client.exchange(&request)?;
        match answer.status {
            201 => Ok(()),
            status => Err(Error::Status {
                request: format!("{method} {path}"),
                status,
                body: String::from_utf8_lossy(&answer.body).into_owned(),
            }),
        }
    };
    for blob in [&image.config, &image.small, &image.large] {
        let path = format!("blobs/uploads/?digest={}", Digest::canonical(blob));
        push("POST", &path, "application/octet-stream", blob)?;
    }
    push("PUT", "manifests/latest", MANIFEST_TYPE, &image.manifest())
}

/// The requests that are counted of a registry with this setting.
pub fn all(setting: Setting) -> Vec<Request> {
    let image = Image::new();
    let by_tag = "counted/image/manifests/latest";
    let by_digest = format!(
        "counted/image/manifests/{}",
        Digest::canonical(&image.manifest())
    );
    let blob = |bytes: &[u8]| format!("counted/image/blobs/{}", Digest::canonical(bytes));
    let (small, large, absent) = (blob(&image.small), blob(&image.large), blob(b"absent"));
    let accept = format!("Accept: {MANIFEST_TYPE}\r\n");
    let request = |name, method, path: &str, headers: &str, status| {
        Request::new(setting, name, method, path, headers, status)
    };
    match setting {
        Setting::Plain => {
            let mount = format!(
                "counted/other/blobs/uploads/?mount={}&from=counted%2Fimage",
                Digest::canonical(&image.small)
            );
            vec![
                request("GET /v2/", "GET", "", "", 200),
                request("GET manifest by tag", "GET", by_tag, &accept, 200),
                request("GET manifest by digest", "GET", &by_digest, &accept, 200),
                request("HEAD manifest by tag", "HEAD", by_tag, &accept, 200),
                request("HEAD manifest by digest", "HEAD", &by_digest, &accept, 200),
                request("HEAD blob", "HEAD", &small, "", 200),
                request("HEAD blob, absent", "HEAD", &absent, "", 404),
                request("GET 1 KiB blob", "GET", &small, "", 200),
                request(
                    "GET 64 KiB of a large blob",
                    "GET",
                    &large,
                    "Range: bytes=0-65535\r\n",
                    206,
                ),
                request("POST mount, mounted before", "POST", &mount, "", 201),
            ]
        }
        Setting::Watched => vec![
            request(
                "GET manifest by tag, logged and counted",
                "GET",
                by_tag,
                &accept,
                200,
            ),
            request("HEAD blob, logged and counted", "HEAD", &small, "", 200),
            request("GET 1 KiB blob, logged and counted", "GET", &small, "", 200),
        ],
        Setting::Token => vec![
            request(
                "GET manifest by tag, with a token",
                "GET",
                by_tag,
                &accept,
                200,
            ),
            request("GET 1 KiB blob, with a token", "GET", &small, "", 200),
        ],
    }
}
