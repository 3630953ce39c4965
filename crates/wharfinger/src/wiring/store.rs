//! The store.

use std::path::PathBuf;
use std::sync::Arc;

use tracing::warn;
use wharfinger_config::Config;
use wharfinger_storage::{
    Claim, ClaimError, Claimed, Driver, FilesystemDriver, FilesystemOptions, MemoryDriver,
};

use super::count;

/// The store.
pub(crate) enum Store {
    /// In a folder.
    Filesystem(FilesystemDriver),
    /// In memory.
    Memory(MemoryDriver),
}

impl Store {
    pub(crate) fn open(config: &Config) -> Result<Self, wharfinger_storage::Error> {
        match &config.storage.filesystem {
            Some(filesystem) => {
                let mut options = FilesystemOptions::new(PathBuf::from(&filesystem.rootdirectory));
                options.max_threads = count(filesystem.maxthreads);
                FilesystemDriver::new(options).map(Self::Filesystem)
            }
            None => Ok(Self::Memory(MemoryDriver::new())),
        }
    }

    pub(crate) fn driver(&self) -> Arc<dyn Driver> {
        match self {
            Self::Filesystem(driver) => Arc::new(driver.clone()),
            Self::Memory(driver) => Arc::new(driver.clone()),
        }
    }

    /// Says how this process works on the store, as long as what is returned is kept; `None` where
    /// no other process can work on it, or where that cannot be said.
    ///
    /// # Errors
    /// When others' claims are in the way.
    pub(crate) fn claim(&self, claim: Claim) -> Result<Option<Claimed>, ClaimError> {
        let Self::Filesystem(driver) = self else {
            return Ok(None);
        };
        match driver.claim(claim) {
            Err(error @ ClaimError::Unlockable(_)) => {
                warn!(%error, "other processes are not told that this one works on the store");
                Ok(None)
            }
            claimed => claimed.map(Some),
        }
    }

    /// Where it is, for people.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::Filesystem(driver) => driver.root().display().to_string(),
            Self::Memory(_) => "memory (everything is gone when it stops)".to_owned(),
        }
    }
}
