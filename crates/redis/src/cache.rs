//! The cache: what is kept, and why nothing that was removed comes back.
//!
//! A key holds one of two things, each for [`Options::life`]:
//!
//! - `kept <time> <text>`: what a lookup found, and when that lookup began;
//! - `gone <mark>`: that it was removed, with a mark that no other removal has.
//!
//! Who finds no text is told when it asked, and what was there instead: an [`Absence`]. It looks
//! into the store, and comes back with both. The text is then kept only if the key still holds what
//! it held, and if the lookup began less than a life ago; its life counts from there. So, by the
//! time of Redis alone, whatever happens to messages on their way:
//!
//! - A text is never given out for longer than a life after its lookup began. Nobody needs to
//!   remember anything for that, so Redis may forget what it likes.
//! - A lookup that began before a removal cannot put its text back. Until a life after it began
//!   it finds the removal's mark, which lives for as long and began later; then it is too old.
//! - One that began after a removal saw its mark, so what was put back into the store can be kept
//!   at once.
//!
//! A removal that could not be told is not in Redis. [`SharedCache::remove`] says so, and who
//! removed something must not trust what is older than that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use prometheus_client::registry::Registry as Metrics;
use redis::{Cmd, FromRedisValue};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use uuid::Uuid;

use crate::connection::{Connection, Failure};
use crate::keeper::keep_connected;
use crate::metrics::{Counted, Counts};
use crate::{Options, TlsError, tls};

/// Gives what a key holds, and the time of Redis in milliseconds.
const FIND: &str = "local time = redis.call('TIME')
return {redis.call('GET', KEYS[1]), time[1] * 1000 + math.floor(time[2] / 1000)}";

/// Keeps a text: the time its lookup began, the life in milliseconds, what the key must hold, and
/// what it shall.
const KEEP: &str = "local time = redis.call('TIME')
local age = time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[1]
if age < 0 or age >= tonumber(ARGV[2]) then return 0 end
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[3] then return 0 end
redis.call('SET', KEYS[1], ARGV[4], 'PX', ARGV[2] - age)
return 1";

/// The key by which a connection is tried.
const PROBE: &str = "probe";

/// How many answers in a row may be late before the connection is given up.
const LATE: u32 = 3;

/// A cache in Redis, which several processes share. Clones are cheap and share everything.
#[derive(Clone, Debug)]
pub struct SharedCache {
    shared: Arc<Shared>,
    _keeper: Arc<Keeper>,
}

/// What Redis knows of a key.
#[derive(Debug)]
pub enum Answer {
    /// This text.
    Kept {
        /// The text.
        text: String,
        /// How long ago, at most, the lookup began that found it, at the time of the answer.
        age: Duration,
    },
    /// Nothing; what to give [`SharedCache::keep`].
    Absent(Absence),
    /// Redis cannot be asked.
    Unavailable,
}

/// Proof of when a lookup began, and of what Redis held then.
#[derive(Debug)]
pub struct Absence {
    /// The time of Redis, in milliseconds.
    began: i64,
    /// What the key held; nothing where there was none.
    held: Vec<u8>,
}

/// Ends the task that connects, with the last clone of the cache.
#[derive(Debug)]
struct Keeper(AbortHandle);

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(crate) struct Shared {
    pub(crate) options: Options,
    /// The connection in use; none while there is none.
    live: ArcSwapOption<Live>,
    /// Why the last connection was given up, until the keeper has taken notice.
    lost: std::sync::Mutex<Option<Failure>>,
    told_lost: Notify,
    /// Whether it has been tried to connect.
    pub(crate) tried: watch::Sender<bool>,
    counts: Counts,
}

struct Live {
    connection: Connection,
    /// How many answers in a row were late.
    late: AtomicU32,
}

impl SharedCache {
    /// A cache in Redis as `options` say. It connects in the background, on the Tokio runtime that
    /// this is called on, and goes on trying for as long as there is a clone of it.
    ///
    /// # Errors
    /// When a file of TLS cannot be used.
    pub fn new(options: Options) -> Result<Self, TlsError> {
        if let Some(files) = &options.tls {
            tls::read(files)?;
        }
        let shared = Arc::new(Shared {
            options,
            live: ArcSwapOption::empty(),
            lost: std::sync::Mutex::default(),
            told_lost: Notify::new(),
            tried: watch::Sender::new(false),
            counts: Counts::default(),
        });
        let keeper = tokio::spawn(keep_connected(Arc::clone(&shared)));
        Ok(Self {
            shared,
            _keeper: Arc::new(Keeper(keeper.abort_handle())),
        })
    }

    /// How long a text can be given out after its lookup began.
    pub fn life(&self) -> Duration {
        self.shared.options.life
    }

    /// Waits until it has been tried to connect, for as long as `patience`, and tells whether Redis
    /// can be asked.
    pub async fn connected(&self, patience: Duration) -> bool {
        let mut tried = self.shared.tried.subscribe();
        let _ = timeout(patience, tried.wait_for(|tried| *tried)).await;
        self.shared.is_connected()
    }

    /// What Redis has under `key`.
    pub async fn find(&self, key: &str) -> Answer {
        let Some(live) = self.shared.live.load_full() else {
            return Answer::Unavailable;
        };
        self.shared.counts.requests.fetch_add(1, Relaxed);
        let command = self.shared.find(key);
        let Some((held, now)) = self
            .shared
            .ask::<(Option<Vec<u8>>, i64)>(&live, &command)
            .await
        else {
            return Answer::Unavailable;
        };
        let held = held.unwrap_or_default();
        match kept(&held, now, self.life()) {
            Some((text, age)) => {
                self.shared.counts.hits.fetch_add(1, Relaxed);
                Answer::Kept { text, age }
            }
            None => Answer::Absent(Absence { began: now, held }),
        }
    }

    /// Keeps what a lookup found that began with [`find`](Self::find), unless something was kept or
    /// removed since. That it may fail makes no difference to anybody.
    pub async fn keep(&self, key: &str, absence: Absence, text: &str) {
        let Some(live) = self.shared.live.load_full() else {
            return;
        };
        let mut command = self.shared.script(KEEP, key);
        command.arg(absence.began).arg(self.shared.life_millis());
        command.arg(absence.held);
        command.arg(format!("kept {} {text}", absence.began));
        let _: Option<i64> = self.shared.ask(&live, &command).await;
    }

    /// Removes a key, after what it stands for was removed; tells whether Redis knows. Where it
    /// does not, the key may be found until its life has passed.
    pub async fn remove(&self, key: &str) -> bool {
        let Some(live) = self.shared.live.load_full() else {
            return false;
        };
        let command = self.shared.removal(key);
        self.shared.ask::<()>(&live, &command).await.is_some()
    }

    /// How often Redis has failed, or took too long.
    pub fn errors(&self) -> u64 {
        self.shared.counts.errors.load(Relaxed)
    }

    /// Adds what is counted to `metrics`, whose prefix should be `registry`.
    pub fn register(&self, metrics: &mut Metrics) {
        metrics.register_collector(Box::new(Counted(Arc::clone(&self.shared))));
    }
}

/// The text that a key holds, and its age, where it is not too old.
fn kept(held: &[u8], now: i64, life: Duration) -> Option<(String, Duration)> {
    let held = std::str::from_utf8(held).ok()?.strip_prefix("kept ")?;
    let (began, text) = held.split_once(' ')?;
    let age = now.checked_sub(began.parse().ok()?)?;
    // One that seems to come from the future is none: somebody has set the clock.
    let age = Duration::from_millis(u64::try_from(age).ok()?);
    // Both times are cut to the millisecond.
    let age = age + Duration::from_millis(1);
    (age < life).then(|| (text.to_owned(), age))
}

impl Shared {
    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.live.load().is_some()
    }

    fn life_millis(&self) -> u64 {
        u64::try_from(self.options.life.as_millis()).unwrap_or(u64::MAX)
    }

    fn key(&self, key: &str) -> String {
        format!("{}:{key}", self.options.prefix)
    }

    /// A script for one key. It goes along each time, so that it does not matter whether the server
    /// knows it, and a cluster finds it where the key is.
    fn script(&self, script: &str, key: &str) -> Cmd {
        let mut command = Cmd::new();
        command.arg("EVAL").arg(script).arg(1).arg(self.key(key));
        command
    }

    fn find(&self, key: &str) -> Cmd {
        self.script(FIND, key)
    }

    fn removal(&self, key: &str) -> Cmd {
        let mut command = Cmd::new();
        command.arg("SET").arg(self.key(key));
        command.arg(format!("gone {}", Uuid::new_v4().simple()));
        command.arg("PX").arg(self.life_millis());
        command
    }

    /// Asks over a connection, and gives it up when it is of no use.
    async fn ask<T: FromRedisValue>(&self, live: &Arc<Live>, command: &Cmd) -> Option<T> {
        let answer = live.connection.ask(command, self.options.answer_timeout);
        match answer.await {
            Ok(answer) => {
                live.late.store(0, Relaxed);
                Some(answer)
            }
            Err(failure) => {
                self.counts.errors.fetch_add(1, Relaxed);
                if !failure.is_late() || live.late.fetch_add(1, Relaxed) + 1 >= LATE {
                    self.give_up(live, failure);
                }
                None
            }
        }
    }

    /// Stops using a connection, unless that has been done.
    fn give_up(&self, live: &Arc<Live>, failure: Failure) {
        let before = self.live.compare_and_swap(live, None);
        if before
            .as_ref()
            .is_some_and(|before| Arc::ptr_eq(before, live))
        {
            *self.lost() = Some(failure);
            self.told_lost.notify_one();
        }
    }

    fn lost(&self) -> std::sync::MutexGuard<'_, Option<Failure>> {
        let lost = self.lost.lock();
        lost.unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Takes a connection into use.
    pub(crate) fn take(&self, connection: Connection) {
        let late = AtomicU32::new(0);
        let live = Live { connection, late };
        self.live.store(Some(Arc::new(live)));
    }

    /// Waits until the connection in use is given up, and gives the reason.
    pub(crate) async fn until_lost(&self) -> Failure {
        loop {
            self.told_lost.notified().await;
            if let Some(failure) = self.lost().take() {
                return failure;
            }
        }
    }

    /// Connects, and finds out whether all that is needed works: a server can be full, a replica, or
    /// not let this user do it.
    pub(crate) async fn connect(&self) -> Result<Connection, Failure> {
        let connection = Connection::open(&self.options).await?;
        let patience = self.options.connect_timeout;
        connection.ask::<()>(&self.removal(PROBE), patience).await?;
        let find = self.find(PROBE);
        let found = connection.ask::<(Option<Vec<u8>>, i64)>(&find, patience);
        found.await?;
        Ok(connection)
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("options", &self.options)
            .field("connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}
