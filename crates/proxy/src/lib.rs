//! The pull-through cache: [`Cache`] keeps what is pulled from another registry, and [`Upstreams`]
//! tells which of several a request is about.

mod cache;
mod download;
mod error;
mod flights;
mod metrics;
mod spool;
mod upstreams;

pub use cache::{Answer, Cache, CacheOptions, CachedBlob, CachedRepository};
pub use error::{Error, Result};
pub use metrics::Metrics;
pub use upstreams::{Asked, Kept, Misdirected, Upstreams};
