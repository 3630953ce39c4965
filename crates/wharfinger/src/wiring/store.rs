//! The store.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};
use wharfinger_config::{Config, S3};
use wharfinger_storage::{
    Amazon, CopyOptions, Driver, FilesystemDriver, FilesystemOptions, MemoryDriver, ObjectDriver,
    Retries, S3Credentials, S3Encryption, S3Endpoint, S3Options, StoragePath,
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
        match &storage.s3 {
            Some(s3) => Ok(Self::Bucket(bucket(s3)?, s3.bucket.clone())),
            None => Ok(Self::Memory(MemoryDriver::new())),
        }
    }

    const FOLDER: &str = "storage.filesystem.rootdirectory";

    /// The key that says where it is.
    pub(crate) fn key(&self) -> &'static str {
        match self {
            Self::Filesystem(_) => Self::FOLDER,
            Self::Memory(_) => "storage.inmemory",
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

    /// The driver of a bucket.
    pub(crate) fn objects(&self) -> Option<&ObjectDriver> {
        match self {
            Self::Bucket(driver, _) => Some(driver),
            Self::Filesystem(_) | Self::Memory(_) => None,
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

fn bucket(s3: &S3) -> Result<ObjectDriver, Unusable> {
    let credentials = match s3.accesskey.is_empty() {
        true => S3Credentials::found().map_err(|error| unusable("storage.s3.accesskey")(&error))?,
        false => S3Credentials::Keys {
            access_key: s3.accesskey.expose().to_owned(),
            secret_key: s3.secretkey.expose().to_owned(),
            session_token: (!s3.sessiontoken.is_empty())
                .then(|| s3.sessiontoken.expose().to_owned()),
        },
    };
    let endpoint = match s3.regionendpoint.as_str() {
        "" => S3Endpoint::amazon(
            &s3.region,
            Amazon {
                secure: s3.secure,
                path_style: s3.forcepathstyle,
                dual_stack: s3.usedualstack,
                accelerate: s3.accelerate,
                fips: s3.usefipsendpoint,
            },
        ),
        server => S3Endpoint::server(server, s3.secure, s3.forcepathstyle),
    };
    let encryption = match (s3.encrypt, s3.keyid.as_str()) {
        (false, _) => None,
        (true, "") => Some(S3Encryption::Store),
        (true, key) => Some(S3Encryption::Kms(key.to_owned())),
    };
    let class = s3.storageclass.to_uppercase();
    let options = S3Options {
        bucket: s3.bucket.clone(),
        region: match s3.region.as_str() {
            "" => "us-east-1".to_owned(),
            region => region.to_owned(),
        },
        endpoint,
        root: s3.rootdirectory.clone(),
        credentials,
        encryption,
        // These are what objects have anyway, and not every server knows the words.
        storage_class: (!matches!(class.as_str(), "NONE" | "STANDARD")).then_some(class),
        acl: (s3.objectacl != "private").then(|| s3.objectacl.clone()),
        part: s3.chunksize.get(),
        copying: CopyOptions {
            threshold: s3.multipartcopythresholdsize.get(),
            part: s3.multipartcopychunksize.get(),
            concurrency: count(s3.multipartcopymaxconcurrency),
        },
        retries: Retries::default(),
        log_requests: s3.logs_requests(),
    };
    let builder = match s3.skipverify {
        true => wharfinger_client::trusting_builder(),
        false => wharfinger_client::builder(wharfinger_client::authorities()),
    };
    let name = format!("{} {}", wharfinger_client::USER_AGENT, s3.useragent);
    let client = builder
        .user_agent(name.trim_end())
        .connect_timeout(CONNECTING)
        .read_timeout(SILENCE + Duration::from_secs(s3.chunksize.get() / SLOWEST))
        .build()
        .map_err(|error| unusable("storage.s3")(&wharfinger_client::cause(&error)))?;
    ObjectDriver::s3(&options, client).map_err(|error| unusable("storage.s3")(&error))
}
