//! A mail server: takes what SMTP (RFC 5321) brings, and keeps it.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// A running server. It ends with the test's process.
#[derive(Debug)]
pub struct MailServer {
    /// Where it listens.
    pub addr: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
}

impl MailServer {
    /// Starts one on a free port.
    ///
    /// # Panics
    /// When there is none.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let addr = listener.local_addr().expect("it is bound");
        let server = Self {
            addr,
            heard: Arc::default(),
        };
        let heard = Arc::clone(&server.heard);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if let Some(mail) = receive(stream) {
                    heard
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(mail);
                }
            }
        });
        server
    }

    /// The mails that came so far, each with its headers.
    pub fn mails(&self) -> Vec<String> {
        self.heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn receive(stream: TcpStream) -> Option<String> {
    let mut stream = BufReader::new(stream);
    let mut mail = String::new();
    let mut in_mail = false;
    stream.get_mut().write_all(b"220 test ESMTP\r\n").ok()?;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let answer = match line.trim_end() {
            "." if in_mail => {
                stream.get_mut().write_all(b"250 taken\r\n").ok()?;
                return Some(mail);
            }
            _ if in_mail => {
                mail.push_str(&line);
                continue;
            }
            "DATA" => {
                in_mail = true;
                "354 go on\r\n"
            }
            line if line.starts_with("EHLO") => "250-test\r\n250 AUTH PLAIN\r\n",
            line if line.starts_with("AUTH") => "235 welcome\r\n",
            _ => "250 ok\r\n",
        };
        stream.get_mut().write_all(answer.as_bytes()).ok()?;
    }
}
