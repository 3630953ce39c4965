//! Redis servers for tests: real ones, each a process of its own on a free port of the loopback
//! interface, which ends with its test.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::{Address, Options, Servers};

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// A `redis-server`, which is killed when this is dropped.
#[derive(Debug)]
pub struct RedisServer {
    process: Child,
    port: u16,
    arguments: Vec<String>,
}

impl RedisServer {
    /// Starts one with more arguments, and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub fn start(arguments: &[&str]) -> Self {
        let arguments: Vec<_> = arguments.iter().map(|&a| a.to_owned()).collect();
        // Somebody else may take the port before the server does.
        for _ in 0..10 {
            let port = free_port();
            if let Some(process) = spawn(port, &arguments) {
                return Self {
                    process,
                    port,
                    arguments,
                };
            }
        }
        panic!("no redis-server starts");
    }

    /// Where it listens.
    pub fn address(&self) -> Address {
        Address::Tcp(Ipv4Addr::LOCALHOST.to_string(), self.port)
    }

    /// How it is reached.
    pub fn options(&self) -> Options {
        Options::new(Servers::One(self.address()))
    }

    /// Sends a command and gives what is answered within a moment, as it comes over the wire.
    ///
    /// # Panics
    /// When nothing is.
    pub fn ask(&self, command: &str) -> String {
        answer(self.port, command).expect("the server answers")
    }

    /// Kills it.
    ///
    /// # Panics
    /// When that is not possible.
    pub fn kill(&mut self) {
        self.process.kill().expect("it can be killed");
        self.process.wait().expect("it ends");
    }

    /// Starts it again after it was killed, where it was and with nothing in it.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_again(&mut self) {
        self.process = spawn(self.port, &self.arguments).expect("it starts where it was");
    }

    /// Stops its process, so that it accepts connections and answers nothing, or lets it go on.
    ///
    /// # Panics
    /// When that is not possible.
    pub fn freeze(&self, frozen: bool) {
        let signal = if frozen { "-STOP" } else { "-CONT" };
        let pid = self.process.id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status();
        assert!(status.expect("kill(1) is there").success());
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
    listener.local_addr().expect("it has an address").port()
}

/// Starts a server; nothing when it ends at once.
fn spawn(port: u16, arguments: &[String]) -> Option<Child> {
    let mut process = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no"])
        .args(arguments)
        .current_dir(std::env::temp_dir())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is installed");
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if process.try_wait().expect("it can be looked at").is_some() {
            return None;
        }
        // Whether it asks for a password or not.
        if answer(port, "PING").is_some_and(|a| a.starts_with("+PONG") || a.contains("NOAUTH")) {
            return Some(process);
        }
        sleep(Duration::from_millis(10));
    }
    let _ = process.kill();
    let _ = process.wait();
    panic!("redis-server does not answer");
}

fn answer(port: u16, command: &str) -> Option<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut connection = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    connection.set_read_timeout(Some(PATIENCE)).ok()?;
    let asked = format!("{command}\r\n");
    connection.write_all(asked.as_bytes()).ok()?;
    connection.shutdown(std::net::Shutdown::Write).ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).ok()?;
    (!answer.is_empty()).then_some(answer)
}
