//! Redis: servers, sentinels and clusters, all of them processes of one test.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::certificates::Pair;
use crate::distribution::free_address;
use crate::process::{Service, eventually, output, run};

/// With what servers and sentinels speak TLS, with everybody.
#[derive(Clone, Debug)]
pub struct Tls {
    /// What they show.
    pub shown: Pair,
    /// Whom they trust, in a PEM file.
    pub authority: PathBuf,
}

impl Tls {
    /// The settings of a server or sentinel that listens on a port.
    fn settings(&self, port: u16) -> Vec<(&'static str, String)> {
        let file = |file: &Path| file.display().to_string();
        vec![
            ("port", "0".to_owned()),
            ("tls-port", port.to_string()),
            ("tls-cert-file", file(&self.shown.certificate)),
            ("tls-key-file", file(&self.shown.key)),
            ("tls-ca-cert-file", file(&self.authority)),
            ("tls-auth-clients", "no".to_owned()),
            ("tls-replication", "yes".to_owned()),
        ]
    }
}

/// A running server.
#[derive(Debug)]
pub struct Redis {
    /// Its process.
    pub service: Service,
    /// Where it listens.
    pub addr: SocketAddr,
    home: PathBuf,
    arguments: Vec<String>,
    /// With what a client asks it, where it speaks TLS only with those who say so.
    tls: Option<Tls>,
}

impl Redis {
    /// Starts one with more arguments, and waits until it answers; what it writes is in `home`.
    ///
    /// # Panics
    /// With its log, when it does not.
    pub fn start(home: &Path, arguments: &[&str]) -> Self {
        Self::start_at(home, free_address(), arguments)
    }

    /// Starts one that speaks TLS, or not.
    ///
    /// # Panics
    /// With its log, when it does not start.
    pub fn start_over(home: &Path, tls: Option<&Tls>, arguments: &[&str]) -> Self {
        let addr = free_address();
        let settings = tls.map(|tls| tls.settings(addr.port()));
        let settings = settings.into_iter().flatten();
        let settings = settings.flat_map(|(name, value)| [format!("--{name}"), value]);
        let settings: Vec<_> = settings.collect();
        let mut all: Vec<_> = settings.iter().map(String::as_str).collect();
        all.extend(arguments);
        let mut redis = Self::start_at(home, addr, &all);
        redis.tls = tls.cloned();
        redis
    }

    /// Starts one at an address.
    ///
    /// # Panics
    /// With its log, when it does not.
    pub fn start_at(home: &Path, addr: SocketAddr, arguments: &[&str]) -> Self {
        let arguments: Vec<_> = arguments.iter().map(|&a| a.to_owned()).collect();
        let home = home.join(format!("redis-{}", addr.port()));
        fs::create_dir_all(&home).expect("a folder can be made");
        let service = spawn(&home, addr, &arguments);
        let mut redis = Self {
            service,
            addr,
            home,
            arguments,
            tls: None,
        };
        redis.answers();
        redis
    }

    /// Starts it again after it was killed, where it was and with nothing in it.
    ///
    /// # Panics
    /// With its log, when it does not start.
    pub fn start_again(&mut self) {
        self.service = spawn(&self.home, self.addr, &self.arguments);
        self.answers();
    }

    fn client(&self, arguments: &[&str]) -> Command {
        let mut command = client(self.tls.as_ref());
        command.args(["-h", "127.0.0.1", "-p", &self.addr.port().to_string()]);
        command.args(arguments);
        command
    }

    fn answers(&mut self) {
        let ready = |service: &Service| service.log().contains("eady to accept connections");
        self.service.wait_until(|s| ready(s).then_some(()));
    }

    /// Sends a command and gives what it answers.
    ///
    /// # Panics
    /// When it cannot be reached.
    pub fn ask(&self, arguments: &[&str]) -> String {
        run(&mut self.client(arguments))
    }
}

fn spawn(home: &Path, addr: SocketAddr, arguments: &[String]) -> Service {
    // An earlier one has said that it is ready, too.
    let log = home.join("redis.log");
    let _ = fs::remove_file(&log);
    let mut command = Command::new("redis-server");
    let port = addr.port().to_string();
    // With TLS, another argument gives the port, and this one none.
    if !arguments.iter().any(|argument| argument == "--tls-port") {
        command.args(["--port", &port]);
    }
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.args(arguments).arg("--dir").arg(home);
    Service::start(&mut command, &log)
}

/// The client, which speaks TLS where the servers do.
fn client(tls: Option<&Tls>) -> Command {
    let mut command = Command::new("redis-cli");
    if let Some(tls) = tls {
        command.arg("--tls").arg("--cacert").arg(&tls.authority);
    }
    command
}

/// A master, a replica of it, and a sentinel that puts the one in the other's place.
#[derive(Debug)]
pub struct Sentinels {
    /// The master at first.
    pub master: Redis,
    /// Its replica.
    pub replica: Redis,
    /// The sentinel's process.
    pub service: Service,
    /// Where the sentinel listens.
    pub addr: SocketAddr,
}

impl Sentinels {
    /// Starts them. The servers want the password `password`, the sentinel `watched`, and calls the
    /// master `main`.
    ///
    /// # Panics
    /// When they do not start.
    pub fn start(home: &Path, tls: Option<&Tls>, password: &str, watched: &str) -> Self {
        let login = ["--requirepass", password, "--masterauth", password];
        let master = Redis::start_over(home, tls, &login);
        let of = format!("127.0.0.1 {}", master.addr.port());
        let following = [&login[..], &["--replicaof", &of]].concat();
        let replica = Redis::start_over(home, tls, &following);
        eventually("the replica follows", || {
            let state = replica.ask(&["--no-auth-warning", "-a", password, "info", "replication"]);
            state.contains("master_link_status:up")
        });
        let addr = free_address();
        let file = home.join("sentinel.conf");
        let port = vec![("port", addr.port().to_string())];
        let settings = tls.map_or(port, |tls| tls.settings(addr.port()));
        let settings = settings.into_iter();
        let settings: String = settings
            .map(|(name, value)| format!("{name} {value}\n"))
            .collect();
        let text = format!(
            "{settings}bind 127.0.0.1\nrequirepass {watched}\nsentinel monitor main {of} 1\n\
             sentinel auth-pass main {password}\nsentinel down-after-milliseconds main 1000\n\
             sentinel failover-timeout main 10000\n"
        );
        fs::write(&file, text).expect("a configuration can be written");
        let mut command = Command::new("redis-sentinel");
        let mut service = Service::start(command.arg(file), &home.join("sentinel.log"));
        // It can put the replica in the master's place only when it knows it.
        service.wait_until(|service| service.log().contains("+slave").then_some(()));
        Self {
            master,
            replica,
            service,
            addr,
        }
    }
}

/// Starts a cluster of three masters, which speak TLS or not.
///
/// # Panics
/// When they do not start, or find each other.
pub fn cluster(home: &Path, tls: Option<&Tls>) -> [Redis; 3] {
    let masters = [(); 3].map(|()| {
        // By default the port of the cluster's own connections is this and 10000, which may be no
        // port any more.
        let bus = free_address().port().to_string();
        let mut cluster = vec!["--cluster-enabled", "yes", "--cluster-port", &bus];
        if tls.is_some() {
            cluster.extend(["--tls-cluster", "yes"]);
        }
        Redis::start_over(home, tls, &cluster)
    });
    let mut create = client(tls);
    create.args(["--cluster", "create"]);
    create.args(masters.iter().map(|master| master.addr.to_string()));
    run(create.args(["--cluster-replicas", "0", "--cluster-yes"]));
    eventually("the cluster is there", || {
        let all = |master: &Redis| {
            let told = output(&mut master.client(&["cluster", "info"])).stdout;
            String::from_utf8_lossy(&told).contains("cluster_state:ok")
        };
        masters.iter().all(all)
    });
    masters
}
