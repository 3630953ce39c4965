//! Many connections that want little or nothing.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::error::{Context, Error, Result};
use crate::servers::Server;

/// What the connections do.
#[derive(Clone, Copy, Debug)]
pub enum Habit {
    /// They have been answered once and are kept alive.
    Idle,
    /// They have asked for a large file and do not read on.
    Slow,
}

/// Connections that stay as long as this is kept.
pub struct Crowd {
    _connections: Vec<TcpStream>,
}

impl Crowd {
    /// Connects `size` times and asks for `path`.
    ///
    /// # Errors
    /// When a connection is refused, or a request not answered.
    pub fn gather(server: &Server, path: &str, size: usize, habit: Habit) -> Result<Self> {
        let connect = || {
            let mut stream = TcpStream::connect(server.addr).context("connect")?;
            let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", server.addr);
            stream.write_all(request.as_bytes()).context("ask")?;
            let mut beginning = [0; 12];
            stream.read_exact(&mut beginning).context("be answered")?;
            if beginning != *b"HTTP/1.1 200" {
                return Err(Error::Answer("a connection of many was refused"));
            }
            if matches!(habit, Habit::Idle) {
                // Answers to these are small and come in one piece.
                let _ = stream.read(&mut [0; 64 * 1024]).context("be answered")?;
            }
            Ok(stream)
        };
        let connections: Result<Vec<_>> = (0..size).map(|_| connect()).collect();
        Ok(Self {
            _connections: connections?,
        })
    }
}
