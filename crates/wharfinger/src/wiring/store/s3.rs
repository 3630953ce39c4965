//! A bucket of Amazon S3.

use wharfinger_config::S3;
use wharfinger_storage::{
    Amazon, CopyOptions, ObjectDriver, Retries, S3Credentials, S3Encryption, S3Endpoint, S3Options,
};

use super::super::{Unusable, count, unusable};
use super::Bucket;

/// # Errors
/// The key that is wrong.
pub(super) fn bucket(s3: &S3) -> Result<Bucket, Unusable> {
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
    let client = super::client("storage.s3", s3.skipverify, &s3.useragent, options.part)?;
    let driver = ObjectDriver::s3(&options, client);
    Ok(Bucket {
        driver: driver.map_err(|error| unusable("storage.s3")(&error))?,
        name: s3.bucket.clone(),
        kind: "bucket",
        key: "storage.s3.bucket",
    })
}
