//! Other registries as sources of content: [`Upstream`] asks one of them, and [`Cache`] keeps what
//! is pulled through it.

mod cache;
mod download;
mod error;
mod flights;
mod metrics;
mod spool;
mod upstream;

#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use cache::{Answer, Cache, CacheOptions, CachedBlob, CachedRepository};
pub use error::{Error, Refusal, Result, UpstreamError};
pub use metrics::Metrics;
pub use upstream::{BlobStream, Credentials, Exec, Fetched, Listed, Upstream};
