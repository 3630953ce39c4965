//! A bucket of Google Cloud Storage.

use std::path::Path;

use tracing::info;
use wharfinger_config::Gcs;
use wharfinger_storage::{GcsCredentials, GcsCredentialsError, GcsOptions, ObjectDriver, Retries};

use super::super::{Unusable, count, unusable};
use super::Bucket;

/// # Errors
/// The key that is wrong.
pub(super) fn bucket(gcs: &Gcs) -> Result<Bucket, Unusable> {
    let (key, credentials) = credentials(gcs);
    let credentials = credentials.map_err(|error| unusable(key)(&error))?;
    if matches!(credentials, GcsCredentials::Instance) {
        info!(
            "the metadata service is asked for credentials, as there is neither \
             storage.gcs.keyfile nor another file of them"
        );
    }
    let endpoint = GcsOptions::emulator();
    if let Some(server) = &endpoint {
        info!(
            server,
            "STORAGE_EMULATOR_HOST names the server that is asked in place of Google's"
        );
    }
    let options = GcsOptions {
        bucket: gcs.bucket.clone(),
        endpoint,
        root: gcs.rootdirectory.clone(),
        credentials,
        part: gcs.part(),
        concurrency: count(gcs.concurrency()),
        retries: Retries::default(),
    };
    let client = super::client("storage.gcs", false, &gcs.useragent, options.part)?;
    let driver = ObjectDriver::gcs(&options, client);
    Ok(Bucket {
        driver: driver.map_err(|error| unusable("storage.gcs")(&error))?,
        name: gcs.bucket.clone(),
        kind: "bucket",
        key: "storage.gcs.bucket",
    })
}

/// The credentials, and the key that they are of.
fn credentials(gcs: &Gcs) -> (&'static str, Result<GcsCredentials, GcsCredentialsError>) {
    if !gcs.keyfile.is_empty() {
        let file = GcsCredentials::in_file(Path::new(&gcs.keyfile));
        return ("storage.gcs.keyfile", file);
    }
    if gcs.credentials.is_empty() {
        return ("storage.gcs.keyfile", GcsCredentials::found());
    }
    let values = gcs.credentials.iter();
    let values = values.map(|(name, value)| (name.as_str(), value.expose()));
    let inline = GcsCredentials::inline(&values.collect());
    ("storage.gcs.credentials", inline)
}
