//! `storage.s3`.

use serde::{Deserialize, Serialize};

use crate::secret::Secret;
use crate::size::ByteSize;

/// `storage.s3`: a bucket of Amazon S3, or of what speaks its protocol.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct S3 {
    /// The name of the key; without one, the process's surroundings tell who asks.
    pub accesskey: Secret,
    /// The key.
    pub secretkey: Secret,
    /// What goes with keys that end.
    pub sessiontoken: Secret,
    /// The region.
    pub region: String,
    /// The server, where it is not Amazon's.
    pub regionendpoint: String,
    /// Whether the bucket's name stands in the path, not before the host.
    pub forcepathstyle: bool,
    /// The bucket.
    pub bucket: String,
    /// The folder in the bucket below which everything is kept.
    pub rootdirectory: String,
    /// Whether the store encrypts what it keeps.
    pub encrypt: bool,
    /// The key of the key management service by which it does.
    pub keyid: String,
    /// Whether it is asked over HTTPS.
    pub secure: bool,
    /// Whether its certificate is not looked at.
    pub skipverify: bool,
    /// Whether requests are signed by version 4.
    pub v4auth: bool,
    /// The size of the parts of large files.
    pub chunksize: ByteSize,
    /// The size of the parts by which large files are copied.
    pub multipartcopychunksize: ByteSize,
    /// How many of them are copied at once.
    pub multipartcopymaxconcurrency: u64,
    /// Larger files are copied part by part.
    pub multipartcopythresholdsize: ByteSize,
    /// Whether a small last part goes with the one before; here there never is a small one.
    pub multipartcombinesmallpart: bool,
    /// The storage class of objects.
    pub storageclass: String,
    /// What is added to the name that the registry gives itself.
    pub useragent: String,
    /// The access list of objects.
    pub objectacl: String,
    /// Whether Amazon's servers with IPv6 addresses are asked.
    pub usedualstack: bool,
    /// Whether Amazon's servers at the edge of its network are asked.
    pub accelerate: bool,
    /// Whether Amazon's servers with validated cryptography are asked.
    pub usefipsendpoint: bool,
    /// What is logged of requests: `off`, or any of the levels of Amazon's library.
    pub loglevel: String,
}

impl Default for S3 {
    fn default() -> Self {
        Self {
            accesskey: Secret::default(),
            secretkey: Secret::default(),
            sessiontoken: Secret::default(),
            region: String::new(),
            regionendpoint: String::new(),
            forcepathstyle: false,
            bucket: String::new(),
            rootdirectory: String::new(),
            encrypt: false,
            keyid: String::new(),
            secure: true,
            skipverify: false,
            v4auth: true,
            chunksize: ByteSize::mebibytes(10),
            multipartcopychunksize: ByteSize::mebibytes(32),
            multipartcopymaxconcurrency: 100,
            multipartcopythresholdsize: ByteSize::mebibytes(32),
            multipartcombinesmallpart: true,
            storageclass: "STANDARD".to_owned(),
            useragent: String::new(),
            objectacl: "private".to_owned(),
            usedualstack: false,
            accelerate: false,
            usefipsendpoint: false,
            loglevel: "off".to_owned(),
        }
    }
}

impl S3 {
    /// Whether requests are logged: what Amazon's library calls `off` has several spellings, for
    /// YAML 1.1 takes it for `false`.
    pub fn logs_requests(&self) -> bool {
        !matches!(self.loglevel.to_lowercase().as_str(), "" | "off" | "false")
    }
}
