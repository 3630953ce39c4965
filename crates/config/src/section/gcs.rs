//! `storage.gcs`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::secret::Secret;
use crate::size::ByteSize;

/// `storage.gcs`: a bucket of Google Cloud Storage.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Gcs {
    /// The bucket.
    pub bucket: String,
    /// The file with a service account's key; without one, and without `credentials`, the process's
    /// surroundings tell who asks.
    pub keyfile: String,
    /// What stands in such a file.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub credentials: BTreeMap<String, Secret>,
    /// The folder in the bucket below which everything is kept.
    pub rootdirectory: String,
    /// The size of the parts of large files.
    pub chunksize: ByteSize,
    /// How many requests may be at work at once.
    pub maxconcurrency: i64,
    /// What is added to the name that the registry gives itself.
    pub useragent: String,
}

impl Default for Gcs {
    fn default() -> Self {
        Self {
            bucket: String::new(),
            keyfile: String::new(),
            credentials: BTreeMap::new(),
            rootdirectory: String::new(),
            chunksize: ByteSize::mebibytes(16),
            maxconcurrency: 50,
            useragent: String::new(),
        }
    }
}

impl Gcs {
    /// The least parts that the store takes, which smaller ones are made to be.
    pub const SMALLEST_PART: ByteSize = ByteSize::mebibytes(5);

    /// The least there is of `maxconcurrency`, as with Distribution.
    pub const LEAST_CONCURRENCY: i64 = 25;

    /// The size in bytes of the parts that large files are sent in.
    pub fn part(&self) -> u64 {
        self.chunksize.max(Self::SMALLEST_PART).get()
    }

    /// How many requests are at work at once.
    pub fn concurrency(&self) -> u64 {
        let number = self.maxconcurrency.max(Self::LEAST_CONCURRENCY);
        number.unsigned_abs()
    }
}
