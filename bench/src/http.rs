//! A client on one kept-alive connection: just enough HTTP/1.1 (RFC 9112) to push with.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::error::{Context, Error, Result};

/// How long a server may be silent.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bodies up to this size go out in one write with the headers, in bytes.
const JOINED: usize = 64 * 1024;

/// One connection.
pub struct Client {
    addr: SocketAddr,
    stream: BufReader<TcpStream>,
}

/// What a server answered; the body has been read.
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// `Location` without scheme and host.
    pub location: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(addr: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(addr).context("connect")?;
        stream.set_nodelay(true).context("set up a connection")?;
        stream
            .set_read_timeout(Some(PATIENCE))
            .context("set up a connection")?;
        Ok(Self {
            addr,
            stream: BufReader::new(stream),
        })
    }

    /// Sends a request and reads the answer.
    ///
    /// # Errors
    /// When the connection breaks, or the answer has no length.
    pub fn send(&mut self, method: &str, path: &str, kind: &str, body: &[u8]) -> Result<Answer> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.addr).into_bytes();
        if !kind.is_empty() {
            head.extend(format!("Content-Type: {kind}\r\n").bytes());
        }
        head.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes());
        let stream = self.stream.get_mut();
        if body.len() <= JOINED {
            head.extend(body);
            stream.write_all(&head).context("send")?;
        } else {
            stream.write_all(&head).context("send")?;
            stream.write_all(body).context("send")?;
        }
        self.answer(method == "HEAD")
    }

    /// Sends a request whose answer must have this status.
    ///
    /// # Errors
    /// [`Error::Status`] when it has not.
    pub fn expect(
        &mut self,
        status: u16,
        method: &str,
        path: &str,
        kind: &str,
        body: &[u8],
    ) -> Result<Answer> {
        let answer = self.send(method, path, kind, body)?;
        if answer.status == status {
            return Ok(answer);
        }
        Err(Error::Status {
            request: format!("{method} {path}"),
            status: answer.status,
            body: String::from_utf8_lossy(&answer.body).into_owned(),
        })
    }

    /// Sends a request as it stands, and reads the answer.
    ///
    /// # Errors
    /// When the connection breaks, or the answer has no length.
    pub fn exchange(&mut self, request: &[u8]) -> Result<Answer> {
        self.stream.get_mut().write_all(request).context("send")?;
        self.answer(request.starts_with(b"HEAD "))
    }

    fn answer(&mut self, bodiless: bool) -> Result<Answer> {
        let line = self.line()?;
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status: u16 = status.ok_or(Error::Answer("it has no status"))?;
        let (mut length, mut location) = (None, None);
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let Some((name, value)) = line.split_once(':') else {
                return Err(Error::Answer("a header has no colon"));
            };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().ok(),
                "location" => location = Some(path_of(value.trim()).to_owned()),
                _ => {}
            }
        }
        let length: u64 = match length {
            _ if bodiless || status == 204 || status == 304 => 0,
            Some(length) => length,
            None => return Err(Error::Answer("it has no length")),
        };
        let mut body = Vec::new();
        let read = (&mut self.stream).take(length).read_to_end(&mut body);
        if read.context("read an answer")? as u64 != length {
            return Err(Error::Answer("it breaks off"));
        }
        Ok(Answer {
            status,
            location,
            body,
        })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).context("read an answer")?;
        if !line.ends_with('\n') {
            return Err(Error::Answer("it breaks off"));
        }
        line.truncate(line.trim_end().len());
        Ok(line)
    }
}

/// A location without scheme and host.
fn path_of(location: &str) -> &str {
    let Some((_, rest)) = location.split_once("://") else {
        return location;
    };
    rest.find('/').map_or("/", |slash| &rest[slash..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_told_by_its_path() {
        assert_eq!(path_of("http://h:1/v2/a?b=://c"), "/v2/a?b=://c");
        assert_eq!(path_of("/v2/a"), "/v2/a");
        assert_eq!(path_of("https://h"), "/");
    }
}
