//! A bucket of Google Cloud Storage.

use std::path::Path;

use wharfinger_config::Gcs;
use wharfinger_storage::{GcsCredentials, GcsCredentialsError, GcsOptions, ObjectDriver, Retries};

use super::super::{Unusable, count, unusable};

/// # Errors
/// The key that is wrong.
pub(super) fn bucket(gcs: &Gcs) -> Result<ObjectDriver, Unusable> {
    let (key, credentials) = credentials(gcs);
    let options = GcsOptions {
        bucket: gcs.bucket.clone(),
        endpoint: GcsOptions::emulator(),
        root: gcs.rootdirectory.clone(),
        credentials: credentials.map_err(|error| unusable(key)(&error))?,
        part: gcs.part(),
        concurrency: count(gcs.concurrency()),
        retries: Retries::default(),
    };
    let builder = wharfinger_client::builder(wharfinger_client::authorities());
    let client = super::client(builder, &gcs.useragent, options.part);
    let client = client.map_err(|error| unusable("storage.gcs")(&error))?;
    ObjectDriver::gcs(&options, client).map_err(|error| unusable("storage.gcs")(&error))
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
