//! Starting Wharfinger and its peers, each on a free loopback port.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::{Context, Error, Result};
use crate::fixture::{self, Fixture};
use crate::settings::{self, Certificate};

/// How long a server may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// This project's release build.
    Wharfinger,
    /// CNCF Distribution 3, where somebody has built one.
    Distribution3,
    /// CNCF Distribution as Debian packages it.
    Distribution2,
    /// nginx with static files and sendfile.
    Nginx,
    /// The same without sendfile.
    NginxCopying,
}

impl Kind {
    /// The column's title.
    pub fn title(self) -> &'static str {
        match self {
            Kind::Wharfinger => "Wharfinger",
            Kind::Distribution3 => "Distribution 3",
            Kind::Distribution2 => "Distribution 2.8.2",
            Kind::Nginx => "nginx, sendfile",
            Kind::NginxCopying => "nginx, no sendfile",
        }
    }

    /// Whether it is a registry; the others serve files.
    pub fn is_registry(self) -> bool {
        !matches!(self, Kind::Nginx | Kind::NginxCopying)
    }
}

/// Which of a kind's servers: what is in its folder, and how it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The fixture, over plain HTTP.
    Main,
    /// The same folder over TLS, with HTTP/2.
    Tls,
    /// [`fixture::FEW`] repositories, to be read only.
    Few,
    /// [`fixture::VAST`] repositories and as many tags in one, to be read only.
    Vast,
}

/// All servers of a run; each is started when it is first asked for.
pub struct Fleet<'a> {
    folder: &'a Path,
    fixture: &'a Fixture,
    certificate: Certificate,
    distribution3: Option<&'a Path>,
    servers: BTreeMap<(Kind, Place), Server>,
}

impl<'a> Fleet<'a> {
    /// None yet, to be started below `folder`; `distribution3` is a binary of that version.
    ///
    /// # Errors
    /// When no certificate can be made.
    pub fn new(
        folder: &'a Path,
        fixture: &'a Fixture,
        distribution3: Option<&'a Path>,
    ) -> Result<Self> {
        let certificate = Certificate::new(folder)?;
        let servers = BTreeMap::new();
        Ok(Self {
            folder,
            fixture,
            certificate,
            distribution3,
            servers,
        })
    }

    /// The kinds that can be measured, in the order of the table's columns.
    pub fn kinds(&self) -> Vec<Kind> {
        let mut kinds = vec![Kind::Wharfinger];
        kinds.extend(self.distribution3.map(|_| Kind::Distribution3));
        kinds.extend([Kind::Distribution2, Kind::Nginx, Kind::NginxCopying]);
        kinds
    }

    /// The server, which runs from now on.
    ///
    /// # Errors
    /// When its folder cannot be filled, or it does not start.
    pub fn server(&mut self, kind: Kind, place: Place) -> Result<&Server> {
        if !self.servers.contains_key(&(kind, place)) {
            let plan = self.plan(kind, place)?;
            self.servers.insert((kind, place), Server::start(plan)?);
        }
        Ok(&self.servers[&(kind, place)])
    }

    /// Fills the folder where it is not there yet, and says how the server is started.
    fn plan(&self, kind: Kind, place: Place) -> Result<Plan> {
        let own = self.folder.join(format!("{kind:?}"));
        let data = match place {
            Place::Main | Place::Tls => own.join("data"),
            Place::Few => self.folder.join("few"),
            Place::Vast => self.folder.join("vast"),
        };
        if !data.exists() {
            match (place, kind.is_registry()) {
                (Place::Few, _) => self.fixture.write_many(&data, fixture::FEW)?,
                (Place::Vast, _) => self.fixture.write_many(&data, fixture::VAST)?,
                (_, true) => self.fixture.write_registry(&data)?,
                (_, false) => self.fixture.write_files(&data)?,
            }
            // What was just written must not weigh on what is measured.
            rustix::fs::sync();
        }
        let program = match kind {
            // The release build beside this program.
            Kind::Wharfinger => std::env::current_exe()
                .context("find this program")?
                .with_file_name("wharfinger"),
            Kind::Distribution3 => self
                .distribution3
                .ok_or(Error::Start(kind.title()))?
                .to_owned(),
            Kind::Distribution2 => "docker-registry".into(),
            Kind::Nginx | Kind::NginxCopying => "nginx".into(),
        };
        Ok(Plan {
            kind,
            program,
            data,
            folder: own.join(format!("{place:?}")),
            tls: (place == Place::Tls).then(|| self.certificate.clone()),
        })
    }
}

/// How a server is started.
#[derive(Clone, Debug)]
pub struct Plan {
    kind: Kind,
    program: PathBuf,
    /// What it serves.
    data: PathBuf,
    /// Where its configuration and log go.
    folder: PathBuf,
    tls: Option<Certificate>,
}

/// A server that runs until this is dropped.
pub struct Server {
    /// Which one.
    pub kind: Kind,
    /// Where it listens.
    pub addr: SocketAddr,
    /// The folder that it serves.
    pub data: PathBuf,
    plan: Plan,
    child: Child,
}

impl Server {
    /// Starts one, and waits until it answers.
    ///
    /// # Errors
    /// [`Error::Start`] when it does not answer in time.
    fn start(plan: Plan) -> Result<Self> {
        let folder = &plan.folder;
        fs::create_dir_all(folder).context("make a server's folder")?;
        let addr = free_address()?;
        let tls = plan.tls.as_ref();
        let mut command = Command::new(&plan.program);
        if plan.kind.is_registry() {
            let config = settings::registry(folder, &plan.data, addr, tls)?;
            command.arg("serve").arg(config);
        } else {
            let sendfile = plan.kind == Kind::Nginx;
            let config = settings::nginx(folder, &plan.data, addr, sendfile, tls)?;
            command.arg("-p").arg(folder).arg("-c").arg(config);
        }
        let log = fs::File::create(folder.join("log")).context("make a log file")?;
        command
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("make a log file")?)
            .stderr(log);
        let child = command
            .spawn()
            .context(format!("start {}", plan.program.display()))?;
        let server = Self {
            kind: plan.kind,
            addr,
            data: plan.data.clone(),
            plan,
            child,
        };
        let begun = Instant::now();
        while !server.answers() {
            if begun.elapsed() > PATIENCE {
                return Err(Error::Start(server.kind.title()));
            }
            sleep(Duration::from_millis(1));
        }
        Ok(server)
    }

    /// Starts another one on the same folder; gives the milliseconds until it has answered.
    ///
    /// # Errors
    /// As for the first.
    pub fn start_another(&self) -> Result<f64> {
        let mut plan = self.plan.clone();
        plan.folder = plan.folder.join("another");
        let begun = Instant::now();
        let _another = Self::start(plan)?;
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    }

    /// Whether it answers a request; over TLS, whether it can be reached.
    fn answers(&self) -> bool {
        let asked = || {
            let mut stream = TcpStream::connect(self.addr)?;
            if self.plan.tls.is_none() {
                stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
                stream.read_exact(&mut [0])?;
            }
            std::io::Result::Ok(())
        };
        asked().is_ok()
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
        let scheme = if self.plan.tls.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}{path}", self.addr)
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
