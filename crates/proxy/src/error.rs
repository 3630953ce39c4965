//! What can go wrong with what is pulled through.

use std::io;
use std::sync::Arc;

use thiserror::Error;
use wharfinger_remote::UpstreamError;

use crate::download::Failure;

/// The result of a cache's operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a cache does not serve what it was asked for.
#[derive(Debug, Error)]
pub enum Error {
    /// It is not kept, and the upstream does not give it.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The registry failed that keeps it.
    #[error(transparent)]
    Registry(#[from] wharfinger_registry::Error),
    /// The file failed that it comes through.
    #[error("what is on its way cannot be kept: {0}")]
    Spool(Arc<io::Error>),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Upstream(error) => Self::Upstream(error),
            Failure::Spool(error) => Self::Spool(error),
        }
    }
}
