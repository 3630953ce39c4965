//! A small HTTP/1.1 client: one request to a connection, so that a test decides when bytes leave,
//! and when they stop.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::image::{MANIFEST, manifest};
use crate::noise;

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    headers: Vec<(String, String)>,
    /// The body, freed of its transfer coding.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(key, _)| key == name)?;
        Some(value)
    }

    /// The code of the first error in the body, or an empty string.
    pub fn code(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["errors"][0]["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", String::from_utf8_lossy(&self.body)))
    }

    /// The status and, for an error, its code: what a test compares.
    pub fn outcome(&self) -> (u16, String) {
        (self.status, self.code())
    }

    /// Where `Location` points to, from the path on.
    ///
    /// # Panics
    /// When there is no such header.
    pub fn location(&self) -> String {
        let location = self
            .header("location")
            .unwrap_or_else(|| panic!("no Location: {self:?}"));
        match location.split_once("://") {
            Some((_, rest)) => rest[rest.find('/').unwrap_or(rest.len())..].to_owned(),
            None => location.to_owned(),
        }
    }
}

/// Sends requests to one server.
#[derive(Clone, Copy, Debug)]
pub struct Http(pub SocketAddr);

impl Http {
    /// Sends a request with its whole body and reads the answer.
    ///
    /// # Errors
    /// What the connection fails with; a server that closes without an answer is
    /// [`io::ErrorKind::UnexpectedEof`].
    pub fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Answer> {
        let mut connection = self.begin(method, path, headers, body.len() as u64)?;
        // A server may refuse early and close; what it said is still worth reading.
        let sent = connection.write_all(body);
        match read_answer(&mut connection, method) {
            Err(error) => Err(sent.err().unwrap_or(error)),
            answer => answer,
        }
    }

    /// Sends a request's head, which promises `length` bytes of body, and hands out the
    /// connection to send them by, or not.
    ///
    /// # Errors
    /// What the connection fails with.
    pub fn begin(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        length: u64,
    ) -> io::Result<TcpStream> {
        let mut connection = TcpStream::connect(self.0)?;
        connection.set_nodelay(true)?;
        connection.set_read_timeout(Some(Duration::from_secs(120)))?;
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n",
            self.0
        );
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if length > 0 || matches!(method, "POST" | "PUT" | "PATCH") {
            head += &format!("Content-Length: {length}\r\n");
        }
        head += "\r\n";
        connection.write_all(head.as_bytes())?;
        Ok(connection)
    }

    /// Sends a request that must be answered.
    ///
    /// # Panics
    /// When it is not.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.try_send(method, path, headers, body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// GET that accepts every kind of manifest.
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[("Accept", ACCEPT)], b"")
    }

    /// HEAD that accepts every kind of manifest.
    pub fn head(&self, path: &str) -> Answer {
        self.send("HEAD", path, &[("Accept", ACCEPT)], b"")
    }

    /// The digest the registry gives for a manifest.
    ///
    /// # Panics
    /// When there is no such manifest.
    pub fn digest(&self, name: &str, reference: &str) -> String {
        let answer = self.head(&format!("/v2/{name}/manifests/{reference}"));
        assert_eq!(answer.status, 200, "{name}:{reference}: {answer:?}");
        let digest = answer.header("docker-content-digest");
        digest.expect("every manifest has a digest").to_owned()
    }

    /// Opens an upload and gives its location.
    ///
    /// # Panics
    /// When it is refused.
    pub fn open_upload(&self, name: &str) -> String {
        let opened = self.send("POST", &format!("/v2/{name}/blobs/uploads/"), &[], b"");
        assert_eq!(opened.status, 202, "{opened:?}");
        opened.location()
    }

    /// Pushes a blob in one go and gives the registry's answer.
    ///
    /// # Errors
    /// What the connection fails with.
    pub fn try_push_blob(&self, name: &str, bytes: &[u8]) -> io::Result<Answer> {
        let opened = self.try_send("POST", &format!("/v2/{name}/blobs/uploads/"), &[], b"")?;
        if opened.status != 202 {
            return Ok(opened);
        }
        let path = with_digest(&opened.location(), &crate::digest(bytes));
        self.try_send("PUT", &path, &[OCTETS], bytes)
    }

    /// Pushes a blob and gives its digest.
    ///
    /// # Panics
    /// When it is refused.
    pub fn push_blob(&self, name: &str, bytes: &[u8]) -> String {
        let answer = self
            .try_push_blob(name, bytes)
            .unwrap_or_else(|error| panic!("pushing a blob to {name}: {error}"));
        assert_eq!(answer.status, 201, "{answer:?}");
        crate::digest(bytes)
    }

    /// Pushes a manifest and gives the registry's answer.
    pub fn push_manifest(
        &self,
        name: &str,
        reference: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Answer {
        let path = format!("/v2/{name}/manifests/{reference}");
        self.send("PUT", &path, &[("Content-Type", media_type)], bytes)
    }

    /// Pushes an image of one layer, which a seed decides; gives the digests of manifest, config and
    /// layer.
    ///
    /// # Panics
    /// When something of it is refused.
    pub fn push_image(&self, name: &str, tag: &str, seed: u64) -> [String; 3] {
        self.push_image_by(name, tag, seed, |blob| self.push_blob(name, blob))
    }

    /// The same, with blobs that are pushed in a way of their own, which gives their digests.
    ///
    /// # Panics
    /// When the manifest is refused.
    pub fn push_image_by(
        &self,
        name: &str,
        tag: &str,
        seed: u64,
        push: impl Fn(&[u8]) -> String,
    ) -> [String; 3] {
        let config = format!("{{\"seed\":{seed}}}").into_bytes();
        let layer = noise(seed, 100_000);
        let text = manifest(&config, &[&layer]);
        let [config, layer] = [config, layer].map(|blob| push(&blob));
        let answer = self.push_manifest(name, tag, MANIFEST, &text);
        assert_eq!(answer.status, 201, "{answer:?}");
        [crate::digest(&text), config, layer]
    }
}

/// The content type of blobs.
pub const OCTETS: (&str, &str) = ("Content-Type", "application/octet-stream");

const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, */*";

/// An upload's location with the digest that ends it.
pub fn with_digest(location: &str, digest: &str) -> String {
    let sign = if location.contains('?') { '&' } else { '?' };
    format!("{location}{sign}digest={digest}")
}

/// Reads the answer to a request that was sent on this connection.
///
/// # Errors
/// What the connection fails with; [`io::ErrorKind::UnexpectedEof`] for an answer that breaks off,
/// [`io::ErrorKind::InvalidData`] for one that is not HTTP.
pub fn read_answer(connection: &mut impl Read, method: &str) -> io::Result<Answer> {
    let mut received = Vec::new();
    let head_end = loop {
        if let Some(at) = find(&received, b"\r\n\r\n") {
            break at;
        }
        let mut piece = [0; 4096];
        match connection.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => received.extend_from_slice(&piece[..n]),
        }
    };
    let head = String::from_utf8_lossy(&received[..head_end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let status: u16 = status
        .and_then(|status| status.parse().ok())
        .ok_or(io::ErrorKind::InvalidData)?;
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut answer = Answer {
        status,
        headers,
        body: received.split_off(head_end + 4),
    };
    if method == "HEAD" || status == 204 || status == 304 {
        answer.body.clear();
        return Ok(answer);
    }
    connection.read_to_end(&mut answer.body)?;
    if answer.header("transfer-encoding") == Some("chunked") {
        answer.body = unchunk(&answer.body)?;
    } else if let Some(length) = answer.header("content-length") {
        let length: usize = length.parse().map_err(|_| io::ErrorKind::InvalidData)?;
        if answer.body.len() != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(answer)
}

/// Takes the chunked coding off (RFC 9112, section 7.1).
fn unchunk(mut coded: &[u8]) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = find(coded, b"\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        let size = String::from_utf8_lossy(&coded[..line]);
        let size = size.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
        if size == 0 {
            return Ok(body);
        }
        let (start, end) = (line + 2, line + 2 + size);
        let chunk = coded.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        body.extend_from_slice(chunk);
        coded = coded.get(end + 2..).ok_or(io::ErrorKind::UnexpectedEof)?;
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|at| at == wanted)
}
