//! What is counted of caches: under Distribution's names of all upstreams together, and by
//! upstream.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use wharfinger_remote::Upstream;

/// What is counted of all upstreams.
#[derive(Clone, Debug)]
pub struct Metrics {
    upstreams: wharfinger_remote::Metrics,
    stale: Family<UpstreamLabels, Counter>,
    hits: Family<ServedLabels, Counter>,
    misses: Family<ServedLabels, Counter>,
    all: All,
}

/// What is counted of evictions.
#[derive(Clone, Debug, Default)]
pub struct EvictionMetrics {
    evicted: Family<EvictedLabels, Counter>,
    bytes: Family<ReasonLabels, Counter>,
    pub(crate) size: Gauge,
}

/// Why something is evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// It was not used for longer than its time to live.
    Ttl,
    /// More was kept than may be.
    Size,
}

impl EncodeLabelValue for Reason {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        let name = match self {
            Self::Ttl => "ttl",
            Self::Size => "size",
        };
        name.encode(encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EvictedLabels {
    reason: Reason,
    r#type: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: Reason,
}

impl EvictionMetrics {
    pub(crate) fn evicted(&self, reason: Reason, r#type: Kind, number: u64, bytes: u64) {
        let labels = EvictedLabels { reason, r#type };
        self.evicted.get_or_create(&labels).inc_by(number);
        let labels = ReasonLabels { reason };
        self.bytes.get_or_create(&labels).inc_by(bytes);
    }

    /// Lets `registry` tell them, under names that begin with `proxy_`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "proxy_evicted",
            "Manifests and blobs that were removed as they were not used (ttl) or took room (size)",
            self.evicted.clone(),
        );
        registry.register(
            "proxy_evicted_bytes",
            "Bytes that this has freed",
            self.bytes.clone(),
        );
        registry.register(
            "proxy_kept_bytes",
            "Bytes of manifests and blobs that only caches keep, when it was looked last",
            self.size.clone(),
        );
    }
}

/// What Distribution counts, of all upstreams together.
#[derive(Clone, Debug, Default)]
struct All {
    requests: Family<KindLabels, Counter>,
    hits: Family<KindLabels, Counter>,
    misses: Family<KindLabels, Counter>,
    pulled_bytes: Family<KindLabels, Counter>,
    pushed_bytes: Family<KindLabels, Counter>,
}

/// What is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Manifest,
    Blob,
}

impl EncodeLabelValue for Kind {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        let name = match self {
            Self::Blob => "blob",
            Self::Manifest => "manifest",
        };
        name.encode(encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    r#type: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServedLabels {
    upstream: String,
    r#type: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpstreamLabels {
    upstream: String,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            upstreams: wharfinger_remote::Metrics::default(),
            stale: Family::default(),
            hits: Family::default(),
            misses: Family::default(),
            all: All::new(),
        }
    }
}

impl All {
    /// All of them from the beginning on, with nothing counted.
    fn new() -> Self {
        let all = Self::default();
        for r#type in [Kind::Blob, Kind::Manifest] {
            for family in [
                &all.requests,
                &all.hits,
                &all.misses,
                &all.pulled_bytes,
                &all.pushed_bytes,
            ] {
                drop(family.get_or_create(&KindLabels { r#type }));
            }
        }
        all
    }
}

impl Metrics {
    /// Lets `registry` tell them, under names that begin with `proxy_`.
    pub fn register(&self, registry: &mut Registry) {
        let proxy = registry.sub_registry_with_prefix("proxy");
        self.upstreams.register(proxy);
        for (name, help, family) in [
            (
                "proxy_upstream_hits",
                "Manifests and blobs of an upstream that were served from the cache",
                &self.hits,
            ),
            (
                "proxy_upstream_misses",
                "Manifests and blobs that an upstream was asked for",
                &self.misses,
            ),
        ] {
            registry.register(name, help, family.clone());
        }
        registry.register(
            "proxy_upstream_stale",
            "Answers from the cache that the upstream did not confirm",
            self.stale.clone(),
        );
        let all = &self.all;
        for (name, help, family) in [
            (
                "proxy_requests",
                "Manifests and blobs that were served",
                &all.requests,
            ),
            (
                "proxy_hits",
                "Those that were served from the cache",
                &all.hits,
            ),
            (
                "proxy_misses",
                "Those that were pulled from the upstream",
                &all.misses,
            ),
            (
                "proxy_pulled_bytes",
                "Bytes of manifests and blobs pulled from the upstream",
                &all.pulled_bytes,
            ),
            (
                "proxy_pushed_bytes",
                "Bytes of manifests and blobs served to clients",
                &all.pushed_bytes,
            ),
        ] {
            registry.register(name, help, family.clone());
        }
    }

    /// What is counted of any upstream that is asked.
    pub fn upstreams(&self) -> &wharfinger_remote::Metrics {
        &self.upstreams
    }

    /// Counts what is served, from the cache or not.
    pub(crate) fn served(&self, upstream: &Upstream, r#type: Kind, size: u64, hit: bool) {
        let labels = KindLabels { r#type };
        let upstream = upstream.name().to_owned();
        let of_upstream = ServedLabels { upstream, r#type };
        self.all.requests.get_or_create(&labels).inc();
        self.all.pushed_bytes.get_or_create(&labels).inc_by(size);
        match hit {
            true => {
                self.all.hits.get_or_create(&labels).inc();
                self.hits.get_or_create(&of_upstream).inc();
            }
            false => {
                self.misses.get_or_create(&of_upstream).inc();
            }
        }
    }

    /// Counts what was pulled from an upstream.
    pub(crate) fn pulled(&self, r#type: Kind, size: u64) {
        let labels = KindLabels { r#type };
        self.all.misses.get_or_create(&labels).inc();
        self.all.pulled_bytes.get_or_create(&labels).inc_by(size);
    }

    /// Where it is counted what is served although an upstream does not confirm it.
    pub(crate) fn stale(&self, upstream: &Upstream) -> Counter {
        let upstream = upstream.name().to_owned();
        self.stale
            .get_or_create(&UpstreamLabels { upstream })
            .clone()
    }
}
