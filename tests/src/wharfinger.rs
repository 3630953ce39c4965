//! Wharfinger's own process.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::certificates::{Pair, path};
use crate::http::Http;
use crate::process::Service;

/// What a server under test is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its data folder.
    pub data: PathBuf,
    /// Where its configuration and its log are written.
    pub home: PathBuf,
    /// Whether it refuses everything that writes.
    pub read_only: bool,
    /// Run it as this user and group, without any privilege.
    pub user: Option<u32>,
    /// Another program to run it by: one that takes the binary and its arguments at its end.
    pub launcher: Vec<OsString>,
    /// Where it listens, as `--addr` says it.
    pub addr: String,
    /// What its configuration file says besides.
    pub settings: Value,
    /// Variables of its environment.
    pub variables: Vec<(String, OsString)>,
}

/// The secret that signs the uploads of every server under test, so that another one of any kind
/// can go on with them.
pub const SECRET: &str = "a secret shared by all servers of a test";

impl Config {
    /// Data in `home/data`, all else in `home`.
    pub fn new(home: &Path) -> Self {
        Self {
            data: home.join("data"),
            home: home.to_owned(),
            read_only: false,
            user: None,
            launcher: Vec::new(),
            addr: "127.0.0.1:0".to_owned(),
            settings: Value::Null,
            variables: Vec::new(),
        }
    }

    /// Sets a key of the configuration file, `http.tls.key`, to a value.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        set(&mut self.settings, key, value);
        self
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// Lets it be looked at through a second listener; see [`Wharfinger::debug`].
    #[must_use]
    pub fn watched(self) -> Self {
        self.set("http.debug.addr", "127.0.0.1:0")
            .set("http.debug.prometheus.enabled", true)
    }

    /// Listens elsewhere.
    #[must_use]
    pub fn addr(mut self, addr: &str) -> Self {
        addr.clone_into(&mut self.addr);
        self
    }

    /// Is run by another program.
    #[must_use]
    pub fn launched_by(mut self, launcher: &Command) -> Self {
        self.launcher = vec![launcher.get_program().to_owned()];
        self.launcher
            .extend(launcher.get_args().map(ToOwned::to_owned));
        self
    }

    /// Speaks TLS with a certificate.
    #[must_use]
    pub fn secured(self, pair: &Pair) -> Self {
        self.set("http.tls.certificate", path(&pair.certificate))
            .set("http.tls.key", path(&pair.key))
    }

    /// Data elsewhere.
    #[must_use]
    pub fn data(mut self, data: &Path) -> Self {
        data.clone_into(&mut self.data);
        self
    }

    /// Writes the configuration file and gives its place.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self) -> PathBuf {
        let file = self.home.join("wharfinger.yml");
        let mut text = json!({
            "version": "0.1",
            "storage": {
                "filesystem": { "rootdirectory": self.data },
                "delete": { "enabled": true },
                "maintenance": { "readonly": { "enabled": self.read_only } },
            },
            "http": { "addr": "127.0.0.1:0", "secret": SECRET },
        });
        merge(&mut text, &self.settings);
        one_store(&mut text);
        // JSON is YAML too.
        fs::write(&file, format!("{text:#}")).expect("a configuration can be written");
        file
    }

    /// Starts the process and does not wait for it to listen.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn spawn(&self) -> Service {
        let file = self.write();
        let mut command = match self.user {
            None => match self.launcher.split_first() {
                None => Command::new(binary()),
                Some((program, arguments)) => {
                    let mut command = Command::new(program);
                    command.args(arguments).arg(binary());
                    command
                }
            },
            Some(user) => {
                // A copy, because the user may not be let into the folder it was built in.
                let copy = self.home.join("wharfinger");
                fs::copy(binary(), &copy).expect("the binary can be copied");
                let mut command = Command::new("setpriv");
                command
                    .args([&format!("--reuid={user}"), &format!("--regid={user}")])
                    .args(["--clear-groups", "--inh-caps=-all", "--bounding-set=-all"])
                    .arg(copy);
                command
            }
        };
        command.arg("serve").arg(file);
        command.args(["--addr", &self.addr]);
        command.current_dir(&self.home);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        Service::start(&mut command, &self.log())
    }

    /// Starts the server and waits until it listens.
    ///
    /// # Panics
    /// With its log, when it does not.
    pub fn start(&self) -> Wharfinger {
        let before = fs::metadata(self.log()).map_or(0, |log| log.len());
        let mut service = self.spawn();
        let addr = service.wait_until(|service| {
            let log = service.log();
            let log = &log[usize::try_from(before).ok()?..];
            let (_, rest) = log.split_once(" listening on http")?;
            let (_, rest) = rest.split_once("://")?;
            let (addr, _) = rest.split_once(|c: char| !(c.is_ascii_digit() || ".:".contains(c)))?;
            addr.parse().ok()
        });
        Wharfinger {
            service,
            addr,
            config: self.clone(),
        }
    }

    /// Where it logs.
    pub fn log(&self) -> PathBuf {
        self.home.join("wharfinger.log")
    }
}

/// A running server; dereferences to its process.
#[derive(Debug)]
pub struct Wharfinger {
    service: Service,
    /// Where it listens.
    pub addr: SocketAddr,
    config: Config,
}

impl Wharfinger {
    /// A server with its data and everything else in `home`.
    ///
    /// # Panics
    /// With its log, when it does not start.
    pub fn start(home: &Path) -> Self {
        Config::new(home).start()
    }

    /// Starts another one with the same configuration after this one has ended, on another port.
    ///
    /// # Panics
    /// With its log, when it does not start.
    pub fn start_again(&mut self) {
        self.service.wait();
        *self = self.config.start();
    }

    /// Requests to it.
    pub fn http(&self) -> Http {
        Http(self.addr)
    }

    /// Requests to its second listener, which [`Config::watched`] asks for.
    ///
    /// # Panics
    /// When it says nowhere in its log where that is.
    pub fn debug(&self) -> Http {
        let log = self.log();
        let line = log
            .lines()
            .rfind(|line| line.contains("metrics and health can be looked at"));
        let line = line.unwrap_or_else(|| panic!("no second listener in {log}"));
        let (_, port) = line.split_once("127.0.0.1:").expect("it listens there");
        let digits = port.find(|c: char| !c.is_ascii_digit());
        let port = port[..digits.unwrap_or(port.len())].parse();
        Http(SocketAddr::from(([127, 0, 0, 1], port.expect("a port"))))
    }

    /// The name of an image in it, as clients write it.
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.addr)
    }

    /// Its data folder.
    pub fn data(&self) -> &Path {
        &self.config.data
    }

    /// The file of a blob in its data folder.
    pub fn blob_file(&self, digest: &str) -> PathBuf {
        let (algorithm, hex) = digest.split_once(':').expect("a digest has a colon");
        let folder = format!("docker/registry/v2/blobs/{algorithm}/{}/{hex}", &hex[..2]);
        self.config.data.join(folder).join("data")
    }

    /// The folder of a repository in its data folder.
    pub fn repository(&self, name: &str) -> PathBuf {
        let folder = format!("docker/registry/v2/repositories/{name}");
        self.config.data.join(folder)
    }

    /// The most memory it ever had resident, in bytes (`VmHWM`, proc_pid_status(5)).
    ///
    /// # Panics
    /// When it does not run.
    pub fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kib: Option<u64> = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        kib.unwrap_or_else(|| panic!("no VmHWM in {status}")) * 1024
    }

    /// What its open file handles lead to.
    ///
    /// # Panics
    /// When it does not run.
    pub fn open_files(&self) -> Vec<PathBuf> {
        let handles = fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it runs");
        let handles = handles.filter_map(|handle| fs::read_link(handle.ok()?.path()).ok());
        handles.collect()
    }
}

impl Deref for Wharfinger {
    type Target = Service;

    fn deref(&self) -> &Service {
        &self.service
    }
}

impl DerefMut for Wharfinger {
    fn deref_mut(&mut self) -> &mut Service {
        &mut self.service
    }
}

/// Leaves the folder out where the settings name a bucket.
pub(crate) fn one_store(configuration: &mut Value) {
    if let Some(storage) = configuration["storage"].as_object_mut()
        && ["s3", "gcs", "azure"]
            .iter()
            .any(|name| storage.contains_key(*name))
    {
        storage.remove("filesystem");
    }
}

/// Sets what a path of keys joined by dots leads to.
fn set(tree: &mut Value, key: &str, value: impl Into<Value>) {
    let place = key.split('.').fold(tree, |place, part| &mut place[part]);
    *place = value.into();
}

/// Puts `over` over `tree`: maps are merged, anything else is replaced.
pub(crate) fn merge(tree: &mut Value, over: &Value) {
    match (tree, over) {
        (Value::Object(tree), Value::Object(over)) => {
            for (key, value) in over {
                merge(tree.entry(key).or_insert(Value::Null), value);
            }
        }
        (_, Value::Null) => {}
        (tree, over) => *tree = over.clone(),
    }
}

/// The binary: `WHARFINGER_BIN`, or the build of this workspace that the test command makes.
///
/// # Panics
/// When it is not there.
pub fn binary() -> PathBuf {
    let path = std::env::var_os("WHARFINGER_BIN").map_or_else(
        || crate::target_folder().join("debug/wharfinger"),
        PathBuf::from,
    );
    assert!(
        path.is_file(),
        "{} is missing: run `cargo build -p wharfinger`, or set WHARFINGER_BIN",
        path.display()
    );
    path
}
