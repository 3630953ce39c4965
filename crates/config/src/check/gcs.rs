//! `storage.gcs`.

use super::Checker;
use crate::section::Gcs;
use crate::size::ByteSize;

/// What parts are multiples of, as with Distribution.
const UNIT: u64 = 256 * 1024;

/// The largest part there can be.
const LARGEST_PART: ByteSize = ByteSize::mebibytes(5 * 1024);

/// What must stand in a service account's key.
const CREDENTIALS: [&str; 3] = ["type", "client_email", "private_key"];

impl Checker<'_> {
    pub(super) fn gcs(&mut self, gcs: &Gcs) {
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if gcs.bucket.is_empty() {
            self.wrong("storage.gcs.bucket", "the bucket is missing");
        } else if !gcs.bucket.chars().all(is_name) {
            let message = format!("{:?} cannot be the name of a bucket", gcs.bucket);
            self.wrong("storage.gcs.bucket", message);
        }
        self.gcs_credentials(gcs);
        self.gcs_numbers(gcs);
        // These end or change an address that a client is sent to.
        let odd = gcs.rootdirectory.contains(['#', '?', '%']);
        if odd || !super::is_folder_of_a_bucket(&gcs.rootdirectory) {
            let message = format!("{:?} cannot be a folder in a bucket", gcs.rootdirectory);
            self.wrong("storage.gcs.rootdirectory", message);
        }
        if gcs.useragent.contains(|c: char| c.is_control()) {
            let message = "a header cannot have control characters in its value";
            self.wrong("storage.gcs.useragent", message);
        }
    }

    fn gcs_credentials(&mut self, gcs: &Gcs) {
        if gcs.credentials.is_empty() {
            return;
        }
        if !gcs.keyfile.is_empty() {
            let message = "storage.gcs.keyfile is there too, and counts alone";
            self.warn("storage.gcs.credentials", message);
        }
        let has = |name: &&&str| {
            let found = gcs.credentials.get(**name);
            found.is_some_and(|value| !value.is_empty())
        };
        let missing = CREDENTIALS.iter().filter(|name| !has(name));
        let missing: Vec<&str> = missing.copied().collect();
        if !missing.is_empty() {
            let message = format!(
                "{} is missing: it must be a service account's key, as it stands in the file that \
                 Google gives",
                missing.join(", ")
            );
            self.wrong("storage.gcs.credentials", message);
        } else if gcs.credentials["type"].expose() != "service_account" {
            let message = "only the key of a service account can stand here, of the type \
                           service_account; name a file of another type by the environment \
                           variable GOOGLE_APPLICATION_CREDENTIALS";
            self.wrong("storage.gcs.credentials.type", message);
        }
    }

    fn gcs_numbers(&mut self, gcs: &Gcs) {
        let size = gcs.chunksize;
        if size.is_zero() || !size.get().is_multiple_of(UNIT) || size > LARGEST_PART {
            let message = format!("{size} is no multiple of 256KiB from 256KiB to {LARGEST_PART}");
            self.wrong("storage.gcs.chunksize", message);
        } else if size < Gcs::SMALLEST_PART {
            let message = format!(
                "{size} is less than a part can be, so that parts have {}",
                Gcs::SMALLEST_PART
            );
            self.warn("storage.gcs.chunksize", message);
        }
        if gcs.maxconcurrency < Gcs::LEAST_CONCURRENCY {
            let message = format!(
                "{} is less than there can be, and counts as {}",
                gcs.maxconcurrency,
                Gcs::LEAST_CONCURRENCY
            );
            self.warn("storage.gcs.maxconcurrency", message);
        }
    }
}
