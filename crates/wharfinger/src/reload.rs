//! Which changes of the configuration a running registry takes on, and which need a restart.

use wharfinger_config::{Config, Loaded, Problem};
use wharfinger_health::Check;
use wharfinger_registry::Registry;
use wharfinger_server::{FreshTls, Tls};
use wharfinger_transfer::{SyncMetrics, SyncSchedule};

use crate::wiring::{self, Unusable};

/// A part of the running registry that takes on changed keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The options of the HTTP server.
    Server,
    /// The options of the registry.
    Registry,
    /// Read-only mode.
    ReadOnly,
    /// The purging of old uploads.
    Purging,
    Collection,
    /// The reading of blobs in the background.
    Scrub,
    /// The copying from and to other registries.
    Sync,
    /// The health checks.
    Health,
    /// TLS.
    Tls,
    /// The endpoints of notifications.
    Notifications,
    /// What the log tells, and how.
    Log,
}

/// Who takes on which keys, each with all below it. What stands nowhere here needs a restart, so
/// that no key is forgotten: it is taken on, or said not to be.
const TAKEN_ON: [(&str, Part); 38] = [
    ("auth", Part::Server),
    ("catalog", Part::Server),
    ("compatibility.schema1.enabled", Part::Registry),
    ("health", Part::Health),
    ("http.draintimeout", Part::Server),
    ("http.h2c", Part::Server),
    ("http.headers", Part::Server),
    ("http.host", Part::Server),
    ("http.http2", Part::Tls),
    ("http.limits", Part::Server),
    ("http.prefix", Part::Server),
    ("http.relativeurls", Part::Server),
    ("http.timeouts", Part::Server),
    ("http.tls.certificate", Part::Tls),
    ("http.tls.ciphersuites", Part::Tls),
    ("http.tls.clientauth", Part::Tls),
    ("http.tls.clientcas", Part::Tls),
    ("http.tls.key", Part::Tls),
    ("http.tls.minimumtls", Part::Tls),
    ("http.trustedproxies", Part::Server),
    ("log.accesslog", Part::Server),
    ("log.fields", Part::Log),
    ("log.formatter", Part::Log),
    ("log.level", Part::Log),
    ("log.levels", Part::Log),
    ("log.reportcaller", Part::Log),
    ("notifications", Part::Notifications),
    ("policy", Part::Server),
    ("storage.delete", Part::Registry),
    ("storage.maintenance.readonly", Part::ReadOnly),
    ("storage.maintenance.uploadpurging", Part::Purging),
    ("storage.maintenance.gc", Part::Collection),
    ("storage.maintenance.scrub", Part::Scrub),
    ("storage.redirect", Part::Registry),
    ("storage.tag", Part::Registry),
    ("sync", Part::Sync),
    ("tags", Part::Server),
    ("validation", Part::Registry),
];

/// What is to be done about a configuration that was read again.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// The keys that are taken on, each with the part that does.
    pub(crate) applied: Vec<(String, Part)>,
    /// The keys that need a restart.
    pub(crate) restart: Vec<String>,
}

impl Changes {
    /// The changes to `fresh` for a registry that was started with one configuration, and has taken
    /// on what it can of another since.
    pub(crate) fn between(started: &Config, taken_on: &Config, fresh: &Config) -> Self {
        let tls = tls_stays(started, fresh);
        let part_of = |key: &str| part_of(key).filter(|part| *part != Part::Tls || tls);
        let applied = taken_on.changed_keys(fresh).into_iter();
        let restart = started.changed_keys(fresh).into_iter();
        Self {
            applied: applied
                .filter_map(|key| part_of(&key).map(|part| (key, part)))
                .collect(),
            restart: restart.filter(|key| part_of(key).is_none()).collect(),
        }
    }

    /// Whether a part has something to take on.
    pub(crate) fn concern(&self, part: Part) -> bool {
        self.applied.iter().any(|(_, one)| *one == part)
    }
}

/// Whether a registry that was started with one configuration can go on to the TLS of another:
/// connections speak it or not, and certificates come from where they came from before.
fn tls_stays(started: &Config, fresh: &Config) -> bool {
    let [started, fresh] = [started, fresh].map(|config| &config.http);
    let from_authority = |http: &wharfinger_config::Http| http.tls.letsencrypt.is_used();
    started.is_secure() && fresh.is_secure() && from_authority(started) == from_authority(fresh)
}

/// A configuration for a registry that stays what it was started as: a cache, which checks less of
/// what it stores, or none.
fn with_its_upstream(started: &Config, fresh: &Config) -> Config {
    Config {
        proxy: started.proxy.clone(),
        ..fresh.clone()
    }
}

fn part_of(key: &str) -> Option<Part> {
    let (_, part) = TAKEN_ON.iter().find(|(above, _)| {
        key.strip_prefix(above)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })?;
    Some(*part)
}

/// Reads a configuration and the files that it names. It may wait for them as long as they like.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) started: Config,
    pub(crate) registry: Registry,
    /// What the store is called in the configuration.
    pub(crate) store: &'static str,
    pub(crate) tls: Option<Tls>,
    pub(crate) sync_metrics: SyncMetrics,
}

/// A configuration that can be taken on, and what was made of it.
#[derive(Debug)]
pub(crate) struct Fresh {
    pub(crate) loaded: Loaded,
    pub(crate) parts: Parts,
}

/// What was made of a configuration.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) registry: wharfinger_registry::Options,
    pub(crate) server: wharfinger_server::Options,
    pub(crate) checks: Vec<Check>,
    pub(crate) syncs: Vec<SyncSchedule>,
    /// `None` where TLS does not stay what it is.
    pub(crate) tls: Option<FreshTls>,
}

/// Why a configuration cannot be taken on.
#[derive(Debug)]
pub(crate) enum Refused {
    /// There is no reading it.
    Unread(wharfinger_config::Error),
    /// These values are wrong.
    Wrong(Vec<Problem>),
}

impl Reader {
    /// # Errors
    /// [`Refused`], when anything is wrong.
    pub(crate) fn read(
        &self,
        loaded: Result<Loaded, wharfinger_config::Error>,
    ) -> Result<Fresh, Refused> {
        let loaded = loaded.map_err(Refused::Unread)?;
        if !loaded.problems.is_empty() {
            return Err(Refused::Wrong(loaded.problems));
        }
        match self.parts(&loaded.config) {
            Ok(parts) => Ok(Fresh { loaded, parts }),
            Err(Unusable { key, reason }) => {
                Err(Refused::Wrong(vec![loaded.problem(&key, reason)]))
            }
        }
    }

    fn parts(&self, config: &Config) -> Result<Parts, Unusable> {
        Ok(Parts {
            registry: wiring::registry_options(&with_its_upstream(&self.started, config))?,
            server: wiring::server_options(config)?,
            checks: wiring::health_checks(config, &self.registry, self.store)?,
            syncs: wiring::sync_schedules(config, &self.sync_metrics)?,
            tls: match &self.tls {
                Some(tls) if tls_stays(&self.started, config) => {
                    Some(wiring::fresh_tls(tls, config)?)
                }
                _ => None,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        let text = format!("version: 0.1\nstorage: {{inmemory: }}\n{text}");
        wharfinger_config::parse("x", &text, []).unwrap().config
    }

    #[test]
    fn pushes_are_checked_no_less_before_the_restart_that_makes_it_a_cache() {
        let (plain, cache) = (config(""), config("proxy: {remoteurl: 'http://r'}\n"));
        let sparse = |started: &Config, fresh: &Config| {
            let options = wiring::registry_options(&with_its_upstream(started, fresh));
            options.unwrap().validation.sparse
        };
        assert!(!sparse(&plain, &cache));
        assert!(sparse(&cache, &plain));

        let several = config("proxy: {upstreams: [{name: a, remoteurl: 'http://r'}]}\n");
        let below = |started: &Config, fresh: &Config| {
            let options = wiring::registry_options(&with_its_upstream(started, fresh));
            options.unwrap().validation.sparse_below.len()
        };
        assert_eq!((below(&plain, &several), below(&several, &plain)), (0, 1));
        let changes = Changes::between(&plain, &plain, &several);
        assert_eq!(changes.restart, ["proxy.upstreams"]);
    }

    #[test]
    fn a_change_is_taken_on_or_needs_a_restart() {
        let started = config("http: {addr: ':1', secret: a, headers: {X-A: [b]}}\n");
        let fresh = config("http: {addr: ':2', secret: b, headers: {X-A: [c]}}\n");
        let changes = Changes::between(&started, &started, &fresh);
        assert_eq!(
            changes,
            Changes {
                applied: vec![("http.headers.X-A".to_owned(), Part::Server)],
                restart: vec!["http.addr".to_owned(), "http.secret".to_owned()],
            }
        );
        assert!(changes.concern(Part::Server) && !changes.concern(Part::Health));
        // The second time only what still waits for a restart is told.
        let again = Changes::between(&started, &fresh, &fresh);
        assert_eq!((again.applied, again.restart.len()), (vec![], 2));
        let back = Changes::between(&started, &fresh, &started);
        assert_eq!((back.applied.len(), back.restart), (1, vec![]));
    }

    #[test]
    fn a_key_that_only_begins_alike_is_another() {
        assert_eq!(part_of("http.host"), Some(Part::Server));
        assert_eq!(part_of("http.hostile"), None);
        assert_eq!(part_of("tags.maxtags"), Some(Part::Server));
        assert_eq!(part_of("storage.cache.blobdescriptor"), None);
    }

    #[test]
    fn to_begin_or_end_tls_needs_a_restart() {
        let [plain, secure] = ["", "http: {tls: {certificate: a, key: b}}\n"].map(config);
        let other = config("http: {tls: {certificate: c, key: b}}\n");
        let restart = |from: &Config, to: &Config| Changes::between(from, from, to).restart;
        let both = ["http.tls.certificate", "http.tls.key"];
        assert_eq!(restart(&plain, &secure), both);
        assert_eq!(restart(&secure, &plain), both);
        assert_eq!(restart(&secure, &other), Vec::<String>::new());
    }

    #[test]
    fn every_key_that_is_taken_on_exists() {
        let fresh = "version: 0.1
auth: {silly: {realm: a, service: b}}
catalog: {maxentries: 5}
compatibility: {schema1: {enabled: true}}
health:
  storagedriver: {enabled: true}
  file: [{file: /x}]
http:
  draintimeout: 1s
  h2c: {enabled: true}
  headers: {X-A: [b]}
  host: https://example.org
  http2: {disabled: true}
  limits: {uploads: 5}
  prefix: /a/
  relativeurls: true
  timeouts: {idle: 1s}
  tls:
    certificate: c
    key: d
    ciphersuites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]
    clientcas: [e]
    clientauth: request-client-cert
    minimumtls: tls1.1
  trustedproxies: {addresses: ['::1']}
log:
  accesslog: {disabled: true}
  fields: {a: b}
  formatter: json
  level: debug
  levels: {auth: error}
  reportcaller: true
notifications: {endpoints: [{name: n, url: 'https://example.org'}]}
policy: {repository: {classes: [image]}}
storage:
  inmemory:
  delete: {enabled: true}
  maintenance:
    gc: {dryrun: true}
    readonly: {enabled: true}
    scrub: {rate: 5}
    uploadpurging: {dryrun: true}
  redirect: {disable: true}
  tag: {concurrencylimit: 5}
sync: {jobs: [{name: a, images: [b], from: {remoteurl: 'http://r'}}]}
tags: {maxtags: 5}
validation: {enabled: true}
";
        let fresh = wharfinger_config::parse("x", fresh, []).unwrap();
        assert_eq!(fresh.problems, vec![]);
        let started = config("http: {tls: {certificate: a, key: b}}\n");
        let changes = Changes::between(&started, &started, &fresh.config);
        assert_eq!(changes.restart, Vec::<String>::new());
        for (above, part) in TAKEN_ON {
            let by = |(key, one): &(String, Part)| key.starts_with(above) && *one == part;
            assert!(changes.applied.iter().any(by), "{above}: {changes:?}");
        }
    }
}
