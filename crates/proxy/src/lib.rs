//! The pull-through cache: [`Cache`] keeps what is pulled from another registry.

mod cache;
mod download;
mod error;
mod flights;
mod metrics;
mod spool;

pub use cache::{Answer, Cache, CacheOptions, CachedBlob, CachedRepository};
pub use error::{Error, Result};
pub use metrics::Metrics;
