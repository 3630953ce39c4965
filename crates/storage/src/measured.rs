//! A driver whose calls are timed and traced.

use std::fs::File;
use std::future::ready;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tracing::{Instrument as _, Span};

use crate::{
    Claim, ClaimError, Claimed, Driver, Durability, Entry, Errand, Fetch, Listing, Reader,
    RedirectRequest, Result, Stat, Steps, StoragePath, WriteMode, Writer,
};

/// The upper ends of the histogram's buckets, in seconds: CNCF Distribution's, and smaller ones
/// for what a local disk answers from memory.
const BUCKETS: [f64; 16] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// What a driver is asked to do, under the names of CNCF Distribution's metrics and spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    GetContent,
    PutContent,
    Reader,
    Open,
    Writer,
    Write,
    Close,
    Commit,
    Cancel,
    Stat,
    List,
    Move,
    Delete,
    RedirectURL,
}

impl Action {
    const COUNT: usize = Self::RedirectURL as usize + 1;

    fn name(self) -> &'static str {
        match self {
            Self::GetContent => "GetContent",
            Self::PutContent => "PutContent",
            Self::Reader => "Reader",
            Self::Open => "Open",
            Self::Writer => "Writer",
            Self::Write => "Write",
            Self::Close => "Close",
            Self::Commit => "Commit",
            Self::Cancel => "Cancel",
            Self::Stat => "Stat",
            Self::List => "List",
            Self::Move => "Move",
            Self::Delete => "Delete",
            Self::RedirectURL => "RedirectURL",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    action: &'static str,
    driver: &'static str,
}

/// How long a driver's calls took.
#[derive(Debug)]
struct Timings {
    driver: &'static str,
    seconds: Family<Labels, Histogram, fn() -> Histogram>,
    /// What `seconds` has for each action, once it was asked for.
    actions: [OnceLock<Histogram>; Action::COUNT],
}

impl Timings {
    fn new(driver: &'static str) -> Self {
        Self {
            driver,
            seconds: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            actions: Default::default(),
        }
    }

    fn record(&self, action: Action, began: Instant) {
        let histogram = self.actions[action as usize].get_or_init(|| {
            self.seconds.get_or_create_owned(&Labels {
                action: action.name(),
                driver: self.driver,
            })
        });
        histogram.observe(began.elapsed().as_secs_f64());
    }

    /// Waits for a call that ends within `span`.
    async fn time<T>(
        &self,
        action: Action,
        span: Span,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let began = Instant::now();
        let result = call.instrument(span.clone()).await;
        self.ended(action, &span, began, &result);
        result
    }

    /// Notes how a call within `span` has ended.
    fn ended<T>(&self, action: Action, span: &Span, began: Instant, result: &Result<T>) {
        self.record(action, began);
        if let Err(error) = result
            && !error.is_not_found()
        {
            span.record("otel.status_code", "ERROR");
            span.record("otel.status_description", tracing::field::display(error));
        }
    }
}

/// A span for a call: there only where traces are collected, and named as CNCF Distribution's.
macro_rules! span {
    ($action:ident, $driver:expr, $path:expr $(, $($field:tt)+)?) => {
        tracing::debug_span!(
            target: "trace",
            stringify!($action),
            io.cncf.distribution.storage.driver.name = $driver,
            io.cncf.distribution.storage.path = %$path,
            $($($field)+,)?
            otel.status_code = tracing::field::Empty,
            otel.status_description = tracing::field::Empty,
        )
    };
}

/// Passes every call on to another driver, times it, and opens a span for it.
///
/// The spans' target is `trace`: a subscriber that wants lines only can leave them out. A call
/// whose future is dropped is not counted.
#[derive(Clone, Debug)]
pub struct MeasuredDriver {
    driver: Arc<dyn Driver>,
    timings: Arc<Timings>,
}

impl MeasuredDriver {
    /// Measures the calls of `driver`.
    pub fn new(driver: Arc<dyn Driver>) -> Self {
        let timings = Arc::new(Timings::new(driver.name()));
        Self { driver, timings }
    }

    /// Adds what is measured to `metrics`: `storage_action_seconds{action,driver}`.
    pub fn register(&self, metrics: &mut Registry) {
        metrics.register(
            "storage_action_seconds",
            "How long the storage driver's calls took, in seconds",
            self.timings.seconds.clone(),
        );
    }
}

#[async_trait]
impl Driver for MeasuredDriver {
    fn name(&self) -> &'static str {
        self.driver.name()
    }

    fn has_only_objects(&self) -> bool {
        self.driver.has_only_objects()
    }

    fn get<'a>(&'a self, path: &'a StoragePath) -> Fetch<'a> {
        let span = span!(GetContent, self.name(), path);
        let began = Instant::now();
        match span.in_scope(|| self.driver.get(path)) {
            Fetch::Left(content) => {
                let content = content.into_inner();
                self.timings
                    .ended(Action::GetContent, &span, began, &content);
                Fetch::Left(ready(content))
            }
            Fetch::Right(call) => {
                let timed = self.timings.time(Action::GetContent, span, call);
                Fetch::Right(Box::pin(timed))
            }
        }
    }

    async fn put(&self, path: &StoragePath, content: Bytes, durability: Durability) -> Result<()> {
        let length = content.len();
        let span = span!(
            PutContent,
            self.name(),
            path,
            io.cncf.distribution.storage.content.length = length
        );
        let call = self.driver.put(path, content, durability);
        self.timings.time(Action::PutContent, span, call).await
    }

    async fn put_all(&self, steps: Steps) -> Result<()> {
        let files = steps.iter().map(Vec::len).sum::<usize>();
        // One path stands for all of them: the last, which makes the others count.
        let path = steps.iter().flatten().next_back();
        let path = path.map_or("", |(path, _)| path.as_str());
        let span = span!(PutContent, self.name(), path, files);
        let call = self.driver.put_all(steps);
        self.timings.time(Action::PutContent, span, call).await
    }

    async fn move_and_put_all(
        &self,
        from: &StoragePath,
        to: &StoragePath,
        steps: Steps,
    ) -> Result<()> {
        let files = steps.iter().map(Vec::len).sum::<usize>();
        let span = span!(
            Move,
            self.name(),
            from,
            files,
            io.cncf.distribution.storage.dest.path = %to
        );
        let call = self.driver.move_and_put_all(from, to, steps);
        self.timings.time(Action::Move, span, call).await
    }

    async fn reader(&self, path: &StoragePath, offset: u64) -> Result<Reader> {
        let span = span!(
            Reader,
            self.name(),
            path,
            io.cncf.distribution.storage.offset = offset
        );
        let call = self.driver.reader(path, offset);
        self.timings.time(Action::Reader, span, call).await
    }

    async fn range_reader(&self, path: &StoragePath, range: Range<u64>) -> Result<Reader> {
        let span = span!(
            Reader,
            self.name(),
            path,
            io.cncf.distribution.storage.offset = range.start
        );
        let call = self.driver.range_reader(path, range);
        self.timings.time(Action::Reader, span, call).await
    }

    async fn open(&self, path: &StoragePath) -> Result<Option<File>> {
        let span = span!(Open, self.name(), path);
        let call = self.driver.open(path);
        self.timings.time(Action::Open, span, call).await
    }

    async fn writer(&self, path: &StoragePath, mode: WriteMode) -> Result<Box<dyn Writer>> {
        let append = matches!(mode, WriteMode::Append { .. });
        let span = span!(
            Writer,
            self.name(),
            path,
            io.cncf.distribution.storage.append = append
        );
        let call = self.driver.writer(path, mode);
        let writer = self.timings.time(Action::Writer, span, call).await?;
        Ok(Box::new(MeasuredWriter {
            writer,
            path: path.clone(),
            timings: Arc::clone(&self.timings),
        }))
    }

    async fn stat(&self, path: &StoragePath) -> Result<Stat> {
        let span = span!(Stat, self.name(), path);
        let call = self.driver.stat(path);
        self.timings.time(Action::Stat, span, call).await
    }

    async fn file_size(&self, path: &StoragePath) -> Result<u64> {
        let span = span!(Stat, self.name(), path);
        let call = self.driver.file_size(path);
        self.timings.time(Action::Stat, span, call).await
    }

    async fn list(
        &self,
        path: &StoragePath,
        after: Option<&str>,
        limit: Option<usize>,
    ) -> Result<Vec<Entry>> {
        let span = span!(List, self.name(), path);
        let call = self.driver.list(path, after, limit);
        self.timings.time(Action::List, span, call).await
    }

    async fn list_each(&self, paths: &[StoragePath]) -> Result<Vec<Option<Listing>>> {
        let path = paths.first().map_or("", StoragePath::as_str);
        let span = span!(List, self.name(), path, folders = paths.len());
        let call = self.driver.list_each(paths);
        self.timings.time(Action::List, span, call).await
    }

    async fn rename(&self, from: &StoragePath, to: &StoragePath) -> Result<()> {
        let span = span!(
            Move,
            self.name(),
            from,
            io.cncf.distribution.storage.dest.path = %to
        );
        let call = self.driver.rename(from, to);
        self.timings.time(Action::Move, span, call).await
    }

    async fn delete(&self, path: &StoragePath) -> Result<()> {
        let span = span!(Delete, self.name(), path);
        let call = self.driver.delete(path);
        self.timings.time(Action::Delete, span, call).await
    }

    async fn discard(&self, path: &StoragePath) -> Result<()> {
        let span = span!(Delete, self.name(), path);
        let call = self.driver.discard(path);
        self.timings.time(Action::Delete, span, call).await
    }

    async fn discard_file(&self, path: &StoragePath) -> Result<()> {
        let span = span!(Delete, self.name(), path);
        let call = self.driver.discard_file(path);
        self.timings.time(Action::Delete, span, call).await
    }

    async fn redirect_url(&self, request: RedirectRequest<'_>) -> Result<Option<String>> {
        let span = span!(RedirectURL, self.name(), request.path);
        let call = self.driver.redirect_url(request);
        self.timings.time(Action::RedirectURL, span, call).await
    }

    fn may_redirect(&self) -> bool {
        // That the driver was asked counts too, as in Distribution.
        true
    }

    // What follows keeps the house, and is no part of any request.

    fn claim(&self, claim: Claim<'_>) -> Result<Option<Claimed>, ClaimError> {
        self.driver.claim(claim)
    }

    fn errand(&self) -> Option<Errand> {
        self.driver.errand()
    }

    async fn check(&self) -> Result<()> {
        self.driver.check().await
    }

    async fn settled(&self) {
        self.driver.settled().await;
    }

    async fn remove_empty(&self, path: &StoragePath) -> Result<bool> {
        self.driver.remove_empty(path).await
    }

    async fn remove_leftovers(&self, older_than: Duration) -> Result<u64> {
        self.driver.remove_leftovers(older_than).await
    }
}

/// A writer of a measured driver.
#[derive(Debug)]
struct MeasuredWriter {
    writer: Box<dyn Writer>,
    path: StoragePath,
    timings: Arc<Timings>,
}

#[async_trait]
impl Writer for MeasuredWriter {
    async fn write(&mut self, buffers: Vec<Bytes>) -> Result<()> {
        let length = buffers.iter().map(Bytes::len).sum::<usize>();
        let span = span!(
            Write,
            self.timings.driver,
            self.path,
            io.cncf.distribution.storage.content.length = length
        );
        let call = self.writer.write(buffers);
        self.timings.time(Action::Write, span, call).await
    }

    fn size(&self) -> u64 {
        self.writer.size()
    }

    async fn close(self: Box<Self>) -> Result<()> {
        let span = span!(Close, self.timings.driver, self.path);
        let call = self.writer.close();
        self.timings.time(Action::Close, span, call).await
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        let span = span!(Commit, self.timings.driver, self.path);
        let call = self.writer.commit();
        self.timings.time(Action::Commit, span, call).await
    }

    async fn cancel(self: Box<Self>) -> Result<()> {
        let span = span!(Cancel, self.timings.driver, self.path);
        let call = self.writer.cancel();
        self.timings.time(Action::Cancel, span, call).await
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::prometheus_text::encode;

    use super::*;
    use crate::MemoryDriver;

    crate::contract_tests!((MeasuredDriver::new(Arc::new(MemoryDriver::new())), ()));

    #[tokio::test]
    async fn calls_are_counted_by_what_they_do_whether_they_succeed_or_fail() {
        let driver = MeasuredDriver::new(Arc::new(MemoryDriver::new()));
        let mut metrics = Registry::with_prefix("registry");
        driver.register(&mut metrics);
        let path: StoragePath = "/a/b".parse().unwrap();
        driver.get(&path).await.unwrap_err();
        driver
            .put(&path, "content".into(), Durability::Process)
            .await
            .unwrap();
        driver.get(&path).await.unwrap();
        let mut writer = driver.writer(&path, WriteMode::Create).await.unwrap();
        writer.write(vec!["other".into()]).await.unwrap();
        writer.commit().await.unwrap();
        let mut text = String::new();
        encode(&mut text, &metrics).unwrap();
        for (action, count) in [
            ("GetContent", 2),
            ("PutContent", 1),
            ("Writer", 1),
            ("Write", 1),
            ("Commit", 1),
        ] {
            let line = format!(
                "registry_storage_action_seconds_count{{action=\"{action}\",driver=\"inmemory\"}} \
                 {count}\n"
            );
            assert!(text.contains(&line), "{line}{text}");
        }
        assert!(!text.contains("Delete"), "{text}");
    }
}
