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
    /// What keys begin with; ours.
    pub keyprefix: String,
}

impl Redis {
    /// Whether TLS is spoken: where anything is said about certificates, as in Distribution 3, or
    /// it is switched on, as in 2.x.
    pub fn is_secure(&self) -> bool {
        let tls = &self.tls;
        let files = [&tls.certificate, &tls.key];
        tls.enabled || !tls.rootcas.is_empty() || files.iter().any(|file| !file.is_empty())
    }

    /// Whether the servers are a cluster.
    pub fn is_cluster(&self) -> bool {
        self.mastername.is_empty() && self.addrs.len() > 1
    }

    /// Replaces old names by new ones, and what counts as "not set" by what is then used.
    pub(crate) fn settle(&mut self) {
        let old = std::mem::take(&mut self.addr);
        if self.addrs.is_empty() && !old.is_empty() {
            self.addrs.push(old);
        }
        if self.addrs.is_empty() {
            return;
        }
        if self.dialtimeout.is_zero() {
            self.dialtimeout = GoDuration::from_secs(5);
        }
        if self.readtimeout.is_zero() && self.writetimeout.is_zero() {
            self.readtimeout = GoDuration::from_millis(250);
        }
        if self.protocol == 0 {
            self.protocol = 3;
        }
        if self.maxredirects == 0 && self.is_cluster() {
            self.maxredirects = 3;
        }
        if self.keyprefix.is_empty() {
            self.keyprefix = "wharfinger".to_owned();
        }
    }
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
