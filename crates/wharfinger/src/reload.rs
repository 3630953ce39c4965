//! Which changes of the configuration a running registry takes on, and which need a restart.

use wharfinger_config::Config;

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
    /// The check of the store.
    Health,
}

/// Who takes on which keys, each with all below it. What stands nowhere here needs a restart, so
/// that no key is forgotten: it is taken on, or said not to be.
const TAKEN_ON: [(&str, Part); 22] = [
    ("auth", Part::Server),
    ("catalog", Part::Server),
    ("compatibility.schema1.enabled", Part::Registry),
    ("health.storagedriver", Part::Health),
    ("http.draintimeout", Part::Server),
    ("http.h2c", Part::Server),
    ("http.headers", Part::Server),
    ("http.host", Part::Server),
    ("http.limits", Part::Server),
    ("http.prefix", Part::Server),
    ("http.relativeurls", Part::Server),
    ("http.timeouts", Part::Server),
    ("http.trustedproxies", Part::Server),
    ("log.accesslog", Part::Server),
    ("policy", Part::Server),
    ("storage.delete", Part::Registry),
    ("storage.maintenance.readonly", Part::ReadOnly),
    ("storage.maintenance.uploadpurging", Part::Purging),
    ("storage.redirect", Part::Registry),
    ("storage.tag", Part::Registry),
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

fn part_of(key: &str) -> Option<Part> {
    let (_, part) = TAKEN_ON.iter().find(|(above, _)| {
        key.strip_prefix(above)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })?;
    Some(*part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        let text = format!("version: 0.1\nstorage: {{inmemory: }}\n{text}");
        wharfinger_config::parse("x", &text, []).unwrap().config
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
    fn every_key_that_is_taken_on_exists() {
        let fresh = "version: 0.1
auth: {silly: {realm: a, service: b}}
catalog: {maxentries: 5}
compatibility: {schema1: {enabled: true}}
health: {storagedriver: {enabled: true}}
http:
  draintimeout: 1s
  h2c: {enabled: true}
  headers: {X-A: [b]}
  host: https://example.org
  limits: {uploads: 5}
  prefix: /a/
  relativeurls: true
  timeouts: {idle: 1s}
  trustedproxies: {addresses: ['::1']}
log: {accesslog: {disabled: true}}
policy: {repository: {classes: [image]}}
storage:
  inmemory:
  delete: {enabled: true}
  maintenance: {readonly: {enabled: true}, uploadpurging: {dryrun: true}}
  redirect: {disable: true}
  tag: {concurrencylimit: 5}
tags: {maxtags: 5}
validation: {enabled: true}
";
        let fresh = wharfinger_config::parse("x", fresh, []).unwrap();
        assert_eq!((fresh.warnings, fresh.problems), (vec![], vec![]));
        let started = config("");
        let changes = Changes::between(&started, &started, &fresh.config);
        assert_eq!(changes.restart, Vec::<String>::new());
        for (above, part) in TAKEN_ON {
            let by = |(key, one): &(String, Part)| key.starts_with(above) && *one == part;
            assert!(changes.applied.iter().any(by), "{above}: {changes:?}");
        }
    }
}
