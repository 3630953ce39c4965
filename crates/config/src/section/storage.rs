//! `storage`.

use serde::{Deserialize, Serialize};

use super::{Azure, Gcs, Parameters, S3};
use crate::duration::GoDuration;

/// Every driver that some release of Distribution has.
pub(crate) const DRIVERS: [&str; 7] = [
    "filesystem",
    "inmemory",
    "s3",
    "gcs",
    "azure",
    "oss",
    "swift",
];

/// The key of the folder of the driver `filesystem`.
pub(crate) const FOLDER: &str = "storage.filesystem.rootdirectory";

/// Where everything is kept: one driver, and what holds for any.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Storage {
    /// A folder of this machine.
    pub filesystem: Option<Filesystem>,
    /// Memory, gone when the registry stops.
    pub inmemory: Option<Parameters>,
    /// Amazon S3 and what speaks its protocol.
    pub s3: Option<S3>,
    /// Google Cloud Storage.
    pub gcs: Option<Gcs>,
    /// Azure Blob Storage.
    pub azure: Option<Azure>,
    /// Alibaba Cloud's store, in Distribution 2.x.
    pub oss: Option<Parameters>,
    /// OpenStack's store, in Distribution 2.x.
    pub swift: Option<Parameters>,
    /// The cache of descriptors.
    pub cache: Cache,
    /// Deletion.
    pub delete: Delete,
    /// What is done besides serving.
    pub maintenance: Maintenance,
    /// Sending clients to the store itself.
    pub redirect: Redirect,
    /// Looking through tags.
    pub tag: TagLookup,
}

/// `storage.filesystem`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Filesystem {
    /// The folder.
    pub rootdirectory: String,
    /// How many operations may be at work at once.
    pub maxthreads: u32,
    /// Whether small changes become durable together, by way of a journal.
    pub journal: bool,
}

impl Default for Filesystem {
    fn default() -> Self {
        Self {
            rootdirectory: "/var/lib/registry".to_owned(),
            maxthreads: 100,
            journal: true,
        }
    }
}

/// `storage.cache`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Cache {
    /// `inmemory`, `redis`, or nothing for no cache.
    pub blobdescriptor: String,
    /// The old name of `blobdescriptor`.
    pub layerinfo: String,
    /// How many descriptors are kept in memory; 0 is no limit.
    pub blobdescriptorsize: u64,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            blobdescriptor: String::new(),
            layerinfo: String::new(),
            blobdescriptorsize: 10_000,
        }
    }
}

/// `storage.delete`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Delete {
    /// Whether blobs, manifests and tags may be deleted.
    pub enabled: bool,
}

/// `storage.maintenance`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Maintenance {
    /// Removing uploads that nobody finished.
    pub uploadpurging: UploadPurging,
    /// Refusing everything that writes.
    pub readonly: ReadOnly,
    /// Removing what no manifest needs.
    pub gc: GarbageCollection,
    /// Reading all blobs, to find those that are damaged.
    pub scrub: Scrub,
}

/// `storage.maintenance.uploadpurging`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct UploadPurging {
    /// Whether they are removed.
    pub enabled: bool,
    /// How old they must be.
    pub age: GoDuration,
    /// How often they are looked for.
    pub interval: GoDuration,
    /// Whether they are only reported.
    pub dryrun: bool,
}

impl Default for UploadPurging {
    fn default() -> Self {
        Self {
            enabled: true,
            age: GoDuration::from_secs(168 * 3600),
            interval: GoDuration::from_secs(24 * 3600),
            dryrun: false,
        }
    }
}

/// `storage.maintenance.gc`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct GarbageCollection {
    /// Whether it is done while the registry serves.
    pub enabled: bool,
    /// The time between two collections, on whichever node.
    pub interval: GoDuration,
    /// How long what is not needed stays.
    pub grace: GoDuration,
    /// Whether manifests go that no tag leads to.
    pub deleteuntagged: bool,
    /// Whether it is only told what would go.
    pub dryrun: bool,
    /// How many files are read or removed in a second at the most; 0 is no limit.
    pub rate: u32,
}

impl Default for GarbageCollection {
    fn default() -> Self {
        Self {
            enabled: false,
            interval: GoDuration::from_secs(24 * 3600),
            grace: GoDuration::from_secs(3600),
            deleteuntagged: false,
            dryrun: false,
            rate: 0,
        }
    }
}

/// `storage.maintenance.scrub`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Scrub {
    /// Whether it is done while the registry serves.
    pub enabled: bool,
    /// The time between having read all of them and beginning anew, on whichever node.
    pub interval: GoDuration,
    /// How many bytes are read in a second at the most; 0 is no limit.
    pub rate: u64,
}

impl Default for Scrub {
    fn default() -> Self {
        Self {
            enabled: false,
            interval: GoDuration::from_secs(168 * 3600),
            rate: 10 << 20,
        }
    }
}

/// `storage.maintenance.readonly`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ReadOnly {
    /// Whether everything that writes is refused.
    pub enabled: bool,
}

/// `storage.redirect`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Redirect {
    /// Whether clients get everything from the registry itself.
    pub disable: bool,
}

/// `storage.tag`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TagLookup {
    /// How many tags are read at once when all must be.
    pub concurrencylimit: u32,
}
