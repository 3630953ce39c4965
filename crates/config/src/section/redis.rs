//! `redis`.

use serde::{Deserialize, Serialize};

use crate::duration::GoDuration;
use crate::secret::Secret;

/// The shared cache.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Redis {
    /// Host and port, in Distribution 2.x.
    pub addr: String,
    /// Hosts and ports.
    pub addrs: Vec<String>,
    /// The name that connections give themselves.
    pub clientname: String,
    /// The number of the database.
    pub db: u32,
    /// The version of the protocol.
    pub protocol: u32,
    /// The user.
    pub username: String,
    /// The user's password.
    pub password: Secret,
    /// The user of the sentinels.
    pub sentinelusername: String,
    /// That user's password.
    pub sentinelpassword: Secret,
    /// How often a command is tried again.
    pub maxretries: i64,
    /// The shortest wait before that.
    pub minretrybackoff: GoDuration,
    /// The longest.
    pub maxretrybackoff: GoDuration,
    /// How long connecting may take.
    pub dialtimeout: GoDuration,
    /// How long an answer may take.
    pub readtimeout: GoDuration,
    /// How long sending may take.
    pub writetimeout: GoDuration,
    /// Whether a request's own time limit counts too.
    pub contexttimeoutenabled: bool,
    /// Whether the oldest idle connection is taken first.
    pub poolfifo: bool,
    /// The most connections.
    pub poolsize: u32,
    /// How long to wait for one.
    pub pooltimeout: GoDuration,
    /// The fewest idle connections.
    pub minidleconns: u32,
    /// The most idle connections.
    pub maxidleconns: u32,
    /// The most connections in use.
    pub maxactiveconns: u32,
    /// How long a connection may be idle.
    pub connmaxidletime: GoDuration,
    /// How long a connection may live.
    pub connmaxlifetime: GoDuration,
    /// How many redirections a cluster may answer with.
    pub maxredirects: i64,
    /// Whether replicas are read from.
    pub readonly: bool,
    /// Whether the nearest node is asked.
    pub routebylatency: bool,
    /// Whether any node is asked.
    pub routerandomly: bool,
    /// The sentinels' name for the master.
    pub mastername: String,
    /// Whether the client does not tell what it is.
    pub disableidentity: bool,
    /// What it adds to what it tells.
    pub identitysuffix: String,
    /// Whether unfinished parts of the protocol are used.
    pub unstableresp3: bool,
    /// TLS.
    pub tls: RedisTls,
    /// The pool, in Distribution 2.x.
    pub pool: RedisPool,
}

/// `redis.tls`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RedisTls {
    /// Whether TLS is spoken, in Distribution 2.x.
    pub enabled: bool,
    /// The file of the client's certificate.
    pub certificate: String,
    /// The file of its key.
    pub key: String,
    /// The files of the authorities that are trusted.
    pub rootcas: Vec<String>,
}

/// `redis.pool`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RedisPool {
    /// The most idle connections.
    pub maxidle: u32,
    /// The most connections.
    pub maxactive: u32,
    /// How long a connection may be idle.
    pub idletimeout: GoDuration,
}
