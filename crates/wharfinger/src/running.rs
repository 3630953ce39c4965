//! A running registry: what owns its parts, from the start to the end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{error, info, warn};
use wharfinger_config::{Config, Loaded};
use wharfinger_health::Check;
use wharfinger_notify::Notifier;
use wharfinger_proxy::{Eviction, Upstreams};
use wharfinger_redis::SharedCache;
use wharfinger_registry::{CollectSchedule, NotWritable, PurgeSchedule, Registry, ScrubSchedule};
use wharfinger_server::{Address, Collector, DebugServer, Listener, Options, Server, Tls};
use wharfinger_telemetry::Telemetry;
use wharfinger_transfer::{SyncMetrics, SyncSchedule, sync_regularly};

use crate::reload::{Changes, Fresh, Part, Parts, Reader, Refused};
use crate::serve::{log_problems, warn_of};
use crate::wiring::{self, Measured, Store, Unusable, unusable};

/// A folder that this process may not write to now.
const COLLECTED: &str = "garbage-collect works on this folder; start when it has ended, or \
                         read-only (storage.maintenance.readonly.enabled)";

/// How long writes may take to end once their connections have been cut off.
const LAST_WRITES: Duration = Duration::from_secs(10);

/// A registry with all that goes on around it.
#[derive(Debug)]
pub(crate) struct Running {
    /// What it was started with.
    started: Config,
    /// What it has taken on since.
    config: Config,
    store: Store,
    registry: Registry,
    notifier: Arc<Notifier>,
    tls: Option<Tls>,
    measured: Measured,
    shared_cache: Option<SharedCache>,
    upstreams: Upstreams,
    eviction: Option<Eviction>,
    server: Server,
    /// Whether an operator holds it read-only by a signal.
    held_read_only: bool,
    read_only: watch::Sender<bool>,
    following: Task,
    purging: Option<Task>,
    collecting: Option<Task>,
    scrubbing: Option<Task>,
    syncing: Vec<Task>,
    sync_metrics: SyncMetrics,
    evicting: Option<Task>,
    /// Asks for the networks that a middleware wants to know.
    _ranges: Option<Task>,
    /// With the names under which they note what fails.
    health: Vec<(String, Task)>,
}

/// A task that ends with whoever owns it.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Task {
    fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }

    /// Ends it, and waits until it has.
    async fn end(mut self) {
        self.0.abort();
        let _ = (&mut self.0).await;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Running {
    /// Opens the store and starts everything but the answering of requests.
    ///
    /// # Errors
    /// The key whose value cannot be used.
    pub(crate) async fn start(config: &Config, telemetry: &Telemetry) -> Result<Self, Unusable> {
        let mut measured = Measured::new(config);
        let mut registry_options = wiring::registry_options(config)?;
        let shared_cache = wiring::shared_cache(config)?;
        registry_options.shared_descriptors = shared_cache.clone();
        let server_options = wiring::server_options(config)?;
        let tls = wiring::tls(config)?;
        let store = Store::open(config)?;
        store.ask().await?;
        let in_folder = unusable(store.key());
        let read_only = registry_options.read_only;
        // It becomes writable when the store has been claimed.
        registry_options.read_only = true;
        let around = wiring::middlewares(config, &store)?;
        around.ask().await;
        let traced = telemetry.continue_trace().is_some();
        let driver = measured.driver(around.driver, traced);
        let registry = Registry::new(driver, registry_options)
            .map_err(|error| unusable("compatibility.schema1.signingkeyfile")(&error))?;
        if !read_only {
            registry
                .make_writable()
                .await
                .map_err(|error| match error {
                    NotWritable::Collected => in_folder(&COLLECTED),
                    error @ NotWritable::Store(_) => in_folder(&error),
                })?;
        }
        let notifier = wiring::notifier(config).await?;
        let checks = wiring::health_checks(config, &registry, store.driver().name())?;
        let server_options = Options {
            notifications: Some(wiring::server_notifications(config, &notifier)),
            metrics: measured.requests(),
            continue_trace: telemetry.continue_trace(),
            ..server_options
        };
        let sync_metrics = SyncMetrics::default();
        measured.tell_of(&sync_metrics);
        let syncs = wiring::sync_schedules(config, &sync_metrics)?;
        let eviction = wiring::eviction(config, &registry)?;
        let upstreams = wiring::upstreams(config, &registry, eviction.as_ref())?;
        let server = Server::caching(registry.clone(), upstreams.clone(), server_options);
        if let Some(tls) = &tls {
            tokio::spawn(tls.clone().maintain());
        }
        let (wanted, following) = watch::channel(read_only);
        let following = Task::spawn(registry.clone().follow_read_only(following));
        let ranges = around.ranges.map(|(ranges, every)| {
            let maintained = async move { ranges.maintain(every).await };
            Task::spawn(maintained)
        });
        let mut running = Self {
            started: config.clone(),
            config: config.clone(),
            store,
            registry,
            notifier,
            tls,
            measured,
            shared_cache,
            upstreams,
            eviction,
            server,
            held_read_only: false,
            read_only: wanted,
            following,
            purging: None,
            collecting: None,
            scrubbing: None,
            syncing: Vec::new(),
            sync_metrics,
            evicting: None,
            _ranges: ranges,
            health: Vec::new(),
        };
        running.start_purging();
        running.start_collecting();
        running.start_scrubbing();
        running.start_syncing(syncs);
        let eviction = running.eviction.clone();
        running.evicting = eviction.map(|eviction| Task::spawn(eviction.run_regularly()));
        running.start_health(checks).await;
        Ok(running)
    }

    /// Where it keeps everything, for people.
    pub(crate) fn place(&self) -> String {
        self.store.place()
    }

    /// What it keeps of other registries.
    pub(crate) fn upstreams(&self) -> &Upstreams {
        &self.upstreams
    }

    /// What answers its requests.
    pub(crate) fn server(&self) -> Server {
        self.server.clone()
    }

    /// Where requests come in.
    ///
    /// # Errors
    /// When nobody can listen there.
    pub(crate) async fn listener(&self) -> Result<Listener, Unusable> {
        let mut listener = wiring::listener(&self.config).await?;
        if let Some(tls) = &self.tls {
            listener = listener.with_tls(tls.clone());
        }
        let address = listener.address();
        if self.config.http.tls.letsencrypt.is_used()
            && !matches!(address, Address::Tcp(local) if local.port() == 443)
        {
            info!(%address, "the authority connects to port 443 of each name, which must lead here");
        }
        Ok(listener)
    }

    /// The second listener and what answers there, where there is to be one.
    ///
    /// # Errors
    /// When nobody can listen there.
    pub(crate) async fn debug(&mut self) -> Result<Option<(DebugServer, Listener)>, Unusable> {
        if self.config.http.debug.addr.is_empty() {
            return Ok(None);
        }
        let listener = wiring::debug_listener(&self.config).await?;
        let debug = DebugServer {
            health: self.server.health(),
            metrics: self.measured.served(
                &self.registry,
                self.shared_cache.as_ref(),
                &self.notifier,
                self.upstreams.metrics(),
                self.eviction.as_ref(),
                &self.config,
            ),
            collector: Some(Collector {
                registry: self.registry.clone(),
                options: wiring::collect_options(&self.config.storage.maintenance.gc),
            }),
        };
        Ok(Some((debug, listener)))
    }

    /// How long requests under way may take at the end.
    pub(crate) fn draintimeout(&self) -> Duration {
        self.config.http.draintimeout.get()
    }

    /// What reads the files of another configuration.
    pub(crate) fn reader(&self) -> Reader {
        Reader {
            started: self.started.clone(),
            registry: self.registry.clone(),
            store: self.store.driver().name(),
            tls: self.tls.clone(),
            sync_metrics: self.sync_metrics.clone(),
        }
    }

    /// Takes on what it can of a configuration that was read again, and says in the log what it did
    /// and what it could not. One that has something wrong is refused whole.
    pub(crate) async fn reload(&mut self, fresh: Result<Fresh, Refused>, telemetry: &Telemetry) {
        match fresh {
            Err(Refused::Unread(error)) => error!("{error}"),
            Err(Refused::Wrong(problems)) => log_problems(&problems),
            Ok(Fresh { loaded, parts }) => match self.take_on(&loaded, parts, telemetry).await {
                Ok(()) => return,
                Err(Unusable { key, reason }) => log_problems(&[loaded.problem(&key, reason)]),
            },
        }
        error!("the configuration is refused; the registry goes on with the one that it has");
    }

    async fn take_on(
        &mut self,
        fresh: &Loaded,
        parts: Parts,
        telemetry: &Telemetry,
    ) -> Result<(), Unusable> {
        let config = &fresh.config;
        let changes = Changes::between(&self.started, &self.config, config);
        // All that can fail comes before the first change.
        if changes.concern(Part::Notifications) {
            wiring::use_endpoints(&self.notifier, config).await?;
        }
        warn_of(&fresh.warnings);
        self.config = config.clone();
        if let (Some(tls), Some(fresh)) = (&self.tls, parts.tls) {
            tls.take_on(fresh);
        }
        // Whether their keys have changed or not: the files that these name may have.
        self.registry.set_options(parts.registry);
        self.server.set_options(Options {
            notifications: Some(wiring::server_notifications(config, &self.notifier)),
            metrics: self.measured.requests(),
            continue_trace: telemetry.continue_trace(),
            ..parts.server
        });
        self.tell_read_only();
        if changes.concern(Part::Purging) {
            self.start_purging();
        }
        if changes.concern(Part::Collection) {
            self.start_collecting();
        }
        if changes.concern(Part::Scrub) {
            self.start_scrubbing();
        }
        if changes.concern(Part::Sync) {
            self.start_syncing(parts.syncs);
        }
        if changes.concern(Part::Health) {
            self.start_health(parts.checks).await;
        }
        if changes.concern(Part::Log) {
            telemetry.reload(wiring::log_options(&config.log));
        }
        for (key, _) in &changes.applied {
            info!(key, "taken on");
        }
        for key in &changes.restart {
            warn!(key, "not taken on: this needs a restart");
        }
        info!(
            taken_on = changes.applied.len(),
            need_restart = changes.restart.len(),
            "the configuration was read again"
        );
        Ok(())
    }

    /// Holds it read-only whatever the configuration says, or no longer.
    pub(crate) fn hold_read_only(&mut self, hold: bool) {
        info!(held = hold, "told by a signal whether to be held read-only");
        self.held_read_only = hold;
        self.tell_read_only();
    }

    fn tell_read_only(&self) {
        let wanted = self.held_read_only || self.config.storage.maintenance.readonly.enabled;
        self.read_only
            .send_if_modified(|before| std::mem::replace(before, wanted) != wanted);
    }

    fn start_purging(&mut self) {
        let purging = &self.config.storage.maintenance.uploadpurging;
        let schedule = PurgeSchedule {
            age: purging.age.get(),
            interval: purging.interval.get(),
            dry_run: purging.dryrun,
        };
        let registry = self.registry.clone();
        self.purging = purging
            .enabled
            .then(|| Task::spawn(registry.purge_regularly(schedule)));
    }

    /// A collection under way ends where it is, and the schedule goes on with it.
    fn start_collecting(&mut self) {
        self.collecting = None;
        let collection = &self.config.storage.maintenance.gc;
        let schedule = CollectSchedule {
            interval: collection.interval.get(),
            options: wiring::collect_options(collection),
        };
        let registry = self.registry.clone();
        self.collecting = collection
            .enabled
            .then(|| Task::spawn(registry.collect_regularly(schedule)));
    }

    /// It goes on from where it was.
    fn start_scrubbing(&mut self) {
        self.scrubbing = None;
        let scrub = &self.config.storage.maintenance.scrub;
        let schedule = ScrubSchedule {
            interval: scrub.interval.get(),
            rate: (scrub.rate > 0).then_some(scrub.rate),
        };
        let registry = self.registry.clone();
        self.scrubbing = scrub
            .enabled
            .then(|| Task::spawn(registry.scrub_regularly(schedule)));
    }

    /// A run under way ends where it is, and the next one goes on with it.
    fn start_syncing(&mut self, schedules: Vec<SyncSchedule>) {
        self.syncing.clear();
        let started = schedules.into_iter().map(|schedule| {
            let (registry, metrics) = (self.registry.clone(), self.sync_metrics.clone());
            Task::spawn(sync_regularly(registry, schedule, metrics))
        });
        self.syncing = started.collect();
    }

    async fn start_health(&mut self, checks: Vec<Check>) {
        let health = self.server.health();
        for (name, task) in self.health.drain(..) {
            task.end().await;
            // What a check that stays has found counts until it finds something else.
            if !checks.iter().any(|check| check.name == name) {
                health.passes(&name);
            }
        }
        let started = checks.into_iter().map(|check| {
            let name = check.name.clone();
            (name, Task::spawn(check.watch(health.clone())))
        });
        self.health = started.collect();
    }

    /// Ends it, when no more requests are answered: events are delivered for as long as `left`, what
    /// has come of uploads is made durable, and the claim on the store is given up.
    pub(crate) async fn stop(self, left: Duration) -> Registry {
        let Self {
            registry,
            notifier,
            following,
            purging,
            collecting,
            scrubbing,
            syncing,
            eviction,
            evicting,
            ..
        } = self;
        drop((purging, collecting, scrubbing, syncing, evicting));
        if let Some(eviction) = eviction {
            let _ = timeout(LAST_WRITES, eviction.write_uses()).await;
        }
        notifier.shut_down(left).await;
        following.end().await;
        if timeout(LAST_WRITES, registry.make_read_only())
            .await
            .is_err()
        {
            warn!("some writes did not end in time; what was acknowledged is safe");
        }
        registry
    }
}
