//! Comparing passwords with bcrypt's hashes, which keeps a processor busy for a tenth of a second
//! or longer, on purpose.
//!
//! It has threads of its own, few of them, so that however many passwords come the store's work and
//! everybody else's goes on. A thread that has begun on a password is counted until it is done,
//! whether or not the request is still there.

use std::fmt;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tracing::error;

use super::file::Comparison;
use super::queue::{Login, Queue};
use super::verified::Verified;

/// How many threads there are at most. Half of the processors stay free for everything else.
const MOST_THREADS: usize = 4;

/// How long a thread waits for another password before it ends.
const IDLE: Duration = Duration::from_secs(10);

/// How a password is compared with a hash.
type Compare = Box<dyn Fn(&[u8], &str) -> bool + Send + Sync>;

/// Compares passwords, and remembers which were right. Clones are one.
#[derive(Clone, Debug)]
pub(super) struct Passwords(Arc<Shared>);

struct Shared {
    verified: Verified,
    compare: Compare,
    most_threads: usize,
    waiting: Mutex<Waiting>,
    woken: Condvar,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Waiting {
    queue: Queue,
    threads: usize,
    idle: usize,
}

/// Too many passwords wait, so that this one has not been compared.
#[derive(Debug)]
pub(super) struct Busy;

impl Passwords {
    /// The process's: its processors are what is to be shared, and a configuration that was read
    /// again does not make the users strangers.
    pub(super) fn of_process() -> Self {
        static PASSWORDS: LazyLock<Passwords> = LazyLock::new(|| {
            let processors = thread::available_parallelism().map_or(1, usize::from);
            let compare =
                |password: &[u8], hash: &str| bcrypt::verify(password, hash).unwrap_or(false);
            Passwords::new((processors / 2).clamp(1, MOST_THREADS), Box::new(compare))
        });
        PASSWORDS.clone()
    }

    pub(super) fn new(most_threads: usize, compare: Compare) -> Self {
        Self(Arc::new(Shared {
            verified: Verified::new(),
            compare,
            most_threads,
            waiting: Mutex::default(),
            woken: Condvar::new(),
        }))
    }

    /// Whether the password is right. `client` is who asks, as far as an address tells.
    ///
    /// # Errors
    /// [`Busy`].
    ///
    /// # Cancel safety
    /// A password whose requests have all been dropped is not compared, unless that has begun.
    pub(super) async fn verify(
        &self,
        client: Option<IpAddr>,
        user: &str,
        password: &[u8],
        comparison: Comparison,
    ) -> Result<bool, Busy> {
        let name = self.0.verified.name(user, password, &comparison.hash);
        if self.0.verified.contains(&name) {
            return Ok(true);
        }
        let (answer, answered) = oneshot::channel();
        let login = Login {
            name,
            password: password.to_vec(),
            comparison,
            answers: vec![answer],
        };
        self.submit(client, login)?;
        answered.await.map_err(|_| Busy)
    }

    fn submit(&self, client: Option<IpAddr>, login: Login) -> Result<(), Busy> {
        let mut waiting = self.0.lock();
        waiting.queue.push(client, login).map_err(|_| Busy)?;
        if waiting.queue.len() <= waiting.idle || waiting.threads >= self.0.most_threads {
            self.0.woken.notify_one();
            return Ok(());
        }
        let shared = Arc::clone(&self.0);
        let thread = thread::Builder::new().name("passwords".to_owned());
        match thread.spawn(move || shared.work()) {
            Ok(_) => waiting.threads += 1,
            Err(error) if waiting.threads == 0 => {
                error!(%error, "no thread can be started to compare passwords");
                waiting.queue = Queue::default();
                return Err(Busy);
            }
            // Those that there are do it later.
            Err(_) => {}
        }
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a thread does until there has been nothing to do for a while.
    fn work(&self) {
        let mut waiting = self.lock();
        loop {
            if let Some(login) = waiting.queue.pop() {
                drop(waiting);
                // Should this panic, the requests are told that they have not been looked at.
                let _ = catch_unwind(AssertUnwindSafe(|| self.answer(login)));
                waiting = self.lock();
                continue;
            }
            waiting.idle += 1;
            let (woken, waited) = self
                .woken
                .wait_timeout(waiting, IDLE)
                .unwrap_or_else(PoisonError::into_inner);
            waiting = woken;
            waiting.idle -= 1;
            if waited.timed_out() && waiting.queue.len() == 0 {
                waiting.threads -= 1;
                return;
            }
        }
    }

    fn answer(&self, login: Login) {
        // The same may have been compared while this waited.
        let right = self.verified.contains(&login.name) || self.compare(&login);
        if right {
            self.verified.insert(login.name);
        }
        for answer in login.answers {
            let _ = answer.send(right);
        }
    }

    fn compare(&self, login: &Login) -> bool {
        let Comparison { hash, known, then } = &login.comparison;
        let matches = (self.compare)(&login.password, hash);
        let right = matches && *known;
        if !right {
            for hash in then {
                std::hint::black_box((self.compare)(&login.password, hash));
            }
        }
        right
    }
}
