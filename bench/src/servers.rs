//! Starting Wharfinger and its peers, each on a free loopback port and a fresh folder.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::{Context, Error, Result};
use crate::fixture::Fixture;

/// How long a server may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// This project's release build.
    Wharfinger,
    /// CNCF Distribution as Debian packages it.
    Distribution,
    /// nginx with static files and sendfile.
    Nginx,
    /// The same without sendfile.
    NginxCopying,
}

impl Kind {
    /// All of them, in the order of the table's columns.
    pub const ALL: [Kind; 4] = [
        Kind::Wharfinger,
        Kind::Distribution,
        Kind::Nginx,
        Kind::NginxCopying,
    ];

    /// The column's title.
    pub fn title(self) -> &'static str {
        match self {
            Kind::Wharfinger => "Wharfinger",
            Kind::Distribution => "Distribution 2.8.2",
            Kind::Nginx => "nginx, sendfile",
            Kind::NginxCopying => "nginx, no sendfile",
        }
    }

    /// Whether it is a registry; the others serve files.
    pub fn is_registry(self) -> bool {
        matches!(self, Kind::Wharfinger | Kind::Distribution)
    }
}

/// A server that runs until this is dropped.
pub struct Server {
    /// Which one.
    pub kind: Kind,
    /// Where it listens.
    pub addr: SocketAddr,
    child: Child,
}

impl Server {
    /// Starts one on a folder that has `fixture` in it, and waits until it can be reached.
    ///
    /// # Errors
    /// [`Error::Start`] when it cannot be reached in time.
    pub fn start(kind: Kind, folder: &Path, fixture: &Fixture) -> Result<Self> {
        fs::create_dir_all(folder).context("make a server's folder")?;
        let addr = free_address()?;
        let mut command = match kind {
            Kind::Wharfinger => {
                fixture.write_registry(&folder.join("data"))?;
                wharfinger(folder, addr)?
            }
            Kind::Distribution => {
                fixture.write_registry(&folder.join("data"))?;
                let mut command = Command::new("docker-registry");
                command.arg("serve").arg(registry_config(folder, addr)?);
                command
            }
            Kind::Nginx | Kind::NginxCopying => {
                fixture.write_files(&folder.join("data"))?;
                let config = nginx_config(folder, addr, kind == Kind::Nginx)?;
                let mut command = Command::new("nginx");
                command.arg("-p").arg(folder).arg("-c").arg(config);
                command
            }
        };
        let log = fs::File::create(folder.join("log")).context("make a log file")?;
        command
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("make a log file")?)
            .stderr(log);
        let child = command.spawn().context(format!("start {}", kind.title()))?;
        let server = Self { kind, addr, child };
        let begun = Instant::now();
        while TcpStream::connect(addr).is_err() {
            if begun.elapsed() > PATIENCE {
                return Err(Error::Start(kind.title()));
            }
            sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// The ids of the server's processes.
    pub fn processes(&self) -> Vec<u32> {
        let id = self.child.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        let mut ids = vec![id];
        ids.extend(
            children
                .unwrap_or_default()
                .split_whitespace()
                .filter_map(|id| id.parse::<u32>().ok()),
        );
        ids
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A polite end, so that nginx takes its workers along.
        let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) else {
            return;
        };
        let _ = kill_process(pid, Signal::TERM);
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that is free now.
///
/// # Errors
/// When there is none.
pub fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    listener.local_addr().context("find a free port")
}

/// The release build beside this program.
fn wharfinger(folder: &Path, addr: SocketAddr) -> Result<Command> {
    let this = std::env::current_exe().context("find this program")?;
    let mut command = Command::new(this.with_file_name("wharfinger"));
    command.arg("serve").arg(registry_config(folder, addr)?);
    Ok(command)
}

/// The configuration that both registries are given.
fn registry_config(folder: &Path, addr: SocketAddr) -> Result<PathBuf> {
    let config = folder.join("config.yml");
    let root = folder.join("data");
    let text = format!(
        "version: 0.1\n\
         log:\n  level: error\n  accesslog:\n    disabled: true\n\
         storage:\n  filesystem:\n    rootdirectory: {}\n  cache:\n    blobdescriptor: inmemory\n\
         http:\n  addr: {addr}\n",
        root.display()
    );
    fs::write(&config, text).context("write a configuration")?;
    Ok(config)
}

fn nginx_config(folder: &Path, addr: SocketAddr, sendfile: bool) -> Result<PathBuf> {
    let config = folder.join("nginx.conf");
    let sendfile = if sendfile { "on" } else { "off" };
    let mut temporary = String::new();
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        temporary += &format!("  {kind}_temp_path {}/{kind};\n", folder.display());
    }
    // As root its workers must be root too, to reach the folder.
    let user = if rustix::process::geteuid().is_root() {
        "user root;\n"
    } else {
        ""
    };
    let text = format!(
        "{user}daemon off;\nworker_processes auto;\npid {0}/pid;\nerror_log stderr crit;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n{temporary}  access_log off;\n  sendfile {sendfile};\n  \
         keepalive_requests 1000000000;\n  default_type application/octet-stream;\n  \
         server {{ listen {addr}; root {0}/data; }}\n}}\n",
        folder.display()
    );
    fs::write(&config, text).context("write a configuration")?;
    Ok(config)
}
