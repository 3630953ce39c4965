//! What a registry counts: its caches and its uploads.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry as Metrics;

use crate::Registry;
use crate::descriptor_cache::DescriptorCache;
use crate::repository::SharedRef;

/// How often a cache knew, and did not know, what it was asked for. Each thread counts in one of
/// several places, so that processors do not wait for each other.
#[derive(Debug, Default)]
pub(crate) struct Lookups([Counts; 16]);

/// In a cache line of its own; processors fetch two at once.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Lookups {
    /// Counts a lookup, and hands what was found on.
    pub(crate) fn count<T>(&self, found: Option<T>) -> Option<T> {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static THREAD: usize = THREADS.fetch_add(1, Relaxed);
        }
        let counts = &self.0[THREAD.with(|thread| thread % self.0.len())];
        let count = match found {
            Some(_) => &counts.hits,
            None => &counts.misses,
        };
        count.fetch_add(1, Relaxed);
        found
    }

    /// How often it knew.
    fn hits(&self) -> u64 {
        self.0.iter().map(|counts| counts.hits.load(Relaxed)).sum()
    }

    /// How often it did not.
    fn misses(&self) -> u64 {
        let misses = self.0.iter().map(|counts| counts.misses.load(Relaxed));
        misses.sum()
    }
}

/// What became of uploads.
#[derive(Debug, Default)]
pub(crate) struct UploadCounts {
    open: AtomicI64,
    pub(crate) begun: AtomicU64,
    pub(crate) completed: AtomicU64,
    pub(crate) cancelled: AtomicU64,
}

impl UploadCounts {
    /// Counts one more.
    pub(crate) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Relaxed);
    }
}

/// Counts an upload as open for as long as a request works on it.
#[derive(Debug)]
pub(crate) struct OpenUpload(SharedRef);

impl OpenUpload {
    pub(crate) fn new(shared: &SharedRef) -> Self {
        shared.uploads_counted.open.fetch_add(1, Relaxed);
        Self(Arc::clone(shared))
    }
}

impl Drop for OpenUpload {
    fn drop(&mut self) {
        self.0.uploads_counted.open.fetch_sub(1, Relaxed);
    }
}

impl Registry {
    /// Adds what is counted to `metrics`, whose prefix should be `registry`. The names and types
    /// of what CNCF Distribution counts too are its own, of 2.x and 3.x.
    pub fn register(&self, metrics: &mut Metrics) {
        metrics.register_collector(Box::new(Counted(Arc::clone(&self.shared))));
    }
}

/// Gives the numbers at the time they are asked for.
#[derive(Debug)]
struct Counted(SharedRef);

impl Collector for Counted {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let shared = &self.0;
        let mut counter = |name, help, value: u64| {
            let metric = ConstCounter::new(value);
            let encoder = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            metric.encode(encoder)
        };
        let number = |counter: &AtomicU64| counter.load(Relaxed);

        let descriptors = &shared.descriptor_lookups;
        let hits = descriptors.hits();
        let requests = hits + descriptors.misses();
        let asked = "How often the descriptor cache was asked";
        counter("storage_cache_requests", asked, requests)?;
        let knew = "How often the descriptor cache knew the answer";
        counter("storage_cache_hits", knew, hits)?;
        let failed = "How often the descriptor cache failed";
        let cache = shared.descriptors.as_ref();
        let errors = cache.map_or(0, DescriptorCache::errors);
        counter("storage_cache_errors", failed, errors)?;

        let content = &shared.blobs.content().lookups;
        let content_hits = content.hits();
        let content_requests = content_hits + content.misses();
        let asked = "How often the cache of small content was asked";
        counter("content_cache_requests", asked, content_requests)?;
        let knew = "How often the cache of small content had it";
        counter("content_cache_hits", knew, content_hits)?;

        let uploads = &shared.uploads_counted;
        for (name, help, value) in [
            ("uploads_begun", "Uploads that were begun", &uploads.begun),
            (
                "uploads_completed",
                "Uploads that ended in a blob",
                &uploads.completed,
            ),
            (
                "uploads_cancelled",
                "Uploads that ended in nothing",
                &uploads.cancelled,
            ),
        ] {
            counter(name, help, number(value))?;
        }

        let collected = Registry {
            shared: Arc::clone(shared),
        }
        .collect_progress();
        for (name, help, value) in [
            (
                "gc_succeeded",
                "Collections that ended well",
                collected.succeeded,
            ),
            ("gc_failed", "Collections that failed", collected.failed),
            (
                "gc_removed_manifests",
                "Manifests that collections removed",
                collected.removed_manifests,
            ),
            (
                "gc_removed_links",
                "Links that collections removed",
                collected.removed_links,
            ),
            (
                "gc_removed_blobs",
                "Blobs that collections removed",
                collected.removed_blobs,
            ),
            (
                "gc_removed_bytes",
                "Bytes of the blobs that collections removed",
                collected.removed_bytes,
            ),
            (
                "gc_removed_repositories",
                "Empty repositories that collections removed",
                collected.removed_repositories,
            ),
            (
                "gc_spared",
                "Blobs and manifests that collections had condemned and spared",
                collected.spared,
            ),
        ] {
            counter(name, help, value)?;
        }

        let verified = &shared.verified;
        for (name, help, value) in [
            (
                "verify_blobs",
                "Blobs that were read again in the background",
                &verified.blobs,
            ),
            (
                "verify_bytes",
                "Bytes of blobs that were read again in the background",
                &verified.bytes,
            ),
            (
                "verify_damaged_blobs",
                "How often a blob was found damaged, in the background or while it was served",
                &verified.damaged,
            ),
            (
                "quarantined_blobs",
                "Damaged blobs that were put aside",
                &verified.quarantined,
            ),
        ] {
            counter(name, help, number(value))?;
        }

        let by_type = "What became of lookups in the descriptor cache, as Distribution 2 counts";
        let mut types =
            encoder.encode_descriptor("storage_cache", by_type, None, MetricType::Counter)?;
        for (kind, value) in [
            ("Hit", hits),
            ("Miss", requests.saturating_sub(hits)),
            ("Request", requests),
        ] {
            let labels = [("type", kind)];
            ConstCounter::new(value).encode(types.encode_family(&labels)?)?;
        }

        let mut gauge = |name, help, value: i64| {
            let metric = ConstGauge::new(value);
            let encoder = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            metric.encode(encoder)
        };
        let size = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        let entries = shared.descriptors.as_ref().map_or(0, |cache| cache.len());
        let kept = "How many descriptors the descriptor cache has";
        gauge("storage_cache_entries", kept, size(entries))?;
        let content = shared.blobs.content();
        let kept = "How many manifests and small blobs are in memory";
        gauge("content_cache_entries", kept, size(content.len()))?;
        let kept = "How many bytes the manifests and small blobs in memory take";
        let bytes = i64::try_from(content.bytes()).unwrap_or(i64::MAX);
        gauge("content_cache_bytes", kept, bytes)?;
        let open = "How many uploads requests are working on";
        gauge("uploads_open", open, uploads.open.load(Relaxed))?;

        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let activity = "What the collection does: 0 nothing, 1 it marks, 2 it looks for blobs, 3 it \
                        waits for pardons, 4 it marks again, 5 it waits for others to notice, 6 it \
                        removes, 7 it removes what is left";
        gauge("gc_activity", activity, collected.activity as i64)?;
        let done = "How much of that is done";
        gauge("gc_activity_done", done, number(collected.done))?;
        let expected = "How much of it there is, as far as can be told; 0 where nothing can";
        gauge("gc_activity_expected", expected, number(collected.expected))?;
        let left = "How long it takes yet, as far as can be told, in seconds";
        let seconds_left = number(collected.seconds_left.unwrap_or(0));
        gauge("gc_activity_left_seconds", left, seconds_left)?;
        let looked = "How many repositories the collection has looked through";
        gauge("gc_repositories", looked, number(collected.repositories))?;
        let marked = "How many manifests the collection has marked";
        gauge("gc_manifests", marked, number(collected.manifests))?;
        let condemned = "How many blobs the collection has condemned";
        gauge("gc_condemned_blobs", condemned, number(collected.condemned))?;
        let last = "When the last collection ended well, in seconds since 1970";
        let last_success = number(collected.last_success);
        gauge("gc_last_success_timestamp_seconds", last, last_success)?;
        let last = "When all blobs had been read again the last time, in seconds since 1970";
        let last_pass = number(verified.last_pass.load(Relaxed));
        gauge("verify_last_pass_timestamp_seconds", last, last_pass)
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::prometheus_text::encode;
    use wharfinger_storage::MemoryDriver;

    use super::*;
    use crate::Options;

    fn text(metrics: &Metrics) -> String {
        let mut text = String::new();
        encode(&mut text, metrics).unwrap();
        text
    }

    fn value(text: &str, name: &str) -> u64 {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in {text}"))
            .parse()
            .unwrap()
    }

    #[tokio::test]
    async fn lookups_and_uploads_are_counted() {
        let driver = Arc::new(MemoryDriver::new());
        let registry = Registry::new(driver, Options::default()).unwrap();
        let mut metrics = Metrics::with_prefix("registry");
        registry.register(&mut metrics);
        let blobs = registry.repository(&"a".parse().unwrap()).blobs();
        let descriptor = blobs.put("content".into()).await.unwrap();
        for _ in 0..3 {
            blobs.stat(&descriptor.digest).await.unwrap();
            blobs.get(&descriptor).await.unwrap();
        }
        blobs
            .stat(&wharfinger_oci::Digest::canonical(b"missing"))
            .await
            .unwrap_err();
        let now = text(&metrics);
        assert_eq!(value(&now, "registry_storage_cache_requests_total"), 4);
        assert_eq!(value(&now, "registry_storage_cache_hits_total"), 3);
        let misses = "registry_storage_cache_total{type=\"Miss\"}";
        assert_eq!(value(&now, misses), 1);
        assert_eq!(value(&now, "registry_storage_cache_entries"), 1);
        assert_eq!(value(&now, "registry_content_cache_requests_total"), 3);
        assert_eq!(value(&now, "registry_content_cache_hits_total"), 2);
        assert_eq!(value(&now, "registry_content_cache_entries"), 1);
        assert!(value(&now, "registry_content_cache_bytes") >= 7);

        let upload = blobs.create(wharfinger_oci::Algorithm::CANONICAL).unwrap();
        assert_eq!(value(&text(&metrics), "registry_uploads_open"), 1);
        let id = upload.id().clone();
        upload.pause().await.unwrap();
        assert_eq!(value(&text(&metrics), "registry_uploads_open"), 0);
        let upload = blobs
            .resume(&id, None, wharfinger_oci::Algorithm::CANONICAL)
            .await
            .unwrap();
        let empty = wharfinger_oci::Digest::canonical(b"");
        upload.commit(&empty).await.unwrap();
        let upload = blobs.create(wharfinger_oci::Algorithm::CANONICAL).unwrap();
        upload.cancel().await.unwrap();
        let upload = blobs.create(wharfinger_oci::Algorithm::CANONICAL).unwrap();
        upload.commit(&descriptor.digest).await.unwrap_err();
        let now = text(&metrics);
        assert_eq!(value(&now, "registry_uploads_begun_total"), 3);
        assert_eq!(value(&now, "registry_uploads_completed_total"), 1);
        assert_eq!(value(&now, "registry_uploads_cancelled_total"), 2);
        assert_eq!(value(&now, "registry_uploads_open"), 0);
    }
}
