//! The pull-through cache: [`Cache`] keeps what is pulled from another registry, [`Upstreams`] tells
//! which of several a request is about, and [`Eviction`] removes what is not used any more.

mod cache;
mod download;
mod error;
mod eviction;
mod flights;
mod metrics;
mod spool;
mod upstreams;

pub use cache::{Answer, Cache, CacheOptions, CachedBlob, CachedRepository};
pub use error::{Error, Result};
pub use eviction::{Evicted, Eviction, EvictionOptions, Retention, Retentions, Uses};
pub use metrics::{EvictionMetrics, Metrics};
pub use upstreams::{Asked, Kept, Misdirected, Upstreams};
