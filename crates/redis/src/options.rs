//! How Redis is reached.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// How Redis is reached, and what is kept there.
#[derive(Clone)]
pub struct Options {
    /// Where it is.
    pub servers: Servers,
    /// The number of the database; a cluster has only 0.
    pub database: u32,
    /// The user, or nothing for Redis's default user.
    pub username: String,
    /// The user's password, or nothing.
    pub password: String,
    /// Whether the third version of the protocol is spoken in place of the second.
    pub protocol3: bool,
    /// The name that connections give themselves (`CLIENT SETNAME`), but for those to a cluster.
    pub client_name: String,
    /// Whether Redis is not told which program it is that connects (`CLIENT SETINFO`).
    pub anonymous: bool,
    /// What is added to the program's name.
    pub identity_suffix: String,
    /// TLS, where it is spoken.
    pub tls: Option<TlsFiles>,
    /// How long it may take to connect.
    pub connect_timeout: Duration,
    /// How long an answer may take, from asking on.
    pub answer_timeout: Duration,
    /// How many redirections within a cluster are followed.
    pub redirections: u32,
    /// What all keys begin with, before a colon.
    pub prefix: String,
    /// How long a key lives.
    pub life: Duration,
}

impl Options {
    /// How long a key lives unless something else is said.
    pub const LIFE: Duration = Duration::from_secs(60);

    /// Redis at `servers`, as it is without any configuration.
    pub fn new(servers: Servers) -> Self {
        Self {
            servers,
            database: 0,
            username: String::new(),
            password: String::new(),
            protocol3: false,
            client_name: String::new(),
            anonymous: false,
            identity_suffix: String::new(),
            tls: None,
            connect_timeout: Duration::from_secs(5),
            answer_timeout: Duration::from_millis(250),
            redirections: 3,
            prefix: "wharfinger".to_owned(),
            life: Self::LIFE,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No password may ever be printed.
        f.debug_struct("Options")
            .field("servers", &self.servers)
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

/// Which servers there are.
#[derive(Clone)]
pub enum Servers {
    /// One.
    One(Address),
    /// One of several, which sentinels know and replace.
    Sentinels {
        /// Where the sentinels are.
        addresses: Vec<Address>,
        /// What they call the master.
        master: String,
        /// Their user, or nothing.
        username: String,
        /// That user's password, or nothing.
        password: String,
    },
    /// A cluster, some of whose members are at these addresses.
    Cluster(Vec<Address>),
}

impl Servers {
    pub(crate) fn addresses(&self) -> &[Address] {
        match self {
            Self::One(address) => std::slice::from_ref(address),
            Self::Sentinels { addresses, .. } | Self::Cluster(addresses) => addresses,
        }
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_string())
    }
}

impl fmt::Display for Servers {
    /// The addresses, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(_) => {}
            Self::Sentinels { master, .. } => write!(f, "{master} by the sentinels ")?,
            Self::Cluster(_) => f.write_str("the cluster ")?,
        }
        for (index, address) in self.addresses().iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{address}")?;
        }
        Ok(())
    }
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// At a port of a host, which is a name or an IP address without brackets.
    Tcp(String, u16),
    /// At a Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The files of TLS, all in PEM. They are read anew for each connection.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// The certificate to show, and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// The authorities that are trusted; none stands for those that the machine trusts.
    pub authorities: Vec<PathBuf>,
}
