//! The store.

mod gcs;
mod s3;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};
use wharfinger_config::Config;
use wharfinger_storage::{
    Driver, FilesystemDriver, FilesystemOptions, MemoryDriver, ObjectDriver, StoragePath,
};

use super::{Unusable, count, unusable};

/// How long a store may take to be connected to.
const CONNECTING: Duration = Duration::from_secs(10);

/// How long a store may be silent within a request, besides the time that sending a part takes.
const SILENCE: Duration = Duration::from_secs(60);

/// How fast parts must be sent at least, in bytes a second.
const SLOWEST: u64 = 256 * 1024;

/// How long a store may take at the start before the registry begins without its answer.
const FIRST_ANSWER: Duration = Duration::from_secs(15);

/// The store.
#[derive(Debug)]
pub(crate) enum Store {
    /// In a folder.
    Filesystem(FilesystemDriver),
    /// In memory.
    Memory(MemoryDriver),
    /// In a bucket, by its name.
    Bucket(ObjectDriver, String),
}

impl Store {
    /// # Errors
    /// The key that is wrong.
    pub(crate) fn open(config: &Config) -> Result<Self, Unusable> {
        let storage = &config.storage;
        if let Some(filesystem) = &storage.filesystem {
            let mut options = FilesystemOptions::new(PathBuf::from(&filesystem.rootdirectory));
            options.max_threads = count(filesystem.maxthreads);
            let driver = FilesystemDriver::new(options);
            let driver = driver.map_err(|error| unusable(Self::FOLDER)(&error))?;
            return Ok(Self::Filesystem(driver));
        }
        if let Some(s3) = &storage.s3 {
            return Ok(Self::Bucket(s3::bucket(s3)?, s3.bucket.clone()));
        }
        if let Some(gcs) = &storage.gcs {
            return Ok(Self::Bucket(gcs::bucket(gcs)?, gcs.bucket.clone()));
        }
        Ok(Self::Memory(MemoryDriver::new()))
    }

    const FOLDER: &str = "storage.filesystem.rootdirectory";

    /// The key that says where it is.
    pub(crate) fn key(&self) -> &'static str {
        match self {
            Self::Filesystem(_) => Self::FOLDER,
            Self::Memory(_) => "storage.inmemory",
            Self::Bucket(driver, _) if driver.name() == ObjectDriver::GCS => "storage.gcs.bucket",
            Self::Bucket(..) => "storage.s3.bucket",
        }
    }

    /// Asks a store that is elsewhere whether it can be used. One that does not answer may do so
    /// later.
    ///
    /// # Errors
    /// What the store says to be wrong.
    pub(crate) async fn ask(&self) -> Result<(), Unusable> {
        let Self::Bucket(driver, name) = self else {
            return Ok(());
        };
        let root = StoragePath::root();
        let listed = driver.list(&root, None, Some(1));
        match tokio::time::timeout(FIRST_ANSWER, listed).await {
            Ok(Ok(_)) => {
                info!(
                    bucket = name,
                    "others may write to the bucket too, and nobody can be kept from it: collect \
                     garbage only while every registry on it is stopped or read-only"
                );
                Ok(())
            }
            Ok(Err(error)) if error.is_refused() || error.to_string().contains("NoSuchBucket") => {
                Err(unusable(self.key())(&error))
            }
            Ok(Err(error)) => {
                warn!(bucket = name, %error, "the bucket cannot be used yet");
                Ok(())
            }
            Err(_) => {
                warn!(bucket = name, "the bucket does not answer yet");
                Ok(())
            }
        }
    }

    pub(crate) fn driver(&self) -> Arc<dyn Driver> {
        match self {
            Self::Filesystem(driver) => Arc::new(driver.clone()),
            Self::Memory(driver) => Arc::new(driver.clone()),
            Self::Bucket(driver, _) => Arc::new(driver.clone()),
        }
    }

    /// Where it is, for people.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::Filesystem(driver) => driver.root().display().to_string(),
            Self::Memory(_) => "memory (everything is gone when it stops)".to_owned(),
            Self::Bucket(_, name) => format!("the bucket {name}"),
        }
    }
}

/// A client that asks a store: parts of `part` bytes are sent over it.
///
/// # Errors
/// What is wrong with it.
fn client(
    builder: reqwest::ClientBuilder,
    useragent: &str,
    part: u64,
) -> Result<reqwest::Client, String> {
    let name = format!("{} {useragent}", wharfinger_client::USER_AGENT);
    builder
        .user_agent(name.trim_end())
        .connect_timeout(CONNECTING)
        .read_timeout(SILENCE + Duration::from_secs(part / SLOWEST))
        .build()
        .map_err(|error| wharfinger_client::cause(&error))
}
