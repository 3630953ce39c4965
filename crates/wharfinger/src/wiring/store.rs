//! The store.

use std::path::PathBuf;
use std::sync::Arc;

use wharfinger_config::Config;
use wharfinger_storage::{Driver, FilesystemDriver, FilesystemOptions, MemoryDriver};

use super::count;

/// The store.
#[derive(Debug)]
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

    /// Where it is, for people.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::Filesystem(driver) => driver.root().display().to_string(),
            Self::Memory(_) => "memory (everything is gone when it stops)".to_owned(),
        }
    }
}
