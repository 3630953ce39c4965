//! The sections of the file. Fields are named as their keys are, so that the file and the code
//! read alike; CNCF Distribution's reference page for its configuration is where the keys come
//! from, those that only its 2.x releases know included.

mod access;
mod azure;
mod gcs;
mod health;
mod http;
mod limits;
mod log;
mod manifests;
mod middleware;
mod notifications;
mod proxy;
mod redis;
mod remote;
mod s3;
mod storage;
mod sync;

use std::collections::BTreeMap;

use crate::secret::Secret;
use serde::{Deserialize, Serialize};

use crate::duration::GoDuration;

pub use access::{Auth, HtpasswdAuth, SillyAuth, TokenAuth};
pub use azure::{Azure, AzureAccount, AzureCredentials, AzureForm};
pub use gcs::Gcs;
pub use health::{FileCheck, Health, HttpCheck, StorageCheck, TcpCheck};
pub use http::{ClientAuth, Debug, H2c, Http, Http2, LetsEncrypt, Prometheus, Tls};
pub use limits::{ClientIdentity, ClientLimits, ForwardedHeader, Limits, Timeouts, TrustedProxies};
pub(crate) use log::HOOK_LEVELS;
pub use log::{AccessLog, Formatter, Hook, HookOptions, Level, Log, Smtp};
pub use manifests::{
    Catalog, Compatibility, Indexes, ManifestRules, Platform, Platforms, Policy, RepositoryPolicy,
    Schema1, Tags, Urls, Validation,
};
pub use middleware::{Middleware, Middlewares, StorageMiddleware};
pub use notifications::{Endpoint, EventFormat, EventQueue, Events, Ignore, Notifications};
pub use proxy::{Proxy, Upstream};
pub use redis::{Redis, RedisPool, RedisTls};
pub use remote::{Exec, Remote};
pub use s3::S3;
pub use storage::{
    Cache, Delete, Filesystem, GarbageCollection, Maintenance, ReadOnly, Redirect, Storage,
    TagLookup, UploadPurging,
};
pub(crate) use storage::{DRIVERS, FOLDER};
pub use sync::{Sync, SyncDeletion, SyncJob, SyncRegistry};

/// Parameters that the file leaves to those who read them.
pub type Parameters = BTreeMap<String, serde_json::Value>;

/// HTTP headers: each name with its values.
pub type Headers = BTreeMap<String, Vec<String>>;

/// HTTP headers whose values may let their sender in.
pub type SecretHeaders = BTreeMap<String, Vec<Secret>>;

/// The whole file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// The version of the format: `0.1`.
    pub version: String,
    /// What is logged, and how.
    pub log: Log,
    /// The old place of `log.level`.
    pub loglevel: Option<Level>,
    /// Where everything is kept.
    pub storage: Storage,
    /// Who may do what.
    pub auth: Auth,
    /// What is put around the registry, its repositories and the storage driver.
    pub middleware: Middlewares,
    /// Error reporting to outside services, which Distribution 3 dropped.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub reporting: BTreeMap<String, Parameters>,
    /// Listening, and what is told to clients.
    pub http: Http,
    /// Whom events are sent to.
    pub notifications: Notifications,
    /// The shared cache.
    pub redis: Redis,
    /// Checks that stop requests while they fail.
    pub health: Health,
    /// The pull-through cache.
    pub proxy: Proxy,
    /// Copying from and to other registries.
    pub sync: Sync,
    /// Support of what is old.
    pub compatibility: Compatibility,
    /// What manifests must fulfil.
    pub validation: Validation,
    /// What repositories may hold.
    pub policy: Policy,
    /// The listing of repositories.
    pub catalog: Catalog,
    /// The listing of tags.
    pub tags: Tags,
}

impl Config {
    /// Replaces old names by new ones, and what counts as "not set" by what is then used.
    pub(crate) fn settle(&mut self) {
        let old_level = self.loglevel.take();
        self.log.level = self.log.level.or(old_level).or(Some(Level::default()));
        let cache = &mut self.storage.cache;
        if cache.blobdescriptor.is_empty() {
            cache.blobdescriptor = std::mem::take(&mut cache.layerinfo);
        }
        if self.storage.tag.concurrencylimit == 0 {
            self.storage.tag.concurrencylimit = 16;
        }
        if self.http.addr.is_empty() {
            self.http.addr = Http::default().addr;
        }
        if self.http.draintimeout.is_zero() {
            self.http.draintimeout = GoDuration::from_secs(10);
        }
        self.middleware.settle();
        self.proxy.settle();
        self.redis.settle();
        self.health.settle();
        self.http.limits.settle();
        self.http.timeouts.settle();
        let debug = &mut self.http.debug;
        if !debug.addr.is_empty() && debug.prometheus.path.is_empty() {
            debug.prometheus.path = "/metrics".to_owned();
        }
        for endpoint in &mut self.notifications.endpoints {
            endpoint.settle();
        }
        if self.catalog.maxentries <= 0 {
            self.catalog.maxentries = 1000;
        }
        if self.tags.maxtags == 0 {
            self.tags.maxtags = 1000;
        }
    }
}
