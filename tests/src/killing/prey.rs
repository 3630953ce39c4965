//! The server that is killed.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::process::{PATIENCE, Service};
use crate::wharfinger::binary;
use crate::{Config, Http};

/// A server that starts within milliseconds, always on the same port.
#[derive(Debug)]
pub struct Prey {
    file: PathBuf,
    log: PathBuf,
    addr: SocketAddr,
    service: Option<Service>,
    /// How often it was killed.
    pub kills: u64,
}

impl Prey {
    /// One with all that is its own in `home`; it does not run yet.
    ///
    /// # Panics
    /// When no port is free.
    pub fn new(home: &Path) -> Self {
        // Not one that the kernel gives to clients: who connects to its own port connects to itself.
        let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
        let begin = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap_or(0);
        let port = (begin..32_000).find(free).expect("a port is free");
        let config = Config::new(home)
            .set("log.level", "error")
            .set("log.accesslog.disabled", true);
        Self {
            file: config.write(),
            log: config.log(),
            addr: SocketAddr::from(([127, 0, 0, 1], port)),
            service: None,
            kills: 0,
        }
    }

    /// Requests to it.
    pub fn http(&self) -> Http {
        Http(self.addr)
    }

    /// Starts it and does not wait.
    pub fn begin(&mut self) {
        let mut command = Command::new(binary());
        command.arg("serve").arg(&self.file);
        command.args(["--addr", &self.addr.to_string()]);
        self.service = Some(Service::start(&mut command, &self.log));
    }

    /// Starts it and waits until it listens. Where a collection has the store alone, that takes as
    /// long as the collection.
    ///
    /// # Panics
    /// With its log, when it does not.
    pub fn start(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        self.begin();
        while TcpStream::connect(self.addr).is_err() {
            assert!(
                Instant::now() < deadline,
                "it does not start: {}",
                self.log()
            );
            if self
                .service
                .as_mut()
                .is_some_and(|service| service.ended().is_some())
            {
                sleep(Duration::from_millis(10));
                self.begin();
            }
            sleep(Duration::from_millis(1));
        }
    }

    /// Kills it.
    pub fn kill(&mut self) {
        if let Some(mut service) = self.service.take() {
            service.kill();
            self.kills += 1;
        }
    }

    /// Begins a collection by the command, with the shortest grace period there is: at once where
    /// nobody else has the store, else by the protocol.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn collect(&self) -> Child {
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.expect("the log can be opened");
        let mut command = Command::new(binary());
        command
            .args(["garbage-collect", "--quiet", "--grace", "0s"])
            .arg(&self.file);
        command
            .stdout(Stdio::null())
            .stderr(log)
            .stdin(Stdio::null());
        command.spawn().expect("the command can be started")
    }

    /// What it has logged: errors only.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}
