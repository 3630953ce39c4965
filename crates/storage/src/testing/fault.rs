//! A driver whose operations fail, wait or hang as planned.
//!
//! ```
//! # use wharfinger_storage::{Driver, Durability, MemoryDriver};
//! # use wharfinger_storage::testing::fault::{Cause, Effect, Fault, FaultDriver, Operation};
//! # wharfinger_storage::testing::block_on(async {
//! let driver = FaultDriver::new(MemoryDriver::new());
//! driver.plan(Fault::new(Effect::Fail(Cause::NoSpace)).on(Operation::Put).at("*/link").after(1));
//!
//! let link = "/a/link".parse().unwrap();
//! driver.put(&link, "first".into(), Durability::Machine).await.unwrap();
//! let error = driver.put(&link, "second".into(), Durability::Machine).await.unwrap_err();
//! assert!(error.is_no_space());
//! assert_eq!(driver.count(Operation::Put), 2);
//! assert_eq!(driver.get(&link).await.unwrap(), "first");
//! # });
//! ```

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use super::Random;
use crate::{
    Claim, ClaimError, Claimed, Driver, Durability, Entry, Error, Fetch, Reader, RedirectRequest,
    Result, Stat, StoragePath, WriteMode, Writer,
};

/// What a driver, a writer or a reader is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// [`Driver::get`].
    Get,
    /// [`Driver::put`].
    Put,
    /// [`Driver::reader`].
    Reader,
    /// The next piece of a reader.
    Read,
    /// [`Driver::open`].
    Open,
    /// [`Driver::writer`].
    Writer,
    /// [`Writer::write`].
    Write,
    /// [`Writer::close`].
    Close,
    /// [`Writer::commit`].
    Commit,
    /// [`Writer::cancel`].
    Cancel,
    /// [`Driver::stat`].
    Stat,
    /// [`Driver::list`].
    List,
    /// [`Driver::rename`]; the path is either of the two.
    Rename,
    /// [`Driver::delete`] and [`Driver::remove_empty`].
    Delete,
    /// [`Driver::redirect_url`].
    RedirectUrl,
    /// [`Driver::claim`], which then says that the store has no locks.
    Claim,
}

/// Why an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The device reports an error.
    Io,
    /// No space is left.
    NoSpace,
    /// Permission is denied.
    Permission,
    /// The store is read-only.
    ReadOnly,
    /// The store does not answer in time.
    Timeout,
}

impl Cause {
    fn error(self, path: &StoragePath) -> Error {
        let kind = match self {
            Self::Io => io::ErrorKind::Other,
            Self::NoSpace => io::ErrorKind::StorageFull,
            Self::Permission => io::ErrorKind::PermissionDenied,
            Self::ReadOnly => io::ErrorKind::ReadOnlyFilesystem,
            Self::Timeout => io::ErrorKind::TimedOut,
        };
        Error::io(path, "reach", io::Error::new(kind, "a planned fault"))
    }
}

/// What becomes of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It fails and nothing is done.
    Fail(Cause),
    /// It is done, and reported as failed: the answer was lost.
    FailAfter(Cause),
    /// It is done after a while.
    Delay(Duration),
    /// It never ends, and nothing is done.
    Hang,
    /// A [`Write`](Operation::Write) writes, and a [`Read`](Operation::Read) gives, this many
    /// bytes and fails then. Other operations fail without having done anything.
    Short(usize, Cause),
}

/// When something is to go wrong, and how.
#[derive(Clone, Debug)]
pub struct Fault {
    effect: Effect,
    operation: Option<Operation>,
    path: Option<String>,
    after: u64,
    times: u64,
    one_in: u64,
}

impl Fault {
    /// The effect on every operation on every path, from the first on.
    pub fn new(effect: Effect) -> Self {
        Self {
            effect,
            operation: None,
            path: None,
            after: 0,
            times: u64::MAX,
            one_in: 1,
        }
    }

    /// Only on operations of this kind.
    #[must_use]
    pub fn on(mut self, operation: Operation) -> Self {
        self.operation = Some(operation);
        self
    }

    /// Only on paths of this form, in which `*` stands for any letters, `/` included.
    #[must_use]
    pub fn at(mut self, pattern: &str) -> Self {
        self.path = Some(pattern.to_owned());
        self
    }

    /// Only when this many operations that match have gone by.
    #[must_use]
    pub fn after(mut self, operations: u64) -> Self {
        self.after = operations;
        self
    }

    /// At most this many times.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// On one in so many of the operations that match, by chance; the driver's seed decides.
    #[must_use]
    pub fn one_in(mut self, operations: u64) -> Self {
        self.one_in = operations.max(1);
        self
    }

    fn matches(&self, operation: Operation, paths: &[&StoragePath]) -> bool {
        self.operation.is_none_or(|wanted| wanted == operation)
            && self.path.as_ref().is_none_or(|pattern| {
                paths
                    .iter()
                    .any(|path| has_form(path.as_str().as_bytes(), pattern.as_bytes()))
            })
    }
}

fn has_form(text: &[u8], pattern: &[u8]) -> bool {
    match (pattern.first(), text.first()) {
        (None, first) => first.is_none(),
        (Some(b'*'), first) => {
            has_form(text, &pattern[1..]) || (first.is_some() && has_form(&text[1..], pattern))
        }
        (Some(wanted), Some(found)) => wanted == found && has_form(&text[1..], &pattern[1..]),
        (Some(_), None) => false,
    }
}

/// A driver around another, whose operations go wrong as planned. Clones share the plan.
#[derive(Clone, Debug)]
pub struct FaultDriver {
    inner: Arc<dyn Driver>,
    plan: Arc<Mutex<Plan>>,
}

#[derive(Debug)]
struct Plan {
    faults: Vec<Fault>,
    log: Vec<(Operation, StoragePath)>,
    random: Random,
    /// Held by whatever is under way.
    busy: Arc<()>,
}

impl Plan {
    /// Counts the operation and finds what is to become of it: the first fault that is due.
    fn next(&mut self, operation: Operation, paths: &[&StoragePath]) -> Option<Effect> {
        self.log.push((operation, paths[0].clone()));
        let mut due = None;
        for fault in self
            .faults
            .iter_mut()
            .filter(|fault| fault.matches(operation, paths))
        {
            if fault.after > 0 {
                fault.after -= 1;
            } else if due.is_none() && fault.times > 0 && self.random.up_to(fault.one_in - 1) == 0 {
                fault.times -= 1;
                due = Some(fault.effect);
            }
        }
        due
    }
}

impl FaultDriver {
    /// A driver that does what `inner` does, until something is [planned](Self::plan).
    pub fn new(inner: impl Driver) -> Self {
        Self::around(Arc::new(inner))
    }

    /// A driver around one that others use, too.
    pub fn around(inner: Arc<dyn Driver>) -> Self {
        let plan = Plan {
            faults: Vec::new(),
            log: Vec::new(),
            random: Random::new(0),
            busy: Arc::default(),
        };
        Self {
            inner,
            plan: Arc::new(Mutex::new(plan)),
        }
    }

    /// Adds a fault. Where several are due, the one that was planned first has effect.
    pub fn plan(&self, fault: Fault) {
        self.with(|plan| plan.faults.push(fault));
    }

    /// Forgets all faults, and the operations that were counted.
    pub fn clear(&self) {
        self.with(|plan| {
            plan.faults.clear();
            plan.log.clear();
        });
    }

    /// Sets the seed of what happens by chance.
    pub fn seed(&self, seed: u64) {
        self.with(|plan| plan.random = Random::new(seed));
    }

    /// How many operations of this kind were asked for.
    pub fn count(&self, operation: Operation) -> u64 {
        self.with(|plan| {
            plan.log
                .iter()
                .filter(|(kind, _)| *kind == operation)
                .count() as u64
        })
    }

    /// All operations that were asked for, in order; of a rename the source.
    pub fn operations(&self) -> Vec<(Operation, StoragePath)> {
        self.with(|plan| plan.log.clone())
    }

    /// How many operations have begun and neither ended nor been given up; a writer is one until it
    /// is closed or dropped.
    pub fn under_way(&self) -> usize {
        self.with(|plan| Arc::strong_count(&plan.busy) - 1)
    }

    fn busy(&self) -> Arc<()> {
        self.with(|plan| Arc::clone(&plan.busy))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Plan) -> T) -> T {
        work(&mut self.plan.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Does `work`, or what is planned instead.
    async fn meet<T>(
        &self,
        operation: Operation,
        paths: &[&StoragePath],
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let path = paths[0];
        let _busy = self.busy();
        match self.with(|plan| plan.next(operation, paths)) {
            None => work.await,
            Some(Effect::Fail(cause) | Effect::Short(_, cause)) => Err(cause.error(path)),
            Some(Effect::FailAfter(cause)) => {
                work.await?;
                Err(cause.error(path))
            }
            Some(Effect::Delay(time)) => {
                tokio::time::sleep(time).await;
                work.await
            }
            Some(Effect::Hang) => std::future::pending().await,
        }
    }

    /// The pieces of a reader, with what is planned for them. It ends after an error.
    fn faulty(&self, path: &StoragePath, reader: Reader) -> Reader {
        let (driver, path) = (self.clone(), path.clone());
        Box::pin(stream::unfold(
            (Some(reader), VecDeque::new()),
            move |(reader, mut next)| {
                let (driver, path) = (driver.clone(), path.clone());
                async move {
                    if let Some(error) = next.pop_front() {
                        return Some((Err(error), (None, next)));
                    }
                    let mut reader = reader?;
                    let effect = driver.with(|plan| plan.next(Operation::Read, &[&path]));
                    match effect {
                        Some(Effect::Delay(time)) => tokio::time::sleep(time).await,
                        Some(Effect::Hang) => std::future::pending().await,
                        _ => {}
                    }
                    let piece = match effect {
                        Some(Effect::Fail(cause)) => {
                            return Some((Err(cause.error(&path)), (None, next)));
                        }
                        _ => reader.next().await?,
                    };
                    match effect {
                        Some(Effect::Short(bytes, cause)) => {
                            next.push_back(cause.error(&path));
                            Some((
                                piece.map(|piece| piece.slice(..bytes.min(piece.len()))),
                                (None, next),
                            ))
                        }
                        Some(Effect::FailAfter(cause)) => {
                            next.push_back(cause.error(&path));
                            Some((piece, (None, next)))
                        }
                        _ => Some((piece, (Some(reader), next))),
                    }
                }
            },
        ))
    }
}

#[async_trait]
impl Driver for FaultDriver {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn has_only_objects(&self) -> bool {
        self.inner.has_only_objects()
    }

    fn get<'a>(&'a self, path: &'a StoragePath) -> Fetch<'a> {
        Fetch::Right(Box::pin(async move {
            // Not before it is its turn.
            let got = async { self.inner.get(path).await };
            self.meet(Operation::Get, &[path], got).await
        }))
    }

    async fn put(&self, path: &StoragePath, content: Bytes, durability: Durability) -> Result<()> {
        self.meet(
            Operation::Put,
            &[path],
            self.inner.put(path, content, durability),
        )
        .await
    }

    async fn reader(&self, path: &StoragePath, offset: u64) -> Result<Reader> {
        let reader = self.inner.reader(path, offset);
        Ok(self.faulty(path, self.meet(Operation::Reader, &[path], reader).await?))
    }

    async fn open(&self, path: &StoragePath) -> Result<Option<File>> {
        self.meet(Operation::Open, &[path], self.inner.open(path))
            .await
    }

    async fn writer(&self, path: &StoragePath, mode: WriteMode) -> Result<Box<dyn Writer>> {
        let writer = self.inner.writer(path, mode);
        let inner = self.meet(Operation::Writer, &[path], writer).await?;
        Ok(Box::new(FaultWriter {
            driver: self.clone(),
            path: path.clone(),
            inner,
            broken: false,
            _busy: self.busy(),
        }))
    }

    async fn stat(&self, path: &StoragePath) -> Result<Stat> {
        self.meet(Operation::Stat, &[path], self.inner.stat(path))
            .await
    }

    async fn list(
        &self,
        path: &StoragePath,
        after: Option<&str>,
        limit: Option<usize>,
    ) -> Result<Vec<Entry>> {
        self.meet(
            Operation::List,
            &[path],
            self.inner.list(path, after, limit),
        )
        .await
    }

    async fn rename(&self, from: &StoragePath, to: &StoragePath) -> Result<()> {
        self.meet(Operation::Rename, &[from, to], self.inner.rename(from, to))
            .await
    }

    async fn delete(&self, path: &StoragePath) -> Result<()> {
        self.meet(Operation::Delete, &[path], self.inner.delete(path))
            .await
    }

    fn claim(&self, claim: Claim<'_>) -> Result<Option<Claimed>, ClaimError> {
        let root = StoragePath::root();
        match self.with(|plan| plan.next(Operation::Claim, &[&root])) {
            Some(_) => Err(io::Error::from(io::ErrorKind::Unsupported).into()),
            None => self.inner.claim(claim),
        }
    }

    async fn check(&self) -> Result<()> {
        self.inner.check().await
    }

    async fn settled(&self) {
        self.inner.settled().await;
    }

    async fn remove_empty(&self, path: &StoragePath) -> Result<bool> {
        self.meet(Operation::Delete, &[path], self.inner.remove_empty(path))
            .await
    }

    async fn remove_leftovers(&self, older_than: Duration) -> Result<u64> {
        self.inner.remove_leftovers(older_than).await
    }

    async fn redirect_url(&self, request: RedirectRequest<'_>) -> Result<Option<String>> {
        let path = request.path;
        self.meet(
            Operation::RedirectUrl,
            &[path],
            self.inner.redirect_url(request),
        )
        .await
    }

    fn may_redirect(&self) -> bool {
        self.inner.may_redirect()
    }
}

#[derive(Debug)]
struct FaultWriter {
    driver: FaultDriver,
    path: StoragePath,
    inner: Box<dyn Writer>,
    broken: bool,
    _busy: Arc<()>,
}

impl FaultWriter {
    async fn write_short(&mut self, buffers: Vec<Bytes>, bytes: usize) -> Result<()> {
        let mut left = bytes;
        let short = buffers.into_iter().map(|buffer| {
            let length = left.min(buffer.len());
            left -= length;
            buffer.slice(..length)
        });
        self.inner.write(short.collect()).await
    }
}

#[async_trait]
impl Writer for FaultWriter {
    async fn write(&mut self, buffers: Vec<Bytes>) -> Result<()> {
        if std::mem::replace(&mut self.broken, true) {
            return Err(Error::broken_writer(&self.path));
        }
        match self
            .driver
            .with(|plan| plan.next(Operation::Write, &[&self.path]))
        {
            None => self.inner.write(buffers).await?,
            Some(Effect::Fail(cause)) => return Err(cause.error(&self.path)),
            Some(Effect::FailAfter(cause)) => {
                self.inner.write(buffers).await?;
                return Err(cause.error(&self.path));
            }
            Some(Effect::Short(bytes, cause)) => {
                self.write_short(buffers, bytes).await?;
                return Err(cause.error(&self.path));
            }
            Some(Effect::Delay(time)) => {
                tokio::time::sleep(time).await;
                self.inner.write(buffers).await?;
            }
            Some(Effect::Hang) => std::future::pending().await,
        }
        self.broken = false;
        Ok(())
    }

    fn size(&self) -> u64 {
        self.inner.size()
    }

    async fn close(self: Box<Self>) -> Result<()> {
        if self.broken {
            return Err(Error::broken_writer(&self.path));
        }
        self.driver
            .meet(Operation::Close, &[&self.path], self.inner.close())
            .await
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        if self.broken {
            return Err(Error::broken_writer(&self.path));
        }
        self.driver
            .meet(Operation::Commit, &[&self.path], self.inner.commit())
            .await
    }

    async fn cancel(self: Box<Self>) -> Result<()> {
        self.driver
            .meet(Operation::Cancel, &[&self.path], self.inner.cancel())
            .await
    }
}

#[cfg(test)]
mod tests;
