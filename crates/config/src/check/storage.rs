//! `storage`.

use super::Checker;
use crate::duration::GoDuration;
use crate::section::{DRIVERS, FOLDER, Storage};

/// The shortest time after which a collection that is done regularly may remove something.
const SHORTEST_GRACE: GoDuration = GoDuration::from_secs(60);

impl Checker<'_> {
    pub(super) fn storage(&mut self, storage: &Storage) {
        let dropped = [&storage.oss, &storage.swift];
        let named = |name: &&&str| self.tree.at(&["storage", name]).is_some();
        let drivers: Vec<&str> = DRIVERS.iter().filter(named).copied().collect();
        match drivers.as_slice() {
            [] => {
                let all = DRIVERS[..5].join(", ");
                self.wrong("storage", format!("no driver is named; there are {all}"));
            }
            [_] => {}
            several => {
                let several = several.join(" and ");
                self.wrong(
                    "storage",
                    format!("there must be one driver, but there are {several}"),
                );
            }
        }
        for (name, _) in ["oss", "swift"].iter().zip(dropped).filter(is_set) {
            let key = format!("storage.{name}");
            let message = format!("the driver {name} does not exist, as in Distribution 3");
            self.wrong(&key, message);
        }
        if let Some(s3) = &storage.s3 {
            self.s3(s3);
        }
        if let Some(azure) = &storage.azure {
            self.azure(azure, &storage.maintenance.uploadpurging);
        }
        if let Some(gcs) = &storage.gcs {
            self.gcs(gcs);
        }
        if let Some(filesystem) = &storage.filesystem
            && filesystem.rootdirectory.is_empty()
        {
            self.wrong(FOLDER, "the folder is missing");
        }
        match storage.cache.blobdescriptor.as_str() {
            "" | "inmemory" | "redis" => {}
            other => self.wrong(
                "storage.cache.blobdescriptor",
                format!("{other:?} is no cache; there are inmemory and redis"),
            ),
        }
        let collection = &storage.maintenance.gc;
        if collection.enabled && collection.interval.is_zero() {
            self.wrong(
                "storage.maintenance.gc.interval",
                "the interval must be longer than nothing, like 24h",
            );
        }
        if collection.enabled && collection.grace < SHORTEST_GRACE {
            self.wrong(
                "storage.maintenance.gc.grace",
                "the time must be at least 1m, so that a client can push a manifest after the \
                 blobs that it names; 1h is usual",
            );
        }
        let scrub = &storage.maintenance.scrub;
        if scrub.enabled && scrub.interval.is_zero() {
            self.wrong(
                "storage.maintenance.scrub.interval",
                "the interval must be longer than nothing, like 168h",
            );
        }
        let purging = &storage.maintenance.uploadpurging;
        if purging.enabled && purging.interval.is_zero() {
            self.wrong(
                "storage.maintenance.uploadpurging.interval",
                "the interval must be longer than nothing, like 24h",
            );
        }
        if purging.enabled && purging.age.is_zero() {
            self.wrong(
                "storage.maintenance.uploadpurging.age",
                "the age must be longer than nothing, like 168h, or uploads under way are lost",
            );
        }
    }
}

fn is_set<T>((_, parameters): &(&&str, &Option<T>)) -> bool {
    parameters.is_some()
}
