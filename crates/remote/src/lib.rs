//! Other registries over HTTP: [`Upstream`] asks one of them, and pushes to it.

mod error;
mod metrics;
mod upstream;

#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use error::{Refusal, UpstreamError};
pub use metrics::Metrics;
pub use upstream::{
    BlobStream, Credentials, DockerConfig, Exec, Fetched, Listed, Mounted, PushedManifest, Reach,
    RemoteUpload, Upstream,
};
