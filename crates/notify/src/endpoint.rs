//! An endpoint: what it wants, what waits for it, and the tasks that hand it over.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout_at};
use tracing::{debug, error, info, warn};

use crate::delivery::{Client, Outcome};
use crate::journal::OpenError;
use crate::metrics::EndpointMetrics;
use crate::queue::{DiskQueue, Pushed, Queue};
use crate::throttle::Throttle;
use crate::{Action, Format, Kept, Receiver};

/// How often an endpoint that gets nothing is spoken of in the log.
const LINE_EVERY: Duration = Duration::from_secs(60);

/// How often drops are.
const DROPS_EVERY: Duration = Duration::from_secs(10);

/// How long the machine may forget what was written.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// How long writing to disk may take at the end, however little time there is.
const WRITE_WITHIN: Duration = Duration::from_secs(2);

/// How long to wait when the disk fails.
const DISK_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause after a failure when the registry is to end.
const LAST_BACKOFF: Duration = Duration::from_millis(500);

/// What an operator decides about an endpoint.
#[derive(Clone, Debug)]
pub struct EndpointOptions {
    /// Its name, in logs and metrics.
    pub name: String,
    /// Where events are sent.
    pub receiver: Receiver,
    /// In which form.
    pub format: Format,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How many failures in a row make it wait before each further attempt.
    pub threshold: u32,
    /// How long it then waits.
    pub backoff: Duration,
    /// Events about content of these media types are not sent.
    pub ignored_media_types: Vec<String>,
    /// Events of these actions are not sent.
    pub ignored_actions: Vec<Action>,
    /// How many bytes of events may wait.
    pub queue_size: u64,
    /// Where they wait, to survive the process; `None` is in memory.
    pub queue_folder: Option<PathBuf>,
}

impl EndpointOptions {
    /// Whether the queue of an endpoint with these options can be that of one with `other`.
    pub(crate) fn shares_queue_with(&self, other: &Self) -> bool {
        match (&self.queue_folder, &other.queue_folder) {
            (Some(folder), Some(other)) => folder == other,
            (None, None) => self.name == other.name,
            _ => false,
        }
    }
}

/// What may change while an endpoint is at work.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) options: EndpointOptions,
    pub(crate) metrics: EndpointMetrics,
}

/// An endpoint at work.
#[derive(Debug)]
pub(crate) struct Endpoint {
    settings: watch::Sender<Arc<Settings>>,
    client: Client,
    queue: Queue,
    /// How many events wait.
    waiting: AtomicU64,
    drops: Throttle,
    disk: Throttle,
    /// Whether no more events come.
    finishing: watch::Sender<bool>,
    tasks: Mutex<Option<Tasks>>,
}

#[derive(Debug)]
struct Tasks {
    deliver: JoinHandle<()>,
    /// On disk only.
    write: Option<JoinHandle<()>>,
}

impl Endpoint {
    /// Puts an endpoint to work, which goes on with what its queue on disk has.
    pub(crate) fn start(settings: Settings, client: Client) -> Result<Arc<Self>, OpenError> {
        let options = &settings.options;
        let queue = Queue::open(options.queue_folder.as_deref(), options.queue_size)?;
        let waiting = match &queue {
            Queue::Memory(_) => 0,
            Queue::Disk(queue) => queue.left(),
        };
        tell(options, waiting);
        let endpoint = Arc::new(Self {
            settings: watch::Sender::new(Arc::new(settings)),
            client,
            queue,
            waiting: waiting.into(),
            drops: Throttle::new(DROPS_EVERY),
            disk: Throttle::new(DROPS_EVERY),
            finishing: watch::Sender::new(false),
            tasks: Mutex::default(),
        });
        endpoint.tell_waiting();
        let on_disk = matches!(endpoint.queue, Queue::Disk(_));
        let tasks = Tasks {
            deliver: tokio::spawn(Arc::clone(&endpoint).deliver()),
            write: on_disk.then(|| tokio::spawn(Arc::clone(&endpoint).write())),
        };
        *endpoint
            .tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(tasks);
        Ok(endpoint)
    }

    pub(crate) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.borrow())
    }

    /// Goes on with other settings, which keep the queue.
    pub(crate) async fn change(&self, settings: Settings) {
        tell(&settings.options, self.waiting.load(Ordering::Relaxed));
        self.queue.resize(settings.options.queue_size).await;
        self.settings.send_replace(Arc::new(settings));
        self.tell_waiting();
    }

    pub(crate) fn wants(&self, action: Action, media_type: &str) -> bool {
        let settings = self.settings.borrow();
        let options = &settings.options;
        !options.ignored_actions.contains(&action)
            && !options
                .ignored_media_types
                .iter()
                .any(|ignored| ignored == media_type)
    }

    /// Takes an event, as JSON.
    pub(crate) fn push(&self, event: Bytes, kept: &mut Kept) {
        self.settings.borrow().metrics.events.inc();
        // Counted before it can be delivered.
        self.waiting.fetch_add(1, Ordering::Relaxed);
        match self.queue.push(event) {
            Pushed::InMemory => self.tell_waiting(),
            Pushed::ToDisk(is_kept) => {
                kept.and(is_kept);
                self.tell_waiting();
            }
            Pushed::Full => self.dropped(1),
        }
    }

    /// How many events wait that are gone with the process.
    pub(crate) fn at_stake(&self) -> u64 {
        match self.queue {
            Queue::Memory(_) => self.waiting.load(Ordering::Relaxed),
            Queue::Disk(_) => 0,
        }
    }

    fn tell_waiting(&self) {
        let waiting = self.waiting.load(Ordering::Relaxed);
        let waiting = i64::try_from(waiting).unwrap_or(i64::MAX);
        self.settings.borrow().metrics.pending.set(waiting);
    }

    fn no_longer_waiting(&self, number: u64) {
        self.waiting.fetch_sub(number, Ordering::Relaxed);
        self.tell_waiting();
    }

    /// Counts events that waited, or were about to, and will not be delivered.
    fn lost(&self, number: u64) {
        self.settings.borrow().metrics.dropped.inc_by(number);
        self.no_longer_waiting(number);
    }

    fn dropped(&self, number: u64) {
        self.lost(number);
        if let Some(dropped) = self.drops.add(number) {
            let settings = self.settings();
            warn!(
                endpoint = settings.options.name,
                dropped, "events are dropped: the endpoint's queue is full"
            );
        }
    }

    /// Hands over what is in the queue, one after the other, until no more comes.
    async fn deliver(self: Arc<Self>) {
        let mut finishing = self.finishing.subscribe();
        let mut attempts = Attempts::new(&self);
        let on_disk = matches!(self.queue, Queue::Disk(_));
        loop {
            // What is on disk can wait for the next process.
            if on_disk && *finishing.borrow() {
                return;
            }
            let first = tokio::select! {
                biased;
                first = self.queue.first() => first,
                () = finish(&mut finishing) => return,
            };
            let first = match first {
                Ok(first) => first,
                Err(error) => {
                    self.disk_failed(&error, "events cannot be read from disk");
                    sleep(DISK_PAUSE).await;
                    continue;
                }
            };
            if first.lost > 0 {
                self.lost(first.lost);
            }
            let Some(event) = first.event else {
                continue;
            };
            while !attempts.attempt(&event).await {
                if on_disk && *finishing.borrow() {
                    return;
                }
            }
            if let Err(error) = self.queue.delivered(event).await {
                self.disk_failed(&error, "what was delivered cannot be noted on disk");
            }
            self.no_longer_waiting(1);
        }
    }

    /// Brings events to the disk until no more come.
    async fn write(self: Arc<Self>) {
        let Queue::Disk(queue) = &self.queue else {
            return;
        };
        let mut finishing = self.finishing.subscribe();
        let mut ticks = interval(SYNC_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let last = tokio::select! {
                () = queue.arrived() => {
                    self.write_out(queue).await;
                    false
                }
                _ = ticks.tick() => false,
                () = finish(&mut finishing) => true,
            };
            if last {
                while !queue.close() {
                    self.write_out(queue).await;
                }
            }
            if let Err(error) = queue.sync().await {
                self.disk_failed(&error, "events cannot be synced to disk");
            }
            if last {
                return;
            }
        }
    }

    async fn write_out(&self, queue: &DiskQueue) {
        let written = queue.write().await;
        if written.full > 0 {
            self.dropped(written.full);
        }
        if let Some((number, error)) = written.failed {
            self.lost(number);
            if let Some(dropped) = self.drops.add(number) {
                let settings = self.settings();
                error!(
                    endpoint = settings.options.name, %error, dropped,
                    "events are dropped: they cannot be written to disk"
                );
            }
        }
    }

    fn disk_failed(&self, error: &std::io::Error, what: &str) {
        if let Some(times) = self.disk.add(1) {
            let settings = self.settings();
            error!(endpoint = settings.options.name, %error, times, "{what}");
        }
    }

    /// Ends its work: in memory, once everything is delivered; on disk, once everything is
    /// written. Deliveries that go on at `deadline` are cut off.
    pub(crate) async fn finish(&self, deadline: Instant) {
        self.finishing.send_replace(true);
        let tasks = {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *tasks)
        };
        let Some(Tasks { deliver, write }) = tasks else {
            return;
        };
        end(deliver, deadline).await;
        if let Some(write) = write {
            end(write, deadline.max(Instant::now() + WRITE_WITHIN)).await;
        }
        let left = self.waiting.load(Ordering::Relaxed);
        let settings = self.settings();
        let endpoint = &settings.options.name;
        match (&self.queue, left) {
            (_, 0) => {}
            (Queue::Disk(_), waiting) => {
                info!(endpoint, waiting, "events wait on disk for the next start");
            }
            (Queue::Memory(_), lost) => {
                warn!(endpoint, lost, "events that were not delivered are lost");
                self.lost(lost);
            }
        }
    }
}

fn tell(options: &EndpointOptions, waiting: u64) {
    let (endpoint, receiver) = (&options.name, &options.receiver);
    info!(endpoint, waiting, "events are sent to {receiver}");
}

/// Waits for a task, but not beyond `deadline`.
async fn end(mut task: JoinHandle<()>, deadline: Instant) {
    if timeout_at(deadline, &mut task).await.is_err() {
        task.abort();
        let _ = task.await;
    }
}

/// Waits for the end.
async fn finish(finishing: &mut watch::Receiver<bool>) {
    let _ = finishing.wait_for(|finishing| *finishing).await;
}

/// Attempts to hand events over, with pauses where they fail.
struct Attempts<'a> {
    endpoint: &'a Endpoint,
    changes: watch::Receiver<Arc<Settings>>,
    finishing: watch::Receiver<bool>,
    /// How many have failed since the last that did not.
    failures: u32,
    /// When the last one did.
    failed_at: Instant,
    /// Whether the log tells that the endpoint takes no events.
    told: bool,
    failing: Throttle,
    redirecting: Throttle,
}

impl<'a> Attempts<'a> {
    fn new(endpoint: &'a Endpoint) -> Self {
        Self {
            endpoint,
            changes: endpoint.settings.subscribe(),
            finishing: endpoint.finishing.subscribe(),
            failures: 0,
            failed_at: Instant::now(),
            told: false,
            failing: Throttle::new(LINE_EVERY),
            redirecting: Throttle::new(LINE_EVERY),
        }
    }

    /// Makes an attempt, after the pause that is due; says whether the event was accepted. At the
    /// end no attempt is made with what is safe on disk.
    async fn attempt(&mut self, event: &[u8]) -> bool {
        self.pause().await;
        let settings = Arc::clone(&self.changes.borrow_and_update());
        let Settings { options, metrics } = &*settings;
        if options.queue_folder.is_some() && *self.finishing.borrow() {
            return false;
        }
        let client = &self.endpoint.client;
        let sent = client.send(&options.receiver, options.format, event, options.timeout);
        let reason = match sent.await {
            Outcome::Accepted { status, empty } => {
                metrics.answered(status);
                metrics.successes.inc();
                self.accepted(options, empty);
                return true;
            }
            Outcome::Refused(status) => {
                metrics.answered(status);
                metrics.failures.inc();
                format!("it answered {status}")
            }
            Outcome::Failed(reason) => {
                metrics.errors.inc();
                reason
            }
        };
        self.failed(options, &reason);
        false
    }

    /// Waits where too many attempts have failed, but no longer than it takes for the settings to
    /// change. The registry's end leaves time for short pauses only.
    async fn pause(&mut self) {
        let settings = Arc::clone(&self.changes.borrow());
        let options = &settings.options;
        if self.failures < options.threshold {
            return;
        }
        let last_pause = async |finishing: &mut watch::Receiver<bool>| {
            finish(finishing).await;
            sleep_until(self.failed_at + options.backoff.min(LAST_BACKOFF)).await;
        };
        tokio::select! {
            () = sleep_until(self.failed_at + options.backoff) => {}
            Ok(()) = self.changes.changed() => self.failures = 0,
            () = last_pause(&mut self.finishing) => {}
        }
    }

    fn accepted(&mut self, options: &EndpointOptions, empty: bool) {
        let endpoint = &options.name;
        if std::mem::take(&mut self.told) {
            info!(
                endpoint,
                failures = self.failures,
                "the endpoint takes events again"
            );
        }
        self.failures = 0;
        if empty && let Some(times) = self.redirecting.add(1) {
            warn!(
                endpoint,
                times,
                "the endpoint redirects in a way that leaves the event out; set its url to where \
                 it redirects to"
            );
        }
    }

    fn failed(&mut self, options: &EndpointOptions, reason: &str) {
        self.failures = self.failures.saturating_add(1);
        self.failed_at = Instant::now();
        let (endpoint, failures) = (&options.name, self.failures);
        if failures < options.threshold {
            debug!(
                endpoint,
                failures, reason, "an event cannot be delivered yet"
            );
        } else if self.failing.add(1).is_some() {
            self.told = true;
            warn!(
                endpoint, failures, reason, pause = ?options.backoff,
                "the endpoint takes no events; it is tried again and again, with pauses"
            );
        }
    }
}
