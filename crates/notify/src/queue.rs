//! Where events wait for their endpoint: in memory, or in a journal on disk.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};

use crate::journal::{Appended, Journal, OpenError};

/// How many bytes may be on their way to a journal.
const ON_THE_WAY: u64 = 16 * 1024 * 1024;

/// What became of an event that was put in a queue.
#[derive(Debug)]
pub(crate) enum Pushed {
    /// It waits in memory.
    InMemory,
    /// It is on its way to the disk; this tells when it is there.
    ToDisk(oneshot::Receiver<()>),
    /// There is no room for it.
    Full,
}

/// Events that wait, in order.
#[derive(Debug)]
pub(crate) enum Queue {
    Memory(MemoryQueue),
    Disk(DiskQueue),
}

/// What is at the front of a queue.
#[derive(Debug)]
pub(crate) struct First {
    /// An event, unless all before the end were lost.
    pub(crate) event: Option<Bytes>,
    /// How many before it cannot be read.
    pub(crate) lost: u64,
}

impl Queue {
    /// A queue of at most `size` bytes, in this folder or in memory.
    pub(crate) fn open(folder: Option<&Path>, size: u64) -> Result<Self, OpenError> {
        Ok(match folder {
            None => Self::Memory(MemoryQueue::new(size)),
            Some(folder) => Self::Disk(DiskQueue::open(folder, size)?),
        })
    }

    /// Puts an event behind the others. Never waits.
    pub(crate) fn push(&self, event: Bytes) -> Pushed {
        match self {
            Self::Memory(queue) => queue.push(event),
            Self::Disk(queue) => queue.push(event),
        }
    }

    /// Waits until something is at the front, where it stays.
    ///
    /// # Cancel safety
    /// Dropping this while it waits loses nothing.
    pub(crate) async fn first(&self) -> io::Result<First> {
        match self {
            Self::Memory(queue) => Ok(queue.first().await),
            Self::Disk(queue) => queue.first().await,
        }
    }

    /// Takes the event at the front off the queue.
    pub(crate) async fn delivered(&self, event: Bytes) -> io::Result<()> {
        match self {
            Self::Memory(queue) => {
                queue.delivered();
                Ok(())
            }
            Self::Disk(queue) => queue.delivered(event).await,
        }
    }

    /// Changes how many bytes may wait. What waits stays.
    pub(crate) async fn resize(&self, size: u64) {
        match self {
            Self::Memory(queue) => queue.size.store(size, Ordering::Relaxed),
            Self::Disk(queue) => {
                queue
                    .with_journal(move |journal| journal.set_limit(size))
                    .await
            }
        }
    }
}

/// The content of a lock. A panic while it was held cannot have broken it: nothing in between can
/// panic.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Events that are gone with the process.
#[derive(Debug)]
pub(crate) struct MemoryQueue {
    waiting: Mutex<Waiting>,
    arrived: Notify,
    size: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Bytes>,
    bytes: u64,
}

impl MemoryQueue {
    fn new(size: u64) -> Self {
        Self {
            waiting: Mutex::default(),
            arrived: Notify::new(),
            size: size.into(),
        }
    }

    fn push(&self, event: Bytes) -> Pushed {
        let mut waiting = lock(&self.waiting);
        let bytes = waiting.bytes + event.len() as u64;
        if bytes > self.size.load(Ordering::Relaxed) {
            return Pushed::Full;
        }
        waiting.bytes = bytes;
        waiting.events.push_back(event);
        drop(waiting);
        self.arrived.notify_one();
        Pushed::InMemory
    }

    async fn first(&self) -> First {
        loop {
            let event = lock(&self.waiting).events.front().cloned();
            if event.is_some() {
                return First { event, lost: 0 };
            }
            self.arrived.notified().await;
        }
    }

    fn delivered(&self) {
        let mut waiting = lock(&self.waiting);
        if let Some(event) = waiting.events.pop_front() {
            waiting.bytes -= event.len() as u64;
        }
    }
}

/// Events that are kept in a journal. A task of its own must call [`DiskQueue::write`] again and
/// again.
#[derive(Debug)]
pub(crate) struct DiskQueue {
    journal: Arc<Mutex<Journal>>,
    on_the_way: Mutex<OnTheWay>,
    arrived: Notify,
    written: Notify,
    /// Whether something was written that the machine may still forget.
    unsynced: AtomicBool,
}

#[derive(Debug, Default)]
struct OnTheWay {
    events: Vec<(Bytes, oneshot::Sender<()>)>,
    bytes: u64,
    /// Whether nothing is written any more.
    closed: bool,
}

/// What became of events that were on their way.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// How many were not taken in, for want of room.
    pub(crate) full: u64,
    /// How many could not be written, and why not.
    pub(crate) failed: Option<(u64, io::Error)>,
}

impl DiskQueue {
    fn open(folder: &Path, size: u64) -> Result<Self, OpenError> {
        let journal = Journal::open(folder, size)?;
        let queue = Self {
            journal: Arc::new(Mutex::new(journal)),
            on_the_way: Mutex::default(),
            arrived: Notify::new(),
            written: Notify::new(),
            unsynced: AtomicBool::new(false),
        };
        queue.written.notify_one();
        Ok(queue)
    }

    /// How many events an earlier process left.
    pub(crate) fn left(&self) -> u64 {
        lock(&self.journal).len()
    }

    fn push(&self, event: Bytes) -> Pushed {
        let mut on_the_way = lock(&self.on_the_way);
        let bytes = on_the_way.bytes + event.len() as u64;
        if on_the_way.closed || bytes > ON_THE_WAY {
            return Pushed::Full;
        }
        let (kept, tells) = oneshot::channel();
        on_the_way.bytes = bytes;
        on_the_way.events.push((event, kept));
        drop(on_the_way);
        self.arrived.notify_one();
        Pushed::ToDisk(tells)
    }

    /// Waits until an event is on its way.
    ///
    /// # Cancel safety
    /// Dropping this while it waits loses nothing.
    pub(crate) async fn arrived(&self) {
        while lock(&self.on_the_way).events.is_empty() {
            self.arrived.notified().await;
        }
    }

    /// Writes what is on its way.
    pub(crate) async fn write(&self) -> Written {
        let events = {
            let mut on_the_way = lock(&self.on_the_way);
            on_the_way.bytes = 0;
            std::mem::take(&mut on_the_way.events)
        };
        let written = self.with_journal(move |journal| {
            let mut written = Written::default();
            for (event, kept) in events {
                match journal.append(&event) {
                    Ok(Appended::Kept) => {}
                    Ok(Appended::Full) => written.full += 1,
                    Err(error) => {
                        let before = written.failed.take().map_or(0, |(failed, _)| failed);
                        written.failed = Some((before + 1, error));
                    }
                }
                // Nobody may wait for it.
                let _ = kept.send(());
            }
            written
        });
        let written = written.await;
        self.unsynced.store(true, Ordering::Relaxed);
        self.written.notify_one();
        written
    }

    /// Takes nothing in any more, once nothing is on its way; says whether that is so.
    pub(crate) fn close(&self) -> bool {
        let mut on_the_way = lock(&self.on_the_way);
        on_the_way.closed = on_the_way.events.is_empty();
        on_the_way.closed
    }

    async fn first(&self) -> io::Result<First> {
        loop {
            let found = self.with_journal(|journal| {
                let found = journal.first();
                (found, journal.take_lost())
            });
            let (event, lost) = found.await;
            let event = event?;
            if event.is_some() || lost > 0 {
                return Ok(First { event, lost });
            }
            self.written.notified().await;
        }
    }

    async fn delivered(&self, event: Bytes) -> io::Result<()> {
        let taken = self.with_journal(move |journal| journal.delivered(&event));
        let taken = taken.await;
        self.unsynced.store(true, Ordering::Relaxed);
        taken
    }

    /// Lets everything survive the machine.
    pub(crate) async fn sync(&self) -> io::Result<()> {
        if !self.unsynced.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        // Nothing waits for the disk but this.
        let files = self.with_journal(Journal::unsynced).await;
        blocking(move || files.iter().try_for_each(|file| file.sync_data())).await
    }

    async fn with_journal<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Journal) -> T + Send + 'static,
    ) -> T {
        let journal = Arc::clone(&self.journal);
        blocking(move || work(&mut lock(&journal))).await
    }
}

/// Does work that waits for the disk.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
