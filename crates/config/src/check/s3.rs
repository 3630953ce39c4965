//! `storage.s3`.

use super::Checker;
use crate::section::S3;
use crate::size::ByteSize;

/// Below this, only the last part of an object may be.
const SMALLEST_PART: ByteSize = ByteSize::mebibytes(5);

/// The largest part there can be, and the largest object that is copied in one go.
const LARGEST_PART: ByteSize = ByteSize::mebibytes(5 * 1024);

const STORAGE_CLASSES: [&str; 7] = [
    "NONE",
    "STANDARD",
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER_IR",
];

const ACCESS_LISTS: [&str; 7] = [
    "private",
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
];

const LOG_LEVELS: [&str; 9] = [
    "",
    "off",
    "false",
    "debug",
    "debugwithsigning",
    "debugwithhttpbody",
    "debugwithrequestretries",
    "debugwithrequesterrors",
    "debugwitheventstreambody",
];

impl Checker<'_> {
    pub(super) fn s3(&mut self, s3: &S3) {
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if s3.bucket.is_empty() {
            self.wrong("storage.s3.bucket", "the bucket is missing");
        } else if !s3.bucket.chars().all(is_name) {
            let message = format!("{:?} cannot be the name of a bucket", s3.bucket);
            self.wrong("storage.s3.bucket", message);
        }
        if s3.region.is_empty() && s3.regionendpoint.is_empty() {
            let message = "the region is missing, like eu-central-1; or name a server of your own \
                           by storage.s3.regionendpoint";
            self.wrong("storage.s3.region", message);
        } else if !s3.region.chars().all(is_name) {
            let message = format!("{:?} cannot be the name of a region", s3.region);
            self.wrong("storage.s3.region", message);
        }
        self.s3_keys(s3);
        self.s3_server(s3);
        self.s3_sizes(s3);
        self.s3_objects(s3);
        if !super::is_folder_of_a_bucket(&s3.rootdirectory) {
            let message = format!("{:?} cannot be a folder in a bucket", s3.rootdirectory);
            self.wrong("storage.s3.rootdirectory", message);
        }
        if !LOG_LEVELS.contains(&s3.loglevel.to_lowercase().as_str()) {
            let levels = LOG_LEVELS[3..].join(", ");
            let message = format!("{:?} is not one of off, {levels}", s3.loglevel);
            self.wrong("storage.s3.loglevel", message);
        }
        if s3.useragent.contains(|c: char| c.is_control()) {
            let message = "a header cannot have control characters in its value";
            self.wrong("storage.s3.useragent", message);
        }
    }

    fn s3_keys(&mut self, s3: &S3) {
        match (s3.accesskey.is_empty(), s3.secretkey.is_empty()) {
            (false, true) => self.wrong(
                "storage.s3.accesskey",
                "storage.s3.secretkey is missing, which goes with it",
            ),
            (true, false) => self.wrong(
                "storage.s3.secretkey",
                "storage.s3.accesskey is missing, which goes with it",
            ),
            (true, true) if !s3.sessiontoken.is_empty() => self.wrong(
                "storage.s3.sessiontoken",
                "storage.s3.accesskey and storage.s3.secretkey are missing, which go with it",
            ),
            _ => {}
        }
        if !s3.v4auth {
            let message = "requests are signed by version 4 alone, which every server knows that is \
                           still kept up; true is right";
            self.wrong("storage.s3.v4auth", message);
        }
        if !s3.encrypt && !s3.keyid.is_empty() {
            let message = "the key has no effect without storage.s3.encrypt";
            self.warn("storage.s3.keyid", message);
        }
    }

    fn s3_server(&mut self, s3: &S3) {
        let amazons = [
            ("usedualstack", s3.usedualstack),
            ("accelerate", s3.accelerate),
            ("usefipsendpoint", s3.usefipsendpoint),
        ];
        if !s3.regionendpoint.is_empty() {
            for (key, _) in amazons.iter().filter(|(_, is_set)| *is_set) {
                let key = format!("storage.s3.{key}");
                let message = "only Amazon's servers have this, and storage.s3.regionendpoint names \
                               another";
                self.wrong(&key, message);
            }
        }
        if s3.accelerate && (s3.forcepathstyle || s3.usefipsendpoint || s3.bucket.contains('.')) {
            let message = "Amazon's servers at the edge know neither forcepathstyle nor \
                           usefipsendpoint, nor buckets with dots in their names";
            self.wrong("storage.s3.accelerate", message);
        }
        let endpoint = s3.regionendpoint.trim_end_matches('/');
        let schemes = ["http://", "https://"];
        let scheme = schemes.iter().find_map(|s| endpoint.strip_prefix(s));
        let host = scheme.unwrap_or(endpoint);
        let sane = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        if !s3.regionendpoint.is_empty() && (host.is_empty() || !host.chars().all(sane)) {
            let message = format!(
                "{:?} is no server; write it like store.example:9000 or https://store.example",
                s3.regionendpoint
            );
            self.wrong("storage.s3.regionendpoint", message);
        }
    }

    fn s3_sizes(&mut self, s3: &S3) {
        for (key, size) in [
            ("chunksize", s3.chunksize),
            ("multipartcopychunksize", s3.multipartcopychunksize),
        ] {
            if size < SMALLEST_PART || size > LARGEST_PART {
                let key = format!("storage.s3.{key}");
                let message = format!("{size} is not from {SMALLEST_PART} to {LARGEST_PART}");
                self.wrong(&key, message);
            }
        }
        if s3.multipartcopythresholdsize > LARGEST_PART {
            let size = s3.multipartcopythresholdsize;
            let message = format!("{size} is more than can be copied in one go, {LARGEST_PART}");
            self.wrong("storage.s3.multipartcopythresholdsize", message);
        }
        if s3.multipartcopymaxconcurrency == 0 {
            let message = "there must be one at least, like 100";
            self.wrong("storage.s3.multipartcopymaxconcurrency", message);
        }
    }

    fn s3_objects(&mut self, s3: &S3) {
        let class = s3.storageclass.to_uppercase();
        match class.as_str() {
            "EXPRESS_ONEZONE" | "OUTPOSTS" => {
                let message = format!(
                    "buckets of the class {class} are asked in another way, which is not built; use \
                     one of {}",
                    STORAGE_CLASSES[1..].join(", ")
                );
                self.wrong("storage.s3.storageclass", message);
            }
            class if STORAGE_CLASSES.contains(&class) => {}
            _ => {
                let message = format!(
                    "{:?} is not one of {}",
                    s3.storageclass,
                    STORAGE_CLASSES.join(", ")
                );
                self.wrong("storage.s3.storageclass", message);
            }
        }
        if !ACCESS_LISTS.contains(&s3.objectacl.as_str()) {
            let message = format!(
                "{:?} is not one of {}",
                s3.objectacl,
                ACCESS_LISTS.join(", ")
            );
            self.wrong("storage.s3.objectacl", message);
        }
    }
}
