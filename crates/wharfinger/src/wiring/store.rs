//! The store.

mod azure;
mod gcs;
mod s3;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};
use wharfinger_client::Client;
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
    /// In a bucket, or a container.
    Bucket(Bucket),
}

/// A bucket, or what a store calls so otherwise.
#[derive(Debug)]
pub(crate) struct Bucket {
    driver: ObjectDriver,
    name: String,
    /// What the store calls it.
    kind: &'static str,
    /// The key with its name.
    key: &'static str,
}

impl Bucket {
    /// Why files cannot be kept in it, as far as the store tells.
    async fn ask(&self) -> wharfinger_storage::Result<Option<&'static str>> {
        let root = StoragePath::root();
        self.driver.list(&root, None, Some(1)).await?;
        // Who may use it need not be one who may ask this.
        Ok(self.driver.unsuitable().await.unwrap_or_default())
    }
}

impl Store {
    /// # Errors
    /// The key that is wrong.
    pub(crate) fn open(config: &Config) -> Result<Self, Unusable> {
        let storage = &config.storage;
        if let Some(filesystem) = &storage.filesystem {
            let mut options = FilesystemOptions::new(PathBuf::from(&filesystem.rootdirectory));
            options.max_threads = count(filesystem.maxthreads);
            options.journal = filesystem.journal;
            let driver = FilesystemDriver::new(options);
            let driver = driver.map_err(|error| unusable(Self::FOLDER)(&error))?;
            return Ok(Self::Filesystem(driver));
        }
        if let Some(s3) = &storage.s3 {
            return Ok(Self::Bucket(s3::bucket(s3)?));
        }
        if let Some(azure) = &storage.azure {
            return Ok(Self::Bucket(azure::container(azure)?));
        }
        if let Some(gcs) = &storage.gcs {
            return Ok(Self::Bucket(gcs::bucket(gcs)?));
        }
        Ok(Self::Memory(MemoryDriver::new()))
    }

    const FOLDER: &str = "storage.filesystem.rootdirectory";

    /// The key that says where it is.
    pub(crate) fn key(&self) -> &'static str {
        match self {
            Self::Filesystem(_) => Self::FOLDER,
            Self::Memory(_) => "storage.inmemory",
            Self::Bucket(bucket) => bucket.key,
        }
    }

    /// Asks a store that is elsewhere whether it can be used. One that does not answer may do so
    /// later.
    ///
    /// # Errors
    /// What the store says to be wrong.
    pub(crate) async fn ask(&self) -> Result<(), Unusable> {
        let Self::Bucket(bucket) = self else {
            return Ok(());
        };
        let Bucket { name, kind, .. } = bucket;
        match tokio::time::timeout(FIRST_ANSWER, bucket.ask()).await {
            Ok(Ok(Some(reason))) => Err(unusable(self.key())(&reason)),
            Ok(Ok(None)) => {
                info!(
                    bucket = name,
                    "others may write to the {kind} too, which cannot be seen: garbage-collect works as \
                     beside them"
                );
                Ok(())
            }
            Ok(Err(error)) if error.is_refused() || is_missing(&error) => {
                Err(unusable(self.key())(&error))
            }
            Ok(Err(error)) => {
                warn!(bucket = name, %error, "the {kind} cannot be used yet");
                Ok(())
            }
            Err(_) => {
                warn!(bucket = name, "the {kind} does not answer yet");
                Ok(())
            }
        }
    }

    /// The driver of a bucket.
    pub(crate) fn objects(&self) -> Option<&ObjectDriver> {
        match self {
            Self::Bucket(bucket) => Some(&bucket.driver),
            Self::Filesystem(_) | Self::Memory(_) => None,
        }
    }

    pub(crate) fn driver(&self) -> Arc<dyn Driver> {
        match self {
            Self::Filesystem(driver) => Arc::new(driver.clone()),
            Self::Memory(driver) => Arc::new(driver.clone()),
            Self::Bucket(bucket) => Arc::new(bucket.driver.clone()),
        }
    }

    /// Where it is, for people.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::Filesystem(driver) => driver.root().display().to_string(),
            Self::Memory(_) => "memory (everything is gone when it stops)".to_owned(),
            Self::Bucket(Bucket { name, kind, .. }) => format!("the {kind} {name}"),
        }
    }
}

/// Whether the store says that there is no such bucket.
fn is_missing(error: &wharfinger_storage::Error) -> bool {
    let text = error.to_string();
    text.contains("NoSuchBucket") || text.contains("ContainerNotFound")
}

/// The client that a store is asked by, to which parts of `part` bytes are sent. `section` is
/// where its keys are.
fn client(
    section: &'static str,
    skip_verify: bool,
    user_agent: &str,
    part: u64,
) -> Result<Client, Unusable> {
    let builder = match skip_verify {
        true => wharfinger_client::trusting_builder(),
        false => wharfinger_client::builder(wharfinger_client::authorities()),
    };
    let name = format!("{} {user_agent}", wharfinger_client::USER_AGENT);
    builder
        .user_agent(name.trim_end())
        .connect_timeout(CONNECTING)
        .read_timeout(SILENCE + Duration::from_secs(part / SLOWEST))
        .build()
        .map_err(|error| unusable(section)(&wharfinger_client::cause(&error)))
}
